import { CONTROL_TOKEN_BYTE, STATE_MINIMUM } from '@bridgekeeper/device/threads';
import type { Spending } from './budget.ts';
import type { ByteAutomaton } from './byte-automaton.ts';
import { GrammarError } from './errors.ts';
import type { CodePointRange, Expression, Grammar } from './expression.ts';
import { Positions, type Unit } from './positions.ts';
import type { RuleFacts } from './rules.ts';
import { type ByteRange, mergeRanges, utf8Sequences } from './utf8.ts';

/** Of all copies of a repeat: one of more is counted at run time, if it can be. */
const UNROLLED_POSITIONS = 48;
const MAX_NESTING = 2000;
/** A control token's id has 21 bits. */
const MAX_TOKEN_ID = (1 << 21) - 1;

/** What is decided about a grammar while it is compiled: what is called, and what written out. */
export interface Choices {
  /** Rules that are called. */
  readonly callable: ReadonlySet<string>;
  /** Repeats that are not counted, whatever their size. */
  readonly unrolled: ReadonlySet<Expression>;
}

type Repeat = Extract<Expression, { kind: 'repeat' }>;

/** Where a unit came from: the name of a rule, or a counted repeat. */
export type Origin = string | Repeat;

export interface Lowered {
  readonly positions: Positions;
  readonly units: readonly Unit[];
  readonly origins: readonly Origin[];
  readonly start: number;
  readonly forced: number | undefined;
  /** Positions from the first and before the second are thinking. */
  readonly thinking: readonly [first: number, end: number];
}

/** What intersections, differences and free text are, as automata; each is made once. */
export type MakeAutomaton = (expression: Expression) => ByteAutomaton;

/** The positions of a whole grammar. Throws GrammarError. */
export function lower(
  grammar: Grammar,
  facts: RuleFacts,
  choices: Choices,
  makeAutomaton: MakeAutomaton,
  spending: Spending,
): Lowered {
  const lowering = new Lowering(facts, choices, makeAutomaton, spending);
  const { positions } = lowering;
  const root = lowering.expression(grammar.root, positions.accept(0));
  if (grammar.thinking === undefined) {
    lowering.units();
    return { ...lowering.result(), start: root, forced: undefined, thinking: [0, 0] };
  }
  // Within thinking nothing is called: a forced end leaves nothing on the stack.
  lowering.writesOut = true;
  const forced = lowering.expression(grammar.thinking.end, root);
  const first = positions.count;
  const body = lowering.expression(grammar.thinking.body, forced);
  const end = positions.count;
  const { begin } = grammar.thinking;
  const start = begin === undefined ? body : lowering.expression(begin, body);
  lowering.writesOut = false;
  lowering.units();
  return { ...lowering.result(), start, forced, thinking: [first, end] };
}

/** The positions of an expression in which nothing recurs: all is written out. */
export function lowerRegular(
  expression: Expression,
  facts: RuleFacts,
  makeAutomaton: MakeAutomaton,
  spending: Spending,
): Lowered {
  const choices = { callable: new Set<string>(), unrolled: new Set<Expression>() };
  const lowering = new Lowering(facts, choices, makeAutomaton, spending);
  lowering.writesOut = true;
  const start = lowering.expression(expression, lowering.positions.accept(0));
  return { ...lowering.result(), start, forced: undefined, thinking: [0, 0] };
}

class Lowering {
  readonly positions: Positions;
  /** Calls nothing and counts nothing. */
  writesOut = false;
  readonly #facts: RuleFacts;
  readonly #choices: Choices;
  readonly #makeAutomaton: MakeAutomaton;
  readonly #spending: Spending;
  readonly #units: { start: number; maximum: number | undefined }[] = [];
  readonly #origins: Origin[] = [];
  readonly #unitOf = new Map<Origin, number>();
  readonly #known = new Map<Expression, Map<number, number>>();
  readonly #utf8 = new Map<readonly CodePointRange[], readonly ByteRange[][]>();
  #depth = 0;

  constructor(
    facts: RuleFacts,
    choices: Choices,
    makeAutomaton: MakeAutomaton,
    spending: Spending,
  ) {
    this.#facts = facts;
    this.#choices = choices;
    this.#makeAutomaton = makeAutomaton;
    this.#spending = spending;
    this.positions = new Positions(spending);
  }

