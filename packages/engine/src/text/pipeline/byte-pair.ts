import { type ConfigReader, show } from '../../models/config-reader.ts';
import { MAX_TOKENS, type TokenModel, type Vocabulary, vocabularyOf } from './vocabulary.ts';

/** Pairs of tokens that become one, the earlier in the list the sooner. */
class Merges {
  readonly #ranks = new Map<number, number>();
  readonly #merged: number[] = [];

  add(left: number, right: number, merged: number): void {
    this.#ranks.set(left * MAX_TOKENS + right, this.#merged.length);
    this.#merged.push(merged);
  }

  /** Undefined: this pair does not become one. */
  rankOf(left: number, right: number): number | undefined {
    return this.#ranks.get(left * MAX_TOKENS + right);
  }

  mergedOf(rank: number): number {
    return this.#merged[rank]!;
  }
}

/** A heap of numbers, the least first. */
class LeastFirst {
  readonly #heap: number[] = [];

  push(value: number): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(value);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]! <= value) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = value;
  }

  pop(): number | undefined {
    const heap = this.#heap;
    const least = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return least;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child += 1;
      if (heap[child]! >= last) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return least;
  }
}

/** A rank and a place in one number, which orders like the two. */
const PLACES = 2 ** 31;

/** Joins pairs by rank, and of one rank from the left, until none is left to join. */
function mergeAll(ids: number[], merges: Merges): number[] {
  const { length } = ids;
  const next = Int32Array.from({ length }, (_, at) => at + 1);
  const previous = Int32Array.from({ length }, (_, at) => at - 1);
  const queue = new LeastFirst();
  const consider = (at: number) => {
    const after = at < 0 ? length : next[at]!;
    if (after >= length) return;
    const rank = merges.rankOf(ids[at]!, ids[after]!);
    if (rank !== undefined) queue.push(rank * PLACES + at);
  };
  for (let at = 0; at < length - 1; at++) consider(at);
  for (let best = queue.pop(); best !== undefined; best = queue.pop()) {
    const at = best % PLACES;
    const rank = (best - at) / PLACES;
    const after = next[at]!;
    // What stood here when this was queued may have become part of something else.
    if (ids[at] === GONE || after >= length || merges.rankOf(ids[at]!, ids[after]!) !== rank) {
      continue;
    }
    ids[at] = merges.mergedOf(rank);
    ids[after] = GONE;
    next[at] = next[after]!;
    if (next[at]! < length) previous[next[at]!] = at;
    consider(previous[at]!);
    consider(at);
  }
  return ids.filter((id) => id !== GONE);
}

const GONE = -1;

/** Pieces repeat: words, mostly. */
const CACHED_PIECES = 10_000;
const CACHED_LENGTH = 64;

interface Options {
  readonly prefix: string;
  readonly suffix: string;
  readonly unknown: number | undefined;
  readonly fusesUnknown: boolean;
  readonly fallsBackToBytes: boolean;
}

/** A token for each character, before anything is merged. */
function charactersOf(piece: string, vocabulary: Vocabulary, options: Options): number[] {
  const { prefix, suffix, unknown } = options;
  const ids: number[] = [];
  let wasUnknown = false;
  let start = 0;
  for (const character of piece) {
    const end = start + character.length;
    const isLast = end === piece.length;
    const string = (start === 0 ? '' : prefix) + character + (isLast ? suffix : '');
    start = end;
    const id = vocabulary.idOf(string);
    const found = id !== undefined ? [id] : bytesOf(string, vocabulary, options);
    if (found !== undefined) {
      ids.push(...found);
      wasUnknown = false;
    } else if (unknown !== undefined) {
      if (!wasUnknown || !options.fusesUnknown) ids.push(unknown);
      wasUnknown = true;
    }
  }
  return ids;
}

function bytesOf(string: string, vocabulary: Vocabulary, options: Options): number[] | undefined {
  return options.fallsBackToBytes ? vocabulary.byteIds(string) : undefined;
}

function mergesOf(model: ConfigReader, vocabulary: Vocabulary, prefix: string): Merges {
  const list = model.get('merges');
  if (!Array.isArray(list)) throw model.error('malformed', 'merges', 'must be a list of pairs');
  const merges = new Merges();
  for (const entry of list) {
    const pair: unknown = typeof entry === 'string' ? entry.split(' ') : entry;
    const [left, right, ...more] = Array.isArray(pair) ? (pair as unknown[]) : [];
    const isPair = typeof left === 'string' && typeof right === 'string' && more.length === 0;
    const ids = isPair
      ? [left, right, left + right.slice(prefix.length)].map((part) => vocabulary.idOf(part))
      : [];
    const [leftId, rightId, mergedId] = ids;
    if (leftId === undefined || rightId === undefined || mergedId === undefined) {
      const found = `has ${show(entry)}, which is no pair of tokens that make a token`;
      throw model.error('malformed', 'merges', found);
    }
    merges.add(leftId, rightId, mergedId);
  }
  return merges;
}

/** Byte-pair encoding: characters, then merges. Throws ModelError. */
export function bytePairModel(model: ConfigReader): TokenModel {
  const vocabulary = vocabularyOf(model);
  const unknownToken = model.get('unk_token');
  const options: Options = {
    prefix: model.text('continuing_subword_prefix', ''),
    suffix: model.text('end_of_word_suffix', ''),
    unknown: typeof unknownToken === 'string' ? vocabulary.idOf(unknownToken) : undefined,
    fusesUnknown: model.boolean('fuse_unk', false),
    fallsBackToBytes: model.boolean('byte_fallback', false),
  };
  const merges = mergesOf(model, vocabulary, options.prefix);
  const takesWhole = model.boolean('ignore_merges', false);
  const cache = new Map<string, readonly number[]>();
  const encode = (piece: string): readonly number[] => {
    const whole = takesWhole ? vocabulary.idOf(piece) : undefined;
    if (whole !== undefined) return [whole];
    const cached = cache.get(piece);
    if (cached !== undefined) return cached;
    const ids = mergeAll(charactersOf(piece, vocabulary, options), merges);
    if (piece.length <= CACHED_LENGTH) {
      if (cache.size >= CACHED_PIECES) cache.clear();
      cache.set(piece, ids);
    }
    return ids;
  };
  return { vocabulary, encode };
}
