import type { OpArgs } from '../ops.ts';
import { type Numbers, referenceE4m3 } from './reference.ts';

/** What the operations of experts mean, in float64 and as plainly as can be. */

/**
 * The value of an E2M1 code (OCP Microscaling Formats): a sign, 2 bits of exponent, 1 of fraction.
 */
export function referenceE2m1(code: number): number {
  const [sign, exponent, fraction] = [code & 8 ? -1 : 1, (code >> 1) & 3, code & 1];
  return sign * (exponent === 0 ? fraction / 2 : (1 + fraction / 2) * 2 ** (exponent - 1));
}

/** Values of FP8 codes [rows, inputs] under the scales of blocks. */
export function referenceFp8(
  codes: Numbers,
  scales: Numbers,
  inputs: number,
  [blockOutputs, blockInputs]: readonly [number, number],
): Float64Array {
  const columns = Math.ceil(inputs / blockInputs);
  return Float64Array.from(codes, (code, i) => {
    const [row, column] = [Math.floor(i / inputs), i % inputs];
    const block = Math.floor(row / blockOutputs) * columns + Math.floor(column / blockInputs);
    return referenceE4m3(code) * scales[block]!;
  });
}

/** Values of MXFP4 bytes: the earlier of two codes in the low half, a scale for each 32. */
export function referenceMxfp4(bytes: Numbers, scales: Numbers): Float64Array {
  return Float64Array.from({ length: 2 * bytes.length }, (_, i) => {
    const byte = bytes[i >> 1]!;
    const code = i % 2 === 0 ? byte % 16 : byte >> 4;
    return referenceE2m1(code) * 2 ** (scales[Math.floor(i / 32)]! - 127);
  });
}

/** The experts of one line, best first, and their weights. */
export function referenceChoice(
  logits: readonly number[],
  topK: number,
  softmaxOver: OpArgs['route']['softmaxOver'],
): { readonly chosen: number[]; readonly weights: number[] } {
  const ranked = logits.map((logit, expert) => ({ logit, expert }));
  ranked.sort((a, b) => (a.logit === b.logit ? a.expert - b.expert : b.logit - a.logit));
  const best = ranked.slice(0, topK);
  const powers = best.map(({ logit }) => Math.exp(logit - best[0]!.logit));
  const among = softmaxOver === 'chosen' ? best : ranked;
  const total = among.reduce((sum, { logit }) => sum + Math.exp(logit - best[0]!.logit), 0);
  return { chosen: best.map(({ expert }) => expert), weights: powers.map((p) => p / total) };
}

/** Assignments by expert, and where each expert's begin. */
export function referenceGroups(chosen: Numbers, experts: number) {
  const of = Array.from({ length: experts }, () => [] as number[]);
  Array.from(chosen).forEach((expert, assignment) => {
    of[expert]?.push(assignment);
  });
  const starts = [0];
  for (const own of of) starts.push(starts.at(-1)! + own.length);
  return { starts, order: of.flat() };
}

/** weight[row] * x (+ bias[row]). */
export function referenceRow(
  weight: Numbers,
  bias: Numbers | null,
  row: number,
  x: Numbers,
): number {
  let sum = bias === null ? 0 : bias[row]!;
  for (let k = 0; k < x.length; k++) sum += weight[row * x.length + k]! * x[k]!;
  return sum;
}
