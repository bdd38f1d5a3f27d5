import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { openCpuDevice, openModelDevice, splitDevice, VirtualClock } from '@bridgekeeper/device';
import { describe, expect, test } from 'vitest';
import type { EngineOptions } from './create.ts';
import type { Engine } from './engine.ts';
import type { SleepRequest } from './request/request.ts';
import { engineOptions, generate, request, withEngine } from './testing/run.ts';

const SLEEP: SleepRequest = { level: 1, mode: 'wait', keepsKv: false };
const STORY = Array.from({ length: 40 }, (_, i) => 20 + ((i * 31) % 300));

async function cpuOptions(
  overrides: Partial<EngineOptions> = {},
  ranks = 1,
): Promise<EngineOptions> {
  const alone = await openCpuDevice({ law: null, threads: 1 });
  return engineOptions(ranks === 1 ? alone : splitDevice(alone, ranks), {
    maxRows: 4,
    availableHostBytes: () => 2 ** 40,
    ...overrides,
  });
}

const answer = async (engine: Engine, id: string) =>
  (await generate(engine, request(id, STORY, { maxTokens: 12 }))).tokens;

/** Bytes of weights that crossed in a direction. */
const weightsCrossed = (engine: Engine, wanted: 'h2d' | 'd2h') =>
  engine
    .stats()
    .bridge.totals.filter(({ purpose, direction }) => purpose === 'weights' && direction === wanted)
    .reduce((sum, { bytes }) => sum + bytes, 0);

describe.each([
  [1, false, 1],
  [1, true, 1],
  [2, false, 1],
  [2, true, 1],
  [1, false, 2],
  [2, true, 2],
] as const)('a sleep of level %d, KV kept: %s, on %d ranks', (level, keepsKv, ranks) => {
  test('frees the memory, and the answers after it are those of before', async () => {
    const options = await cpuOptions({}, ranks);
    const allocated = () => options.device.counters().allocatedBytes;
    await withEngine(options, async (engine) => {
      const { kvBytes } = engine.card.memory;
      const before = await answer(engine, 'before');
      const hits = engine.stats().prefixHitTokens;
      const awakeBytes = allocated();
      await engine.sleep({ ...SLEEP, level, keepsKv });
      expect(engine.isAsleep).toBe(true);
      const { weightBytes } = engine.card;
      expect(awakeBytes - allocated()).toBe(ranks * (weightBytes + (keepsKv ? 0 : kvBytes)));
      expect(() => engine.submit(request('r', STORY), () => undefined)).toThrow(/asleep/);
      await engine.sleep(SLEEP);
      await engine.wakeUp();
      await engine.wakeUp();
      expect([engine.isAsleep, allocated()]).toEqual([false, awakeBytes]);
      expect(await answer(engine, 'after')).toEqual(before);
      // The prompt's two full pages are found again, if they were kept.
      expect(engine.stats().prefixHitTokens - hits).toBe(keepsKv ? 32 : 0);
    });
  });
});

test('the first sleep crosses the weights down, later ones nothing', async () => {
  await withEngine(await cpuOptions(), async (engine) => {
    const { weightBytes } = engine.card;
    const startBytes = weightsCrossed(engine, 'h2d');
    for (const times of [1, 2]) {
      await engine.sleep(SLEEP);
      expect(weightsCrossed(engine, 'd2h')).toBe(weightBytes);
      await engine.wakeUp();
      expect(weightsCrossed(engine, 'h2d') - startBytes).toBe(times * weightBytes);
    }
    const { finish } = await generate(engine, request('r', STORY, { maxTokens: 4 }));
    // No request pays for it.
    expect(finish.crossings!.map(({ purpose }) => purpose)).not.toContain('weights');
  });
});

test('what is in flight is waited for, or ends with an error', async () => {
  await withEngine(await cpuOptions(), async (engine) => {
    const open = (id: string) => generate(engine, request(id, STORY, { maxTokens: 200 }));
    const waited = open('waited');
    const sleeping = engine.sleep(SLEEP);
    expect(() => engine.submit(request('r', STORY), () => undefined)).toThrow(/asleep/);
    expect((await waited).finish.reason).toBe('length');
    await sleeping;
    await engine.wakeUp();
    const aborted = [open('a'), open('b')];
    await engine.sleep({ ...SLEEP, mode: 'abort' });
    for (const { finish } of await Promise.all(aborted)) {
      expect(finish).toMatchObject({ reason: 'error', message: expect.stringMatching(/asleep/) });
    }
    // Woken up while it falls asleep: one after the other.
    await Promise.all([engine.wakeUp(), engine.sleep(SLEEP), engine.wakeUp()]);
    expect((await answer(engine, 'after')).length).toBe(12);
  });
});

