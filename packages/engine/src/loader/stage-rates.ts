import type { Device } from '@bridgekeeper/device';
import type { StagingSlot } from './paths/staging.ts';
import type { LoadPipeline } from './pipeline.ts';
import type { LoadingStrategy } from './strategy/loading-strategy.ts';
import type { Chunk } from './tensors/chunks.ts';

/** What each stage does alone, in bytes a second, with the strategy that was used. */
export interface StageRates {
  readonly read: number;
  readonly cross: number;
  readonly place: number;
}

/** Goes through the last chunks again, one stage at a time. They end where they already are. */
export async function measureStages(
  pipeline: LoadPipeline,
  strategy: LoadingStrategy,
  device: Device,
): Promise<StageRates> {
  const chunks = pipeline.lastChunks;
  const rateOf = async (act: (chunk: Chunk, slot: StagingSlot) => unknown) => {
    const queue = [...chunks];
    const bytes = queue.reduce((total, chunk) => total + chunk.bytes, 0);
    const used = new Set<StagingSlot>();
    const startedNs = device.clock.nowNs();
    await pipeline.overSlots(strategy, async (slot) => {
      const chunk = queue.shift();
      if (chunk === undefined) return false;
      used.add(slot);
      await act(chunk, slot);
      return true;
    });
    await Promise.all([...used].map(({ stream }) => stream.synchronize()));
    return (bytes * 1e9) / Math.max(1, device.clock.nowNs() - startedNs);
  };
  const path = await pipeline.path(strategy);
  const read = await rateOf((chunk, slot) => path.read(chunk, slot));
  const cross = await rateOf((chunk, slot) => path.cross(chunk, slot));
  // The slots now hold chunks that are in their places already, but not each its own: only the
  // hashes may be taken again, not the placing.
  const place = await placeRate(pipeline, strategy, device, chunks);
  return { read, cross, place };
}

/** Brings one chunk to every slot, and then times placing and hashing. */
async function placeRate(
  pipeline: LoadPipeline,
  strategy: LoadingStrategy,
  device: Device,
  chunks: readonly Chunk[],
): Promise<number> {
  const path = await pipeline.path(strategy);
  const queue = [...chunks];
  const held: { readonly chunk: Chunk; readonly slot: StagingSlot }[] = [];
  await pipeline.overSlots(strategy, async (slot) => {
    const chunk = queue.shift();
    if (chunk === undefined || held.some((each) => each.slot === slot)) return false;
    await path.bring(chunk, slot);
    held.push({ chunk, slot });
    return true;
  });
  await Promise.all(held.map(({ slot }) => slot.stream.synchronize()));
  const bytes = held.reduce((total, { chunk }) => total + chunk.bytes, 0);
  const startedNs = device.clock.nowNs();
  for (const { chunk, slot } of held) {
    pipeline.place(chunk, slot);
    pipeline.hash(chunk, slot);
  }
  await Promise.all(held.map(({ slot }) => slot.stream.synchronize()));
  return (bytes * 1e9) / Math.max(1, device.clock.nowNs() - startedNs);
}
