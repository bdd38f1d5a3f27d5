import { LOGPROB, LOGPROB_WORDS, MAX_TOP_LOGPROBS } from '../../row-layout.ts';
import { rangeOf, type Share } from './share.ts';

/**
 * One line of logprobs into `words`: the token's own, its rank, and the `top` best. Equal logits
 * rank by id, so that the rank is the token's place among the alternatives.
 */
export function writeLogprobLine(
  logits: Float32Array,
  token: number,
  top: number,
  words: Int32Array,
): void {
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  const own = logits[token]!;
  let best = Number.NEGATIVE_INFINITY;
  let rank = 1;
  for (let v = 0; v < logits.length; v++) {
    const value = logits[v]!;
    if (value > best) best = value;
    if (value > own || (value === own && v < token)) rank += 1;
  }
  let total = 0;
  for (let v = 0; v < logits.length; v++) total += Math.exp(logits[v]! - best);
  const norm = best + Math.log(total);
  floats[LOGPROB.LOGPROB] = own - norm;
  words[LOGPROB.RANK] = rank;
  const ids = words.subarray(LOGPROB.IDS, LOGPROB.IDS + Math.min(top, logits.length));
  bestIds(logits, ids);
  for (let i = 0; i < ids.length; i++) floats[LOGPROB.LOGPROBS + i] = logits[ids[i]!]! - norm;
}

/** Fills `ids` with the ids of the largest logits, best first, ties by lower id. */
function bestIds(logits: Float32Array, ids: Int32Array): void {
  let held = 0;
  for (let v = 0; v < logits.length && ids.length > 0; v++) {
    const value = logits[v]!;
    if (held === ids.length && !(value > logits[ids[held - 1]!]!)) continue;
    if (held < ids.length) held += 1;
    let place = held - 1;
    for (; place > 0 && value > logits[ids[place - 1]!]!; place--) ids[place] = ids[place - 1]!;
    ids[place] = v;
  }
}

/**
 * One logprob line for token targets[i] of logits line i, for a share of the lines; ids outside are
 * skipped.
 */
export function promptLogprobs(
  logits: Float32Array,
  targets: Int32Array,
  out: Int32Array,
  vocab: number,
  share: Share,
): void {
  const [from, to] = rangeOf(share, targets.length);
  for (let line = from; line < to; line++) {
    const target = targets[line]!;
    if (target < 0 || target >= vocab) continue;
    const words = out.subarray(line * LOGPROB_WORDS, (line + 1) * LOGPROB_WORDS);
    const raw = logits.subarray(line * vocab, (line + 1) * vocab);
    writeLogprobLine(raw, target, MAX_TOP_LOGPROBS, words);
  }
}