  result(): Pick<Lowered, 'positions' | 'units' | 'origins'> {
    return { positions: this.positions, units: this.#units, origins: this.#origins };
  }

  /** The bodies of all units that were called, and of those that they call. */
  units(): void {
    for (const [at, origin] of this.#origins.entries()) {
      const unit = this.#units[at];
      if (unit === undefined) continue;
      this.positions.currentUnit = at;
      unit.start =
        typeof origin === 'string'
          ? this.expression(this.#facts.bodyOf(origin), this.positions.accept(0))
          : this.#counted(origin);
    }
  }

  /** The position from which `of` is followed, and then `next`. */
  expression(of: Expression, next: number): number {
    let known = this.#known.get(of);
    if (known === undefined) {
      known = new Map();
      this.#known.set(of, known);
    }
    let position = known.get(next);
    if (position === undefined) {
      this.#depth += 1;
      if (this.#depth > MAX_NESTING) {
        throw new GrammarError('too-large', `the grammar nests deeper than ${MAX_NESTING}`);
      }
      position = this.#inner(of, next);
      this.#depth -= 1;
      known.set(next, position);
    }
    return position;
  }

  #inner(of: Expression, next: number): number {
    const { positions } = this;
    switch (of.kind) {
      case 'text':
        return this.#text(of.text, next);
      case 'character':
        return this.#character(of.ranges, next);
      case 'token':
        return this.#token(of.id, next);
      case 'sequence': {
        let position = next;
        for (let at = of.parts.length - 1; at >= 0; at--) {
          position = this.expression(of.parts[at]!, position);
        }
        return position;
      }
      case 'choice':
        return positions.split(of.options.map((option) => this.expression(option, next)));
      case 'repeat':
        return this.#repeat(of, next);
      case 'rule': {
        const isCalled = !this.writesOut && this.#choices.callable.has(of.name);
        if (isCalled) return positions.call(this.#unit(of.name, undefined), next);
        return this.expression(this.#facts.bodyOf(of.name), next);
      }
      case 'intersection':
      case 'difference':
      case 'free':
        return this.#automaton(this.#makeAutomaton(of), next);
    }
  }

  #unit(origin: Origin, maximum: number | undefined): number {
    let unit = this.#unitOf.get(origin);
    if (unit === undefined) {
      unit = this.#units.push({ start: 0, maximum }) - 1;
      this.#origins.push(origin);
      this.#unitOf.set(origin, unit);
    }
    return unit;
  }

  #text(text: string, next: number): number {
    if (!text.isWellFormed()) {
      throw new GrammarError('unsupported', 'half a surrogate pair, which occurs in no text');
    }
    let position = next;
    for (const byte of new TextEncoder().encode(text).reverse()) {
      position = this.positions.byte([[byte, byte]], position);
    }
    return position;
  }

  #token(id: number, next: number): number {
    if (!Number.isInteger(id) || id < 0 || id > MAX_TOKEN_ID) {
      throw new GrammarError('unsupported', `token id ${id} is not in [0, ${MAX_TOKEN_ID}]`);
    }
    const bytes = [CONTROL_TOKEN_BYTE, (id >> 14) & 127, (id >> 7) & 127, id & 127];
    return bytes.reduceRight((after, byte) => this.positions.byte([[byte, byte]], after), next);
  }

  #character(ranges: readonly CodePointRange[], next: number): number {
    let sequences = this.#utf8.get(ranges);
    if (sequences === undefined) {
      sequences = utf8Sequences(ranges);
      this.#utf8.set(ranges, sequences);
    }
    return this.#sequences(sequences, 0, next);
  }

  /** Sequences that agree on what comes before byte `at`. */
  #sequences(sequences: readonly ByteRange[][], at: number, next: number): number {
    const byLead = new Map<string, ByteRange[][]>();
    for (const sequence of sequences) {
      const lead = String(sequence[at]);
      const sharing = byLead.get(lead);
      if (sharing === undefined) byLead.set(lead, [sequence]);
      else sharing.push(sequence);
    }
    const leadsTo = new Map<number, ByteRange[]>();
    for (const sharing of byLead.values()) {
      const [sequence] = sharing;
      const lead = sequence?.[at];
      if (sequence === undefined || lead === undefined) continue;
      const isLast = sequence.length === at + 1;
      const after = isLast ? next : this.#sequences(sharing, at + 1, next);
      const leads = leadsTo.get(after);
      if (leads === undefined) leadsTo.set(after, [lead]);
      else leads.push(lead);
    }
    return this.positions.split(
      [...leadsTo].map(([after, leads]) => this.positions.byte(mergeRanges(leads), after)),
    );
  }

  #repeat(of: Repeat, next: number): number {
    const { positions } = this;
    const { body, min, max } = of;
    const copies = max ?? min;
    if (!Number.isInteger(copies) || !Number.isInteger(min) || min < 0) {
      throw new GrammarError('unsupported', `a repeat from ${min} to ${max}`);
    }
    if (copies < min) return positions.split([]);
    const size = copies * Math.max(1, this.#facts.sizeOf(body));
    const isCounted =
      !this.writesOut &&
      copies > 1 &&
      size > UNROLLED_POSITIONS &&
      min <= STATE_MINIMUM &&
      !this.#choices.unrolled.has(of);
    if (isCounted) return positions.call(this.#unit(of, max ?? 0xffffffff), next);

    if (this.#facts.sizeOf(body) > 0) this.#spending.hold('positions', positions.count + copies);
    let position = next;
    if (max === undefined) {
      position = positions.reserve();
      positions.complete(position, [this.expression(body, position), next]);
    }
    for (let count = copies; count > 0; count--) {
      const longer = this.expression(body, position);
      const isEnough = count > min;
      const after = isEnough ? positions.split([longer, next]) : longer;
      if (after === position) break; // a body that takes nothing
      position = after;
    }
    return position;
  }

  /**
   * The unit of a counted repeat. The frame's count is one when it is entered by the first byte of
   * the body; from the end of the body it may be entered again, which counts, or the unit ends.
   */
  #counted({ body, min }: Repeat): number {
    const { positions } = this;
    const isNullable = min === 0 || this.#facts.isNullable(body);
    const between = positions.reserve();
    const first = this.expression(body, between);
    const end = positions.accept(isNullable ? 0 : min);
    positions.complete(between, [positions.tick(first), end]);
    return isNullable ? positions.split([first, positions.accept(0)]) : first;
  }

  #automaton(automaton: ByteAutomaton, next: number): number {
    const { positions } = this;
    const entries = Array.from(automaton.isFinal, () => positions.reserve());
    for (const [state, entry] of entries.entries()) {
      const rangesTo = automaton.rangesFrom(state);
      const targets = [...rangesTo].map(([to, ranges]) => positions.byte(ranges, entries[to]!));
      if (automaton.isFinal[state] === 1) targets.push(next);
      positions.complete(entry, targets);
    }
    return entries[automaton.start] ?? positions.split([]);
  }
}
