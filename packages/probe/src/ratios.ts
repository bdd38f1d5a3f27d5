import type { Profile } from '@bridgekeeper/bridge';
import { assumeProfile } from '@bridgekeeper/server';
import type { ProbeFacts } from './facts.ts';

/** What a machine is compared with, and why with that. */
export interface Reference {
  readonly profile: Profile;
  readonly reason: string;
}

/** The published profile of such a GPU without confidential computing; null: there is no GPU. */
export function referenceFor({
  device,
  gpu,
}: Pick<ProbeFacts, 'device' | 'gpu'>): Reference | null {
  if (device === 'cpu') return null;
  const { profile, reason } = assumeProfile({
    deviceKind: 'cuda',
    gpuName: gpu,
    gpuUuid: null,
    confidential: false,
    readProfile: () => ({ path: '', text: null }),
  });
  return profile === null ? null : { profile, reason };
}

/** One line of the published table: what of a reference machine's rate this one has. */
export interface Ratio {
  readonly name: string;
  readonly unit: string;
  readonly value: number;
  readonly reference: number;
  readonly ratio: number;
}

const RATES: readonly {
  readonly name: string;
  readonly unit: string;
  of(profile: Profile): number;
}[] = [
  { name: 'matmul', unit: 'TFLOP/s', of: ({ roofline }) => roofline.bf16FlopsPerSecond / 1e12 },
  {
    name: 'graph',
    unit: 'kernels/ms',
    of: ({ roofline, submission }) => 1e6 / (roofline.kernelNs + submission.graphNodeNs),
  },
  { name: 'HBM', unit: 'GB/s', of: ({ roofline }) => roofline.copyBytesPerSecond / 1e9 },
  { name: 'H2D', unit: 'GB/s', of: ({ crossings }) => bestRate(crossings.h2d.pinned) },
  { name: 'D2H', unit: 'GB/s', of: ({ crossings }) => bestRate(crossings.d2h.pinned) },
];

/** Pinned, in the largest copies: the rate that the published table compares. */
function bestRate({ bandwidth }: Profile['crossings']['h2d']['pinned']): number {
  return bandwidth.at(-1)!.bytesPerSecond / 1e9;
}

/** The lines of the table of arXiv 2606.23969: matmul, graph, HBM, H2D, D2H. */
export function ratiosOf(profile: Profile, reference: Profile): Ratio[] {
  return RATES.map(({ name, unit, of }) => {
    const value = of(profile);
    const against = of(reference);
    return { name, unit, value, reference: against, ratio: value / against };
  });
}
