import type { Spending } from './budget.ts';
import { GrammarError } from './errors.ts';
import type { Lowered, Origin } from './lower.ts';
import { OP, type Positions } from './positions.ts';
import { quote } from './rules.ts';

/** A deterministic automaton with a stack of frames. */
export interface Automaton {
  readonly classOfByte: Uint8Array;
  readonly classes: number;
  readonly states: readonly State[];
  readonly edges: readonly Edge[];
  readonly start: number;
  readonly forced: number | undefined;
}

export interface State {
  /** By class of byte: an index of the automaton's edges, or NO_EDGE. */
  readonly entries: readonly number[];
  readonly isFinal: boolean;
  /** With what count of the top frame it is final. */
  readonly minimum: number;
  readonly isThinking: boolean;
}

export const NO_EDGE = -1;

export interface Edge {
  /** Where not 0: the top frame's count must be less, and is raised. */
  readonly maximum: number;
  /** Pushed, the outermost first. */
  readonly frames: readonly Frame[];
  readonly target: number;
}

export interface Frame {
  readonly returnTo: number;
  readonly count: number;
}

/** The edges of each state, each once. */
export function edgesOfStates({ states, edges }: Pick<Automaton, 'states' | 'edges'>): number[][] {
  const lastUse = new Int32Array(edges.length).fill(-1);
  return states.map(({ entries }, state) => {
    const found: number[] = [];
    for (const edge of entries) {
      if (edge === NO_EDGE || lastUse[edge] === state) continue;
      lastUse[edge] = state;
      found.push(edge);
    }
    return found;
  });
}

/** What has to be decided otherwise for the automaton to be deterministic. */
export class Demands {
  /** Units that have to be written out. */
  readonly written = new Set<Origin>();
  /** Calls whose returns have to stay within states, so that what follows is seen in time. */
  readonly followed = new Set<number>();

  get isEmpty(): boolean {
    return this.written.size + this.followed.size === 0;
  }
}

export interface Determinised extends Automaton {
  /** The calls that return to a state. */
  readonly callsOf: ReadonlyMap<number, ReadonlySet<number>>;
}

/** How often the same call may be within itself in one state. */
const MAX_RECURSION = 4;
/** When the construction ends early, because it must be repeated anyway. */
const STATES_AFTER_DEMAND = 2000;

/**
 * The subset construction, over configurations: a position, and the calls that it is within. A
 * state is the set of configurations that are possible after the same bytes. Calls that all of them
 * are within, and to which all return alike, are no part of the state: they are pushed as frames,
 * whose return state is the set of what follows these calls. So a call costs a frame where it is
 * the only possibility, and is followed beside the others where it is not.
 *
 * Throws GrammarError 'ambiguous' where calls would be followed without end.
 */
export function determinise(
  lowered: Lowered,
  followed: ReadonlySet<number>,
  demands: Demands,
  spending: Spending,
): Determinised {
  return new Construction(lowered, followed, demands, spending).run();
}

class Construction {
  readonly #lowered: Lowered;
  readonly #followed: ReadonlySet<number>;
  readonly #demands: Demands;
  readonly #spending: Spending;
  readonly #stacks = new Stacks();
  /** The configurations of each state, in order. */
  readonly #kernels: (readonly number[])[] = [];
  readonly #stateOfKernel = new Map<number | string, number>();
  readonly #edges: Edge[] = [];
  readonly #edgeIds = new Map<number | string, number>();
  readonly #callsOf = new Map<number, Set<number>>();

  constructor(
    lowered: Lowered,
    followed: ReadonlySet<number>,
    demands: Demands,
    spending: Spending,
  ) {
    this.#lowered = lowered;
    this.#followed = followed;
    this.#demands = demands;
    this.#spending = spending;
  }