test('weights that host memory has no room for stay where they are', async () => {
  let freeBytes = 2 ** 30;
  await withEngine(await cpuOptions({ availableHostBytes: () => freeBytes }), async (engine) => {
    const before = await answer(engine, 'before');
    await expect(engine.sleep(SLEEP)).rejects.toMatchObject({ code: 'sleep-refused' });
    expect(engine.isAsleep).toBe(false);
    expect(weightsCrossed(engine, 'd2h')).toBe(0);
    expect(await answer(engine, 'after')).toEqual(before);
    freeBytes = engine.card.weightBytes + 2 ** 30;
    await engine.sleep(SLEEP);
    await engine.wakeUp();
    expect(await answer(engine, 'again')).toEqual(before);
  });
});

/** A GPU of its own, in virtual time. */
function modelOptions(overrides: Partial<EngineOptions> = {}) {
  const clock = new VirtualClock();
  clock.runFreely();
  const device = openModelDevice({ clock, law: profileLaw(referenceProfile('h100-native')) });
  const options = { dummy: true, availableHostBytes: () => 2 ** 40, ...overrides };
  return { clock, device, options: engineOptions(device, options) };
}

test.each([1, 2] as const)(
  'an engine whose memory others took sleeps on (level %d), and wakes up when there is room',
  async (level) => {
    const { device, options } = modelOptions({ kvBytes: 2 ** 30 });
    await withEngine(options, async (engine) => {
      await engine.sleep({ ...SLEEP, level });
      const { allocatedBytes } = device.counters();
      for (const roomBytes of [2 ** 20, 2 ** 30 + 2 ** 20]) {
        const other = device.allocate(
          device.info.memoryBytes - allocatedBytes - roomBytes,
          'other',
        );
        await expect(engine.wakeUp()).rejects.toMatchObject({ code: 'sleep-refused' });
        expect(engine.isAsleep).toBe(true);
        device.free(other);
        expect(device.counters().allocatedBytes).toBe(allocatedBytes);
      }
      await engine.wakeUp();
      expect((await answer(engine, 'after')).length).toBe(12);
    });
  },
);

test('a wake-up that fails ends the engine and says so', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sleep-'));
  try {
    const model = fileURLToPath(new URL('../../../models/storyteller', import.meta.url));
    await cp(model, folder, { recursive: true });
    await withEngine(await cpuOptions({ model: folder }), async (engine) => {
      await engine.sleep({ ...SLEEP, level: 2 });
      await writeFile(join(folder, 'model.safetensors'), 'gone');
      await expect(engine.wakeUp()).rejects.toMatchObject({ code: 'engine-failed' });
      expect((await engine.failed).message).toMatch(/model.safetensors/);
      expect(() => engine.submit(request('r', STORY), () => undefined)).toThrow();
      await expect(engine.sleep(SLEEP)).rejects.toMatchObject({ code: 'shutting-down' });
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test.each(['h100-native', 'b300-cc'] as const)(
  'a model of 2.5 GB wakes up at the rate of the link of %s',
  async (name) => {
    const clock = new VirtualClock();
    clock.runFreely();
    const profile = referenceProfile(name);
    const device = openModelDevice({ clock, law: profileLaw(profile) });
    const model = fileURLToPath(new URL('../configs/llama-3.2-1b', import.meta.url));
    const options = { dummy: true, model, bridge: profile, maxModelTokens: 2048 };
    await withEngine(
      engineOptions(device, { ...options, availableHostBytes: () => 2 ** 40 }),
      async (engine) => {
        await engine.sleep(SLEEP);
        const startedNs = clock.nowNs();
        await engine.wakeUp();
        const { bandwidth } = profile.crossings.h2d.pinned;
        const { bytesPerSecond } = bandwidth.at(-1)!;
        const linkNs = (engine.card.weightBytes / bytesPerSecond) * 1e9;
        // Pieces of ten milliseconds, with a toll each.
        expect(clock.nowNs() - startedNs).toBeLessThan(1.1 * linkNs);
        expect(clock.nowNs() - startedNs).toBeGreaterThan(0.9 * linkNs);
      },
    );
  },
);
