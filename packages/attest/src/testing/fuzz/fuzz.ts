import { type Bytes, concatBytes, equalBytes } from '../../core/bytes.ts';
import { AttestError } from '../../core/errors.ts';

/** What came of feeding mutated inputs to a parser. */
export interface FuzzReport {
  readonly tried: number;
  /** Inputs that were read without an error. */
  readonly read: number;
  /** Inputs that were refused, by the error's code. */
  readonly refused: Readonly<Record<string, number>>;
}

/** What a parser under `fuzz` throws where a mutation was taken for the genuine thing. */
export class WronglyAccepted extends Error {
  override readonly name = 'WronglyAccepted';
}

/** A parser threw something else than AttestError, or accepted what it must not. */
export class FuzzError extends Error {
  override readonly name = 'FuzzError';
  /** What to feed to the parser to see it again. */
  readonly input: Bytes;

  constructor(message: string, input: Bytes, options?: ErrorOptions) {
    super(message, options);
    this.input = input;
  }
}

/** 32 bits at a time, the same for the same seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}

/**
 * Feeds `count` mutations of the base inputs to `parse`, which may only return or throw an
 * AttestError; `parse` itself throws WronglyAccepted if something was accepted that must not be.
 * Throws FuzzError with the input at fault; the same seed gives the same inputs. `before` is told
 * the number of each input before it is made.
 */
export async function fuzz(
  seed: number,
  count: number,
  bases: readonly Bytes[],
  parse: (input: Bytes) => unknown,
  before?: (index: number) => void,
): Promise<FuzzReport> {
  const random = randomFrom(seed);
  const refused: Record<string, number> = {};
  let read = 0;
  for (let i = 0; i < count; i++) {
    before?.(i);
    const input = mutate(random, bases);
    try {
      // Most parsers are not asynchronous, and a turn of the event loop costs more than they do.
      const result = parse(input);
      if (result instanceof Promise) await result;
      read++;
    } catch (cause) {
      if (!(cause instanceof AttestError)) {
        const message = `seed ${seed}, input ${i}: ${String(cause)}`;
        throw new FuzzError(message, input, { cause });
      }
      refused[cause.code] = (refused[cause.code] ?? 0) + 1;
    }
  }
  return { tried: count, read, refused };
}

type Random = () => number;
type Mutation = (random: Random, input: Bytes, bases: readonly Bytes[]) => Bytes;

const MUTATIONS: readonly Mutation[] = [
  flipBit,
  flipBit,
  setByte,
  truncate,
  insert,
  remove,
  repeat,
  splice,
  nudgeLength,
  nudgeLength,
];

/** An input that differs from its base: one to four mutations, more often few. */
function mutate(random: Random, bases: readonly Bytes[]): Bytes {
  const base = pick(random, bases);
  let input = base;
  do {
    const rounds = 1 + Math.min(random() % 4, random() % 4);
    for (let round = 0; round < rounds; round++) {
      input = pick(random, MUTATIONS)(random, input, bases);
    }
  } while (equalBytes(input, base));
  return input;
}

function pick<T>(random: Random, items: readonly T[]): T {
  return items[random() % items.length]!;
}

function place(random: Random, input: Bytes): number {
  return input.length === 0 ? 0 : random() % input.length;
}

function flipBit(random: Random, input: Bytes): Bytes {
  const changed = input.slice();
  const at = place(random, changed);
  if (at < changed.length) changed[at]! ^= 1 << (random() % 8);
  return changed;
}

const TELLING = [0, 1, 0x7f, 0x80, 0xff, 0x30, 0x55, 0xaa];

function setByte(random: Random, input: Bytes): Bytes {
  const changed = input.slice();
  if (changed.length > 0) changed[place(random, changed)] = pick(random, TELLING);
  return changed;
}

function truncate(random: Random, input: Bytes): Bytes {
  return input.slice(0, place(random, input));
}

function insert(random: Random, input: Bytes): Bytes {
  const at = place(random, input);
  const added = new Uint8Array(1 + (random() % 8)).map(() => random() & 0xff);
  return concatBytes(input.subarray(0, at), added, input.subarray(at));
}

function remove(random: Random, input: Bytes): Bytes {
  const at = place(random, input);
  return concatBytes(input.subarray(0, at), input.subarray(at + 1 + (random() % 16)));
}

/** A part once more, at its end: what is singular is there twice. */
function repeat(random: Random, input: Bytes): Bytes {
  const at = place(random, input);
  const end = at + 1 + (random() % 64);
  return concatBytes(input.subarray(0, end), input.subarray(at));
}

/** The head of one input and the tail of another. */
function splice(random: Random, input: Bytes, bases: readonly Bytes[]): Bytes {
  const other = pick(random, bases);
  return concatBytes(input.subarray(0, place(random, input)), other.subarray(place(random, other)));
}

/** One up or down, or to an end: what lengths and counts are sensitive to. */
function nudgeLength(random: Random, input: Bytes): Bytes {
  const changed = input.slice();
  const at = place(random, changed);
  if (at < changed.length) changed[at] = changed[at]! + pick(random, [1, 255, 2, 254, 128]);
  return changed;
}
