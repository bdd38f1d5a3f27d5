import { sampleUniform } from '../random.ts';
import { COUNT_PROMPT } from '../row-layout.ts';
import type { RowSetting } from './row-state.ts';

/** What `sample` means, by sorting everything. NaN-free logits of one line; `counts` of its row. */
export function referenceSample(
  logits: ArrayLike<number>,
  row: RowSetting,
  counts: ArrayLike<number>,
): number {
  const adjusted = adjust(logits, row, counts);
  const best = adjusted.indexOf(Math.max(...adjusted));
  const temperature = row.temperature ?? 0;
  if (temperature === 0) return best;
  const weights = adjusted.map((logit) => Math.exp((logit - adjusted[best]!) / temperature));
  let kept = adjusted.map((_, token) => token).filter((token) => weights[token]! > 0);
  kept.sort((a, b) => weights[b]! - weights[a]!);
  kept = kept.filter((token) => weights[token]! >= (row.minP ?? 0));
  const topK = row.topK ?? 0;
  if (topK > 0) kept = withTies(kept, topK, weights);
  kept = withTies(kept, nucleusSize(kept, weights, row.topP ?? 1), weights);
  kept.sort((a, b) => a - b);
  const total = kept.reduce((sum, token) => sum + weights[token]!, 0);
  const [low, high] = row.seed ?? [0, 0];
  const goal = sampleUniform(low, high, row.generated ?? 0) * total;
  let mass = 0;
  for (const token of kept) {
    mass += weights[token]!;
    if (mass > goal) return token;
  }
  return kept.at(-1)!;
}

/** Logits after bias, the minimum of tokens, and penalties. */
function adjust(logits: ArrayLike<number>, row: RowSetting, counts: ArrayLike<number>): number[] {
  const biased = new Set((row.bias ?? []).map(([token]) => token));
  const adjusted = Array.from(logits, (logit, token) =>
    row.allowedOnly && !biased.has(token) ? Number.NEGATIVE_INFINITY : logit,
  );
  for (const [token, bias] of row.bias ?? []) adjusted[token]! += bias;
  if ((row.generated ?? 0) < (row.minTokens ?? 0)) {
    for (const id of row.stopIds ?? []) adjusted[id] = Number.NEGATIVE_INFINITY;
  }
  if (!row.penalties) return adjusted;
  return adjusted.map((logit, token) => {
    const count = counts[token]!;
    if (count === 0) return logit;
    const repetition = row.repetition ?? 1;
    const repeated = logit > 0 ? logit / repetition : logit * repetition;
    const sampled = count & ~COUNT_PROMPT;
    const presence = sampled > 0 ? (row.presence ?? 0) : 0;
    return repeated - presence - (row.frequency ?? 0) * sampled;
  });
}

/** The first `size` of the tokens, best first, and those tied with the last of them. */
function withTies(tokens: readonly number[], size: number, weights: readonly number[]): number[] {
  if (size >= tokens.length) return [...tokens];
  const edge = weights[tokens[size - 1]!]!;
  return tokens.filter((token) => weights[token]! >= edge);
}

/** How many of the tokens, best first, hold `topP` of their mass. */
function nucleusSize(tokens: readonly number[], weights: readonly number[], topP: number): number {
  const total = tokens.reduce((sum, token) => sum + weights[token]!, 0);
  let mass = 0;
  for (let size = 1; size <= tokens.length; size++) {
    mass += weights[tokens[size - 1]!]!;
    if (mass >= topP * total) return size;
  }
  return tokens.length;
}

/**
 * Whether float32 might decide otherwise than float64: the choice changes when the row's numbers
 * move by their last digits. Such lines tell nothing about a device.
 */
export function isDelicate(
  logits: ArrayLike<number>,
  row: RowSetting,
  counts: ArrayLike<number>,
): boolean {
  const choice = referenceSample(logits, row, counts);
  const moved = [1 - 1e-3, 1 + 1e-3].flatMap((factor): RowSetting[] => [
    { ...row, topP: Math.min(1, (row.topP ?? 1) * factor) },
    { ...row, minP: Math.min(1, (row.minP ?? 0) * factor) },
    { ...row, temperature: (row.temperature ?? 0) * factor },
  ]);
  return moved.some((other) => referenceSample(logits, other, counts) !== choice);
}

export interface ReferenceLogprobs {
  readonly logprobs: readonly number[];
  /** Token ids, the most likely first, equal ones by id. */
  readonly order: readonly number[];
}

/** Natural logarithms of the softmax, and the order of the tokens. */
export function referenceLogprobs(logits: ArrayLike<number>): ReferenceLogprobs {
  const values = Array.from(logits);
  const top = Math.max(...values);
  const norm = top + Math.log(values.reduce((sum, value) => sum + Math.exp(value - top), 0));
  const order = values.map((_, token) => token);
  order.sort((a, b) => values[b]! - values[a]! || a - b);
  return { logprobs: values.map((value) => value - norm), order };
}
