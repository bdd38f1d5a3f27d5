import {
  type Automaton,
  type AutomatonState,
  type Edge,
  encodeAutomaton,
} from '@bridgekeeper/device';
import type { CompiledGrammar } from '@bridgekeeper/engine';

/**
 * JSON values without end, one a line, so that no answer is complete before its last token. `flat`:
 * objects of strings, numbers and literals, for which the host can keep a mask of each state;
 * `nested`: any values in any depth.
 */
export function jsonLines(shape: 'flat' | 'nested', number: number): CompiledGrammar {
  const words = encodeAutomaton(shape === 'flat' ? flatLines() : nestedLines());
  return { digest: `json lines, ${shape}, ${number}`, words };
}

/** States while they are made: edges are added as their targets become known. */
class Builder {
  readonly states: { edges: Map<number, Edge>; isFinal: boolean }[] = [];

  state(isFinal = false): number {
    return this.states.push({ edges: new Map(), isFinal }) - 1;
  }

  edge(from: number, first: number | string, to: number, last = first, returnTo?: number): void {
    const codeOf = (byte: number | string) =>
      typeof byte === 'string' ? byte.charCodeAt(0) : byte;
    const frames = returnTo === undefined ? [] : [{ state: returnTo, count: 0 }];
    for (let byte = codeOf(first); byte <= codeOf(last); byte++) {
      this.states[from]!.edges.set(byte, { target: to, maximum: 0, frames });
    }
  }

  /** Everything that can follow `to` can also follow `from`. */
  continueAs(from: number, to: number): void {
    const { edges, isFinal } = this.states[to]!;
    for (const [byte, edge] of edges) this.states[from]!.edges.set(byte, edge);
    this.states[from]!.isFinal ||= isFinal;
  }

  word(from: number, text: string, to: number): void {
    let at = from;
    [...text].forEach((character, index) => {
      const next = index === text.length - 1 ? to : this.state();
      this.edge(at, character, next);
      at = next;
    });
  }

  /** Behind an opening quotation mark: characters in UTF-8 and escapes up to the closing one. */
  string(after: number): number {
    const body = this.state();
    this.edge(body, 0x20, body, 0x7f);
    this.edge(body, '"', after);
    const [one, two, three] = [this.state(), this.state(), this.state()];
    this.edge(one, 0x80, body, 0xbf);
    this.edge(two, 0x80, one, 0xbf);
    this.edge(three, 0x80, two, 0xbf);
    this.edge(body, 0xc2, one, 0xdf);
    this.edge(body, 0xe1, two, 0xef);
    this.edge(body, 0xf1, three, 0xf3);
    const limited = [
      [0xe0, 0xa0, 0xbf, one],
      [0xed, 0x80, 0x9f, one],
      [0xf0, 0x90, 0xbf, two],
      [0xf4, 0x80, 0x8f, two],
    ] as const;
    for (const [lead, first, last, to] of limited) {
      const next = this.state();
      this.edge(body, lead, next);
      this.edge(next, first, to, last);
    }
    const escaped = this.state();
    this.edge(body, '\\', escaped);
    for (const character of '"\\/bfnrt') this.edge(escaped, character, body);
    let hex = this.state();
    this.edge(escaped, 'u', hex);
    for (let digit = 0; digit < 4; digit++) {
      const next = digit === 3 ? body : this.state();
      this.edge(hex, '0', next, '9');
      this.edge(hex, 'a', next, 'f');
      this.edge(hex, 'A', next, 'F');
      hex = next;
    }
    return body;
  }

  /** Strings, numbers and literals from `from` on. */
  scalars(from: number, after: number): void {
    this.edge(from, '"', this.string(after));
    const [minus, zero, whole, point, fraction] = [0, 1, 2, 3, 4].map(() => this.state());
    this.edge(from, '-', minus!);
    for (const start of [from, minus!]) {
      this.edge(start, '0', zero!);
      this.edge(start, '1', whole!, '9');
    }
    for (const end of [zero!, whole!, fraction!]) this.continueAs(end, after);
    this.edge(whole!, '0', whole!, '9');
    for (const end of [zero!, whole!]) this.edge(end, '.', point!);
    for (const digits of [point!, fraction!]) this.edge(digits, '0', fraction!, '9');
    for (const literal of ['true', 'false', 'null']) this.word(from, literal, after);
  }

  build(start: number): Automaton {
    const states = this.states.map(
      ({ edges, isFinal }): AutomatonState => ({ edges, isFinal, minimum: 0, isThinking: false }),
    );
    return { states, start, forced: null };
  }
}

function flatLines(): Automaton {
  const builder = new Builder();
  const [line, open, colon, value, more, key] = Array.from({ length: 6 }, () => builder.state());
  const end = builder.state();
  builder.edge(line!, '{', open!);
  builder.edge(open!, '"', builder.string(colon!));
  builder.edge(colon!, ':', value!);
  builder.edge(more!, ',', key!);
  builder.continueAs(key!, open!);
  builder.edge(more!, '}', end);
  builder.edge(end, '\n', line!);
  builder.scalars(value!, more!);
  return builder.build(line!);
}

function nestedLines(): Automaton {
  const builder = new Builder();
  const state = () => builder.state();
  const [line, lineEnd, value] = [state(), state(), state()];
  const end = builder.state(true);
  builder.scalars(value, end);
  const [array, item, afterItem] = [state(), state(), state()];
  const [object, colon, member, afterMember, key] = [state(), state(), state(), state(), state()];
  builder.edge(value, '[', array);
  builder.edge(value, '{', object);
  builder.edge(array, ']', end);
  builder.edge(afterItem, ',', item);
  builder.edge(afterItem, ']', end);
  builder.edge(object, '}', end);
  builder.edge(object, '"', builder.string(colon));
  builder.edge(colon, ':', member);
  builder.edge(afterMember, ',', key);
  builder.edge(afterMember, '}', end);
  builder.edge(key, '"', builder.string(colon));
  builder.edge(lineEnd, '\n', line);
  const calls = [
    [line, lineEnd],
    [array, afterItem],
    [item, afterItem],
    [member, afterMember],
  ] as const;
  for (const [from, returnTo] of calls) {
    for (const [byte, { target }] of builder.states[value]!.edges) {
      builder.edge(from, byte, target, byte, returnTo);
    }
  }
  return builder.build(line);
}