  run(): Determinised {
    const { positions, start: first, forced: end, thinking } = this.#lowered;
    const classes = byteClasses(positions);
    const start = this.#stateOf([configurationOf(first, NO_CALLS, false)]);
    const forced =
      end === undefined ? undefined : this.#stateOf([configurationOf(end, NO_CALLS, false)]);
    const states: State[] = [];
    let statesAtDemand = Number.POSITIVE_INFINITY;
    while (states.length < this.#kernels.length) {
      if (this.#demands.isEmpty) statesAtDemand = states.length;
      else if (states.length > statesAtDemand + STATES_AFTER_DEMAND) break;
      const kernel = this.#kernels[states.length]!;
      const { items, isFinal, minimum } = this.#close(kernel);
      const isThinking = kernel.some(
        (at) => stackOf(at) === NO_CALLS && thinking[0] <= at && at < thinking[1],
      );
      const entries = this.#entries(items, this.#stacks.base(kernel[0]!), classes);
      states.push({ entries, isFinal, minimum, isThinking });
    }
    const { classOfByte, classes: count } = classes;
    const [edges, callsOf] = [this.#edges, this.#callsOf];
    return { classOfByte, classes: count, states, edges, start, forced, callsOf };
  }

  #stateOf(kernel: readonly number[]): number {
    this.#spending.spend(4 * kernel.length);
    const key = kernel.length === 1 ? kernel[0]! : kernel.join();
    let state = this.#stateOfKernel.get(key);
    if (state === undefined) {
      state = this.#kernels.push(kernel) - 1;
      this.#stateOfKernel.set(key, state);
      this.#spending.hold('states', state);
      this.#demandCountsOnTop(kernel);
    }
    return state;
  }

  #isCounted(unit: number): boolean {
    return this.#lowered.units[unit]?.maximum !== undefined;
  }

