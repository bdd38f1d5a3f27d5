import type { Weighing } from '../ops.ts';
import { filled } from './filled.ts';
import { type Numbers, referenceSigmoid } from './reference.ts';

/** What the operations of experts mean, in float64 and as plainly as can be. */

/**
 * The value of an E2M1 code (OCP Microscaling Formats): a sign, 2 bits of exponent, 1 of fraction.
 */
export function referenceE2m1(code: number): number {
  const [sign, exponent, fraction] = [code & 8 ? -1 : 1, (code >> 1) & 3, code & 1];
  return sign * (exponent === 0 ? fraction / 2 : (1 + fraction / 2) * 2 ** (exponent - 1));
}

/** Values of MXFP4 bytes: the earlier of two codes in the low half, a scale for each 32. */
export function referenceMxfp4(bytes: Numbers, scales: Numbers): Float64Array {
  return filled(new Float64Array(2 * bytes.length), (i) => {
    const byte = bytes[i >> 1]!;
    const code = i % 2 === 0 ? byte % 16 : byte >> 4;
    return referenceE2m1(code) * 2 ** (scales[Math.floor(i / 32)]! - 127);
  });
}

/** What the chosen experts of one line weigh. */
export function referenceWeights(
  logits: readonly number[],
  chosen: readonly number[],
  weighing: Weighing,
  scale: number,
): number[] {
  const isSigmoid = weighing === 'sigmoid' || weighing === 'sigmoid-normalised';
  const power = (logit: number) => (isSigmoid ? referenceSigmoid(logit) : Math.exp(logit));
  const own = chosen.map((expert) => power(logits[expert]!));
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const totals: Readonly<Record<Weighing, number>> = {
    'softmax-chosen': sum(own),
    'softmax-all': sum(logits.map(power)),
    sigmoid: 1,
    'sigmoid-normalised': sum(own),
  };
  return own.map((value) => (scale * value) / totals[weighing]);
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
