import { openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { describe, expect, test } from 'vitest';
import { type EngineOptions, prepareModel } from '../create.ts';
import { decodeWork, floorsNs, prefillWork } from './floors.ts';

const QWEN3_8B = new URL('../../configs/qwen3-8b', import.meta.url).pathname;

/** Dummy weights on a modelled GPU: nothing but sizes. */
async function modelled(changes: Partial<EngineOptions> = {}) {
  const clock = new VirtualClock();
  clock.runFreely();
  const device = openModelDevice({ law: null, clock });
  const model = await prepareModel({
    device,
    model: QWEN3_8B,
    dummy: true,
    policy: 'drain-first',
    burst: { tollNs: 0, interTokenLimitNs: 1e9 },
    maxModelTokens: 1024,
    maxRows: 4,
    maxBatchTokens: 512,
    pageTokens: 16,
    memoryUtilization: 0.9,
    kvBytes: undefined,
    prefixCaching: true,
    chunkedPrefill: true,
    maxWaiting: 1,
    seed: 1,
    quantization: undefined,
    kvFormat: 'element' as const,
    ...changes,
  });
  await device.close();
  return model.parts;
}

describe('the floors of Qwen3-8B', () => {
  // 36 layers of q, k, v, o, gate, up and down, and the head.
  const layerWeights = 6144 * 4096 + 4096 * 4096 + 24_576 * 4096 + 4096 * 12_288;
  const weights = 36 * layerWeights + 151_936 * 4096;
  const kvOfToken = 36 * 2 * 8 * 128;

  test('a decode step reads weights once, and the KV of every row', async () => {
    const parts = await modelled();
    const work = decodeWork(parts, 4, 1000);
    expect(work.bytes).toBe(2 * weights + 4 * 1000 * 2 * kvOfToken);
    expect(work.operations).toBe(2 * 4 * weights + 4 * (4 * 1000 * 36 * 32 * 128));
  });

  test('FP8 halves what it stores: KV at one byte a value, blocks with a scale each', async () => {
    const parts = await modelled({ quantization: 'fp8', kvFormat: 'fp8-e4m3' });
    const scales = (36 * layerWeights) / (128 * 128);
    const head = 2 * 151_936 * 4096;
    expect(decodeWork(parts, 1, 16).bytes).toBe(
      36 * layerWeights + 4 * scales + head + 16 * kvOfToken,
    );
  });

  test('a chunk attends to what was before it and to itself, for one line of logits', async () => {
    const parts = await modelled();
    const { operations } = prefillWork(parts, 100, 10);
    const pairs = 100 * 10 + (100 * 101) / 2;
    const products = 2 * 100 * 36 * layerWeights + 2 * 151_936 * 4096;
    expect(operations).toBe(products + 4 * pairs * 36 * 32 * 128);
  });

  test('a rate turns work into time', () => {
    const rates = { copyBytesPerSecond: 1e12, matmulFlopsPerSecond: 1e15 };
    const floors = floorsNs({ bytes: 3e9, operations: 2e12 }, rates);
    expect(floors).toEqual({ bytesNs: 3e6, operationsNs: 2e6 });
  });
});
