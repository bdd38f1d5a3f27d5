import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { type Device, openCpuDevice } from '@bridgekeeper/device';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createEngine, type EngineOptions } from './create.ts';
import type { Engine } from './engine.ts';
import { engineOptions, generate, request } from './testing/run.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-tiers-'));
});
afterAll(() => rm(folder, { recursive: true }));

const PAGE_TOKENS = 8;
const small = { maxModelTokens: 96, maxBatchTokens: 64, pageTokens: PAGE_TOKENS, maxRows: 3 };

async function opened(overrides: Partial<EngineOptions>): Promise<Engine> {
  const profile = referenceProfile('b300-cc');
  const device: Device = await openCpuDevice({ threads: 1, law: profileLaw(profile) });
  return createEngine(engineOptions(device, { ...small, bridge: profile, ...overrides }));
}

test('tokens are the same with and without tiers', async () => {
  const plain = await opened({});
  const perPage = plain.card.memory.kvBytes / plain.card.kvPages;
  const limits = { spillLaneShare: 1, policy: 'lru' } as const;
  const tiered = await opened({
    kvBytes: 14 * perPage,
    tiers: {
      ...limits,
      hostBytes: Number(process.env.HOSTPAGES ?? 12) * perPage,
      disk: process.env.NODISK ? null : { folder, bytes: 30 * perPage },
    },
  });
  const asked = fc.record({
    prefix: fc.nat(4),
    prefixTokens: fc.integer({ min: 1, max: 60 }),
    ownTokens: fc.integer({ min: 1, max: 12 }),
    maxTokens: fc.integer({ min: 1, max: 12 }),
    cancels: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  });
  let number = 0;
  const run = async (
    engine: Engine,
    all: readonly (typeof asked extends fc.Arbitrary<infer T> ? T : never)[],
  ) =>
    Promise.all(
      all.map(async ({ prefix, prefixTokens, ownTokens, maxTokens, cancels }) => {
        const shared = Array.from({ length: prefixTokens }, (_, i) => (prefix * 37 + i * 11) % 200);
        const own = Array.from({ length: ownTokens }, (_, i) => (number + i * 3) % 200);
        const id = `r${number++}`;
        const outcome = generate(engine, request(id, [...shared, ...own], { maxTokens }));
        if (cancels) setTimeout(() => engine.cancel(id), 5);
        const { tokens, finish } = await outcome;
        return cancels ? [] : [finish.reason, ...tokens];
      }),
    );
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(asked, { minLength: 1, maxLength: 6 }), async (all) => {
        const from = number;
        const expected = await run(plain, all);
        number = from;
        expect(await run(tiered, all)).toEqual(expected);
      }),
      { numRuns: 30, seed: 3, endOnFailure: true },
    );
    const { totals } = tiered.stats().bridge;
    const bytes = (purpose: string) => totals.find((each) => each.purpose === purpose)?.bytes ?? 0;
    console.log(
      bytes('kv-spill') / perPage,
      bytes('kv-restore') / perPage,
      tiered.stats().prefixHitTokens,
      plain.stats().prefixHitTokens,
    );
  } finally {
    await plain.shutdown(0);
    await tiered.shutdown(0);
  }
}, 120_000);
