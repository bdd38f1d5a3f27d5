import { instrumentsOf } from '@bridgekeeper/device';
import type { MeasuredRun } from '@bridgekeeper/report';
import type { Workbench } from '../workbench.ts';

/** What confidential computing may take away, each tried once. Nothing on a device without it. */
export async function tryFeatures({ device }: Workbench): Promise<MeasuredRun[]> {
  const verdicts = instrumentsOf(device)?.tryFeatures() ?? [];
  return verdicts.map((verdict) => ({
    parameters: { measure: 'feature', ...verdict },
    metrics: {},
    repeats: 1,
    spread: {},
  }));
}

/** A context alone, without the thread that a lane has besides. */
export async function measureContext({
  device,
  sampler,
  limits,
}: Workbench): Promise<MeasuredRun[]> {
  const instruments = instrumentsOf(device);
  if (instruments === null) return [];
  const once = async () => instruments.timeContext();
  return [await sampler.measure({ measure: 'context' }, limits.fewRepeats, once)];
}

const BATCH = 256;
const BATCH_BYTES = 16_384;

/** As many small copies as a page table's changes or a few tokens' KV make. */
export async function measureBatch({ device, sampler, limits }: Workbench): Promise<MeasuredRun[]> {
  const instruments = instrumentsOf(device);
  // A batch is made by the driver behind the lanes' back: an imposed law does not reach it.
  if (instruments === null || limits.hasLaw) return [];
  const parameters = { measure: 'batched-copies', copies: BATCH, bytes: BATCH_BYTES };
  const once = async () => ({ ...instruments.timeBatch(BATCH, BATCH_BYTES) });
  return [await sampler.measure(parameters, limits.fewRepeats, once)];
}

/** Copies to the other GPUs that this one can reach. */
export async function measurePeers({ device, limits }: Workbench): Promise<MeasuredRun[]> {
  const rates = instrumentsOf(device)?.timePeers(limits.largestBytes) ?? [];
  return rates.map(({ from, to, bytesPerSecond }) => ({
    parameters: { measure: 'peer', from, to },
    metrics: { bytesPerSecond },
    repeats: 1,
    spread: {},
  }));
}