  /** The count of a counted repeat is in the top frame: nothing else may be possible beside it. */
  #demandCountsOnTop(kernel: readonly number[]): void {
    const { positions, origins } = this.#lowered;
    const bases = new Set<number>();
    for (const configuration of kernel) {
      let base = positions.unit[positionOf(configuration)]!;
      let stack = stackOf(configuration);
      for (; stack !== NO_CALLS; stack = this.#stacks.rest(stack)) {
        const call = this.#stacks.top(stack);
        const unit = positions.argument[call]!;
        if (this.#isCounted(unit)) this.#demands.written.add(origins[unit]!);
        base = positions.unit[call]!;
      }
      bases.add(base);
    }
    if (bases.size === 1) return;
    for (const unit of bases) {
      if (this.#isCounted(unit)) this.#demands.written.add(origins[unit]!);
    }
  }

  /** Everything that a kernel's configurations can do without a byte. */
  #close(kernel: readonly number[]): {
    /** Configurations that take a byte. */
    readonly items: readonly number[];
    readonly isFinal: boolean;
    readonly minimum: number;
  } {
    const { positions, units, origins } = this.#lowered;
    const { op, argument, next, targets } = positions;
    const stacks = this.#stacks;
    const items: number[] = [];
    const seen = new Set<number>(kernel);
    const pending = [...kernel];
    const add = (configuration: number): void => {
      if (seen.has(configuration)) return;
      seen.add(configuration);
      pending.push(configuration);
    };
    let isFinal = false;
    let minimum = 0;
    for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
      const position = positionOf(at);
      switch (op[position]) {
        case OP.BYTE:
          items.push(at);
          break;
        case OP.SPLIT:
          for (const target of targets[position]!) add(at - position + target);
          break;
        case OP.TICK:
          // Within a call that was entered just now, the first repetition was not counted yet.
          if (stackOf(at) === NO_CALLS) add(configurationOf(next[position]!, NO_CALLS, true));
          break;
        case OP.ACCEPT:
          if (stackOf(at) === NO_CALLS) {
            isFinal = true;
            minimum = Math.max(minimum, argument[position]!);
          } else {
            const call = stacks.top(stackOf(at));
            add(configurationOf(next[call]!, stacks.rest(stackOf(at)), isTicked(at)));
          }
          break;
        case OP.CALL: {
          const unit = argument[position]!;
          const isLast = op[next[position]!] === OP.ACCEPT && !this.#isCounted(unit);
          const stack = isLast ? stackOf(at) : stacks.push(position, stackOf(at));
          if (stacks.recursion(stack) > MAX_RECURSION) throw ambiguous(origins[unit]!);
          add(configurationOf(units[unit]!.start, stack, isTicked(at)));
          break;
        }
      }
    }
    this.#spending.spend(2 * seen.size);
    return { items, isFinal, minimum };
  }

  /** What a state does on each class of bytes. `base`: a position in the unit of its top frame. */
  #entries(
    items: readonly number[],
    base: number,
    { classes, classesOfSet }: ByteClasses,
  ): readonly number[] {
    const { argument } = this.#lowered.positions;
    // Classes on which the same items go on are found together, item by item: each group of them is
    // the one it was cut from and an item.
    const groups = [{ item: -1, rest: -1, cutBy: -1, cut: 0 }];
    const groupOf = new Int32Array(classes);
    for (const item of items) {
      const classesOfItem = classesOfSet[argument[positionOf(item)]!]!;
      this.#spending.spend(1 + (classesOfItem.length >> 3));
      for (const byteClass of classesOfItem) {
        const group = groups[groupOf[byteClass]!]!;
        if (group.cutBy !== item) {
          group.cutBy = item;
          group.cut = groups.push({ item, rest: groupOf[byteClass]!, cutBy: -1, cut: 0 }) - 1;
        }
        groupOf[byteClass] = group.cut;
      }
    }
    const edgeOfGroup = new Map<number, number>([[0, NO_EDGE]]);
    const entries: number[] = [];
    for (let byteClass = 0; byteClass < classes; byteClass++) {
      const group = groupOf[byteClass]!;
      let edge = edgeOfGroup.get(group);
      if (edge === undefined) {
        const together: number[] = [];
        for (let at = group; at > 0; at = groups[at]!.rest) together.push(groups[at]!.item);
        edge = this.#edge(together, base);
        edgeOfGroup.set(group, edge);
      }
      entries.push(edge);
    }
    return entries;
  }

  /** The edge on a byte with which these items go on, and no others. */
  #edge(items: readonly number[], base: number): number {
    const { positions, units, origins } = this.#lowered;
    this.#spending.spend(4 * items.length);
    const after = items
      .map((item) => this.#settle(positions.next[positionOf(item)]!, stackOf(item)))
      .filter((configuration) => !positions.isDead(positionOf(configuration)));
    if (after.length === 0) return NO_EDGE;
    const ticks = items.filter(isTicked).length;
    const unit = positions.unit[base]!;
    if (ticks > 0 && ticks < items.length) this.#demands.written.add(origins[unit]!);
    const maximum = ticks > 0 ? (units[unit]?.maximum ?? 0) : 0;
    const frames: Frame[] = [];
    const target = this.#stateOf(this.#takeOffCalls(inOrder(after), frames));
    const isPlain = maximum === 0 && frames.length === 0;
    const key = isPlain
      ? target
      : `${maximum} ${target} ${frames.map(({ returnTo, count }) => `${returnTo}.${count}`)}`;
    let edge = this.#edgeIds.get(key);
    if (edge === undefined) {
      edge = this.#edges.push({ maximum, frames, target }) - 1;
      this.#edgeIds.set(key, edge);
    }
    return edge;
  }

  /** After a byte: where nothing is left to do in a call, it has returned. */
  #settle(position: number, stack: number): number {
    const { op, next } = this.#lowered.positions;
    let [at, within] = [position, stack];
    while (within !== NO_CALLS && op[at] === OP.ACCEPT) {
      at = next[this.#stacks.top(within)]!;
      within = this.#stacks.rest(within);
    }
    return configurationOf(at, within, false);
  }

  /** Takes off the calls that all are within, outermost first into `frames`; gives what is left. */
  #takeOffCalls(kernel: readonly number[], frames: Frame[]): readonly number[] {
    const { argument, next } = this.#lowered.positions;
    const stacks = this.#stacks;
    const cut = stacks.commonCalls(kernel, this.#followed, this.#spending);
    if (cut === undefined) return kernel;
    const calls = cut.calls.map((stack) => stacks.top(stack));
    const after = cut.calls.map((stack) =>
      this.#settle(next[stacks.top(stack)]!, stacks.rest(stack)),
    );
    const returnTo = this.#stateOf(this.#takeOffCalls(inOrder(after), frames));
    frames.push({ returnTo, count: this.#isCounted(argument[calls[0]!]!) ? 1 : 0 });
    const known = this.#callsOf.get(returnTo) ?? new Set();
    for (const call of calls) known.add(call);
    this.#callsOf.set(returnTo, known);
    return cut.within;
  }
}

function ambiguous(origin: Origin): GrammarError {
  const what = typeof origin === 'string' ? `rule ${quote(origin)}` : 'a repeat';
  return new GrammarError(
    'ambiguous',
    `${what} recurs beside another alternative that begins alike without end: ` +
      'make the alternatives differ in how they begin',
  );
}

/**
 * A configuration in one number: a position, the stack of calls that it is within, and whether the
 * repeat of the top frame counts one more with the next byte.
 */
const POSITIONS = 2 ** 24;
const NO_CALLS = 0;

function configurationOf(position: number, stack: number, ticked: boolean): number {
  return (stack * 2 + (ticked ? 1 : 0)) * POSITIONS + position;
}

function positionOf(configuration: number): number {
  return configuration < POSITIONS ? configuration : configuration % POSITIONS;
}

function stackOf(configuration: number): number {
  return configuration < POSITIONS ? NO_CALLS : Math.floor(configuration / (2 * POSITIONS));
}

function isTicked(configuration: number): boolean {
  return configuration >= POSITIONS && Math.floor(configuration / POSITIONS) % 2 === 1;
}

function inOrder(configurations: readonly number[]): number[] {
  if (configurations.length === 1) return [...configurations];
  return [...new Set(configurations)].sort((a, b) => a - b);
}

/** Stacks of calls (positions), each known by a number; NO_CALLS is the empty one. */
class Stacks {
  readonly #top = [-1];
  readonly #rest = [NO_CALLS];
  readonly #depth = [0];
  readonly #recursion = [0];
  readonly #known = new Map<number, number>();

  push(call: number, rest: number): number {
    const key = rest * POSITIONS + call;
    let stack = this.#known.get(key);
    if (stack === undefined) {
      stack = this.#top.push(call) - 1;
      this.#rest.push(rest);
      this.#depth.push(this.depth(rest) + 1);
      let recursion = 1;
      for (let at = rest; at !== NO_CALLS; at = this.rest(at)) {
        if (this.top(at) === call) recursion += 1;
      }
      this.#recursion.push(recursion);
      this.#known.set(key, stack);
    }
    return stack;
  }

  top(stack: number): number {
    return this.#top[stack]!;
  }

  rest(stack: number): number {
    return this.#rest[stack]!;
  }

  depth(stack: number): number {
    return this.#depth[stack]!;
  }

  /** How often the call on top is in it. */
  recursion(stack: number): number {
    return this.#recursion[stack]!;
  }

  /** A position in the unit whose frame is on top when a state has this configuration. */
  base(configuration: number): number {
    let position = positionOf(configuration);
    for (let at = stackOf(configuration); at !== NO_CALLS; at = this.rest(at)) {
      position = this.top(at);
    }
    return position;
  }

  /**
   * Stacks `calls` and configurations `within` of which the kernel is the product: each of `within`
   * is within each of `calls`. The longest calls with which this is so, and that may be taken off.
   */
  commonCalls(
    kernel: readonly number[],
    followed: ReadonlySet<number>,
    spending: Spending,
  ): { readonly calls: readonly number[]; readonly within: readonly number[] } | undefined {
    let shallowest = kernel[0]!;
    for (const configuration of kernel) {
      if (this.depth(stackOf(configuration)) < this.depth(stackOf(shallowest))) {
        shallowest = configuration;
      }
    }
    const members = new Set(kernel);
    let below = stackOf(shallowest);
    for (let above = 0; below !== NO_CALLS; above++, below = this.rest(below)) {
      spending.spend(2 * kernel.length * this.depth(stackOf(shallowest)));
      const within: number[] = [];
      for (const configuration of kernel) {
        const stack = this.#above(stackOf(configuration), below);
        if (stack !== undefined) {
          within.push(configurationOf(positionOf(configuration), stack, false));
        }
      }
      const inner = configurationOf(
        positionOf(shallowest),
        this.#above(stackOf(shallowest), below)!,
        false,
      );
      const product = this.#callsAround(inner, above, kernel);
      for (const calls of [product, [below]]) {
        if (calls.length * within.length !== kernel.length) continue;
        if (calls.some((stack) => followed.has(this.top(stack)))) continue;
        const isProduct = calls.every((stack) =>
          within.every((configuration) => members.has(this.#put(configuration, stack))),
        );
        if (isProduct) return { calls, within: inOrder(within) };
      }
    }
    return undefined;
  }

  /** The stacks around which the kernel has configuration `inner`, whose own has `above` calls. */
  #callsAround(inner: number, above: number, kernel: readonly number[]): number[] {
    const found: number[] = [];
    for (const configuration of kernel) {
      if (positionOf(configuration) !== positionOf(inner)) continue;
      let below = stackOf(configuration);
      for (let count = 0; count < above; count++) below = this.rest(below);
      if (below === NO_CALLS) continue;
      if (this.#put(inner, below) === configuration) found.push(below);
    }
    return found;
  }

  /** What `stack` has above `below`; undefined where it does not end with it. */
  #above(stack: number, below: number): number | undefined {
    if (stack === below) return NO_CALLS;
    if (this.depth(stack) <= this.depth(below)) return undefined;
    const rest = this.#above(this.rest(stack), below);
    return rest === undefined ? undefined : this.push(this.top(stack), rest);
  }

  /** The configuration, within `below` besides. */
  #put(configuration: number, below: number): number {
    const put = (stack: number): number =>
      stack === NO_CALLS ? below : this.push(this.top(stack), put(this.rest(stack)));
    return configurationOf(positionOf(configuration), put(stackOf(configuration)), false);
  }
}

interface ByteClasses {
  readonly classOfByte: Uint8Array;
  readonly classes: number;
  /** Of each set of bytes. */
  readonly classesOfSet: readonly (readonly number[])[];
}

/** The coarsest classes of bytes that every set is made of. */
function byteClasses({ sets }: Positions): ByteClasses {
  const classOfByte = new Uint8Array(256);
  let classes = 1;
  for (const ranges of sets) {
    const inSet = new Map<number, number>();
    const sizes = new Map<number, number>();
    for (const byteClass of classOfByte) sizes.set(byteClass, (sizes.get(byteClass) ?? 0) + 1);
    const counts = new Map<number, number>();
    const each = (act: (byte: number) => void): void => {
      for (const [first, last] of ranges) for (let byte = first; byte <= last; byte++) act(byte);
    };
    each((byte) => counts.set(classOfByte[byte]!, (counts.get(classOfByte[byte]!) ?? 0) + 1));
    each((byte) => {
      const old = classOfByte[byte]!;
      if (counts.get(old) === sizes.get(old)) return; // the whole class is in the set
      let split = inSet.get(old);
      if (split === undefined) {
        split = classes++;
        inSet.set(old, split);
      }
      classOfByte[byte] = split;
    });
  }
  const classesOfSet = sets.map((ranges) => {
    const found = new Set<number>();
    for (const [first, last] of ranges) {
      for (let byte = first; byte <= last; byte++) found.add(classOfByte[byte]!);
    }
    return [...found];
  });
  return { classOfByte, classesOfSet, classes };
}
