import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Profile, profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { type Device, openCpuDevice } from '@bridgekeeper/device';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LoadingStrategy } from '../loader/strategy/loading-strategy.ts';
import { POLICY_NAMES } from '../policies/policy.ts';
import type { EngineStats } from '../request/request.ts';
import { sealModel } from '../sealing/make.ts';
import { writeModelFolder } from '../selftest/model-folder.ts';
import { engineOptions, generate, request, withEngine } from '../testing/run.ts';

/** What the ledger says crossed is what the device counted, copy for copy and byte for byte. */
function expectLedgerIsDevice({ bridge }: EngineStats, device: Device): void {
  const { h2dBytes, d2hBytes, copies } = device.counters();
  const sum = (direction: 'h2d' | 'd2h') =>
    bridge.totals.reduce((all, each) => all + (each.direction === direction ? each.bytes : 0), 0);
  expect(sum('h2d')).toBe(h2dBytes);
  expect(sum('d2h')).toBe(d2hBytes);
  for (const accounts of [bridge.totals, bridge.lanes]) {
    expect(accounts.reduce((all, { crossings }) => all + crossings, 0)).toBe(copies);
  }
}

/** A machine whose crossings of bulk have to be cut small. */
function slowed(profile: Profile): Profile {
  const { h2d, d2h } = profile.crossings;
  const bandwidth = [{ bytes: 1, bytesPerSecond: 10e6 }];
  const cut = (way: typeof h2d) => ({
    pinned: { ...way.pinned, bandwidth },
    pageable: { ...way.pageable, bandwidth },
  });
  return { ...profile, crossings: { h2d: cut(h2d), d2h: cut(d2h) } };
}

const strategies: fc.Arbitrary<LoadingStrategy> = fc.record({
  crossedBy: fc.constantFrom('lanes', 'readers'),
  contexts: fc.nat(2),
  chunkBytes: fc.constantFrom(4096, 65_536, 262_144),
  memory: fc.constantFrom('pinned', 'pageable'),
  readers: fc.integer({ min: 1, max: 2 }),
  direct: fc.boolean(),
});

describe('the ledger', () => {
  let plain: string;
  let sealed: string;
  beforeAll(async () => {
    const root = await mkdtemp(join(tmpdir(), 'bridgekeeper-ledger-'));
    [plain, sealed] = [join(root, 'plain'), join(root, 'sealed')];
    await writeModelFolder(plain, { architecture: 'Qwen3ForCausalLM', shards: 2 });
    await writeModelFolder(sealed, { architecture: 'Qwen2ForCausalLM' });
    await sealModel(sealed, { chunkBytes: 65_536, threads: 1 });
  });
  afterAll(() => rm(join(plain, '..'), { recursive: true }));

  test('has what the device counted, whatever loads and whatever is asked', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          strategy: strategies,
          isSealed: fc.boolean(),
          law: fc.constantFrom(null, 'h100-native', 'b300-cc'),
          policy: fc.constantFrom(...POLICY_NAMES),
          isSlow: fc.boolean(),
          prompts: fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 4 }),
          logprobs: fc.option(fc.nat(3), { nil: undefined }),
        }),
        async ({ strategy, isSealed, law, policy, isSlow, prompts, logprobs }) => {
          const profile = referenceProfile(law ?? 'b300-cc');
          const imposed = law === null ? null : profileLaw(profile);
          const device = await openCpuDevice({ law: imposed, threads: 1 });
          const options = engineOptions(device, {
            policy,
            model: isSealed ? sealed : plain,
            maxModelTokens: 96,
            maxBatchTokens: 64,
            pageTokens: 8,
            bridge: isSlow ? slowed(profile) : profile,
            seal: { mode: 'auto' },
            // Threads that read may not go round an imposed law.
            loading: law === null ? strategy : { ...strategy, crossedBy: 'lanes' },
          });
          const ended = await withEngine(options, async (engine) => {
            expectLedgerIsDevice(engine.stats(), device);
            const requests = prompts.map((length, index) => {
              const prompt = Array.from({ length }, (_, i) => (i * 7 + index) % 100);
              const maxTokens = 1 + (length % 9);
              return request(`r${index}`, prompt, {
                maxTokens,
                logprobs,
                promptLogprobs: logprobs,
              });
            });
            await Promise.all(requests.map((wanted) => generate(engine, wanted)));
            return engine;
          });
          // Launches that ran ahead have been drained now.
          expectLedgerIsDevice(ended.stats(), device);
        },
      ),
      { numRuns: 25, seed: 13 },
    );
  });
});
