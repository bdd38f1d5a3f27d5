import type { ConfigReader } from '../../models/config-reader.ts';
import { type TokenModel, Vocabulary } from './vocabulary.ts';

/** How much worse an unknown character is than the least likely token. */
const UNKNOWN_PENALTY = 10;

interface Node {
  readonly next: Map<string, Node>;
  id: number | undefined;
}

function newNode(): Node {
  return { next: new Map(), id: undefined };
}

interface Scored {
  readonly strings: readonly string[];
  /** Natural logarithms of likelihoods. */
  readonly scores: readonly number[];
}

/** "vocab": [[string, score]]. */
function scoredOf(model: ConfigReader): Scored {
  const vocab = model.get('vocab');
  const strings: string[] = [];
  const scores: number[] = [];
  for (const entry of Array.isArray(vocab) ? (vocab as unknown[]) : [undefined]) {
    const [string, score] = Array.isArray(entry) ? (entry as unknown[]) : [];
    if (typeof string !== 'string' || typeof score !== 'number') {
      throw model.error('malformed', 'vocab', 'must be a list of [token, score]');
    }
    strings.push(string);
    scores.push(score);
  }
  return { strings, scores };
}

function trieOf(ids: ReadonlyMap<string, number>): Node {
  const root = newNode();
  for (const [string, id] of ids) {
    let node = root;
    for (let i = 0; i < string.length; i++) {
      let next = node.next.get(string[i]!);
      if (next === undefined) {
        next = newNode();
        node.next.set(string[i]!, next);
      }
      node = next;
    }
    node.id = id;
  }
  return root;
}

function characterLength(text: string, at: number): number {
  return text.codePointAt(at)! > 0xffff ? 2 : 1;
}

interface Likelihoods {
  readonly root: Node;
  readonly scores: readonly number[];
  readonly unknownScore: number;
  readonly unknownId: number | undefined;
}

/** The best way to each place of a piece: where its last token starts; 1 if that is unknown. */
interface Paths {
  readonly starts: Int32Array;
  readonly unknowns: Uint8Array;
}

function bestPaths(piece: string, { root, scores, unknownScore, unknownId }: Likelihoods): Paths {
  const { length } = piece;
  const best = new Float64Array(length + 1).fill(Number.NEGATIVE_INFINITY);
  const starts = new Int32Array(length + 1).fill(-1);
  const unknowns = new Uint8Array(length + 1);
  best[0] = 0;
  for (let start = 0; start < length; start += characterLength(piece, start)) {
    const single = start + characterLength(piece, start);
    let hasSingle = false;
    const reach = (end: number, score: number, isUnknown: boolean) => {
      if (starts[end]! >= 0 && best[start]! + score <= best[end]!) return;
      best[end] = best[start]! + score;
      starts[end] = start;
      unknowns[end] = isUnknown ? 1 : 0;
    };
    let node = root.next.get(piece[start]!);
    for (let end = start + 1; node !== undefined; end++) {
      if (node.id !== undefined) {
        reach(end, scores[node.id]!, node.id === unknownId);
        hasSingle ||= end === single;
      }
      node = end < length ? node.next.get(piece[end]!) : undefined;
    }
    if (!hasSingle) reach(single, unknownScore, true);
  }
  return { starts, unknowns };
}

/** Unigram: of all ways to write a piece, the likeliest. Throws ModelError. */
export function unigramModel(model: ConfigReader): TokenModel {
  const { strings, scores } = scoredOf(model);
  const ids = new Map(strings.map((string, id) => [string, id]));
  const vocabulary = new Vocabulary(ids, strings);
  const unknownId = model.get('unk_id') === undefined ? undefined : model.integer('unk_id', 0);
  const fallsBackToBytes = model.boolean('byte_fallback', false);
  const least = scores.reduce((lowest, score) => Math.min(lowest, score), Number.POSITIVE_INFINITY);
  const unknownScore = least - UNKNOWN_PENALTY;
  const likelihoods = { root: trieOf(ids), scores, unknownScore, unknownId };
  const encode = (piece: string) => {
    const { starts, unknowns } = bestPaths(piece, likelihoods);
    const parts: string[] = [];
    for (let end = piece.length; end > 0; ) {
      // Unknown characters side by side are one unknown part.
      let start = starts[end]!;
      if (unknowns[end] === 1) while (start > 0 && unknowns[start] === 1) start = starts[start]!;
      parts.push(piece.slice(start, end));
      end = start;
    }
    const encoded: number[] = [];
    for (const part of parts.reverse()) {
      const id = ids.get(part);
      const bytes = id === undefined && fallsBackToBytes ? vocabulary.byteIds(part) : undefined;
      if (bytes !== undefined) encoded.push(...bytes);
      else if (id !== undefined) encoded.push(id);
      else if (unknownId !== undefined) encoded.push(unknownId);
      else return undefined;
    }
    return encoded;
  };
  return { vocabulary, encode };
}
