import { mkdir, mkdtemp, open, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import {
  type Device,
  DeviceError,
  hash32,
  type Lane,
  openCpuDevice,
  SystemClock,
  splitDevice,
} from '@bridgekeeper/device';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { createEngine, type EngineOptions } from './create.ts';
import type { Engine } from './engine.ts';
import type { KvPrices } from './kv/tiers/prices.ts';
import { PageMover } from './mover/page-mover.ts';
import type { PolicyName } from './policies/policy.ts';
import { writeModelFolder } from './selftest/model-folder.ts';
import { LATENT_MODEL } from './testing/latent-model.ts';
import { engineOptions, generate, request } from './testing/run.ts';
import { Route } from './traffic/route.ts';

const PAGE_TOKENS = 8;
const PAGES = 12;
const small = { maxModelTokens: 96, maxBatchTokens: 64, pageTokens: PAGE_TOKENS, maxRows: 3 };
const profile = referenceProfile('b300-cc');
const clock = new SystemClock();

let model: string;
beforeAll(async () => {
  model = await mkdtemp(join(tmpdir(), 'bridgekeeper-tiers-model-'));
  await writeModelFolder(model, { architecture: 'Qwen3ForCausalLM' });
});
afterAll(() => rm(model, { recursive: true }));

let folder: string;
const engines: Engine[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-tiers-'));
});
afterEach(async () => {
  vi.restoreAllMocks();
  for (const engine of engines.splice(0)) await engine.shutdown(0);
  await rm(folder, { recursive: true });
});

interface Opened {
  readonly engine: Engine;
  readonly device: Device;
}

async function opened(
  overrides: Partial<EngineOptions>,
  prepare?: (device: Device) => void,
  ranks = 1,
) {
  const alone = await openCpuDevice({ threads: 1, law: profileLaw(profile) });
  const device = ranks === 1 ? alone : splitDevice(alone, ranks);
  prepare?.(device);
  const engine = await createEngine(
    engineOptions(device, { ...small, model, bridge: profile, ...overrides }),
  );
  engines.push(engine);
  return { engine, device };
}

interface Sizes {
  readonly hostPages?: number;
  readonly diskPages?: number;
  readonly policy?: PolicyName;
  readonly ranks?: number;
}

/** An engine with room for little on the device, and everything below it that was computed. */
async function tiered(
  { hostPages = 12, diskPages = 30, policy = 'drain-first', ranks = 1 }: Sizes = {},
  prepare?: (device: Device) => void,
  of = model,
  learn?: (known: KvPrices) => void,
): Promise<Opened> {
  const pageBytes = await bytesOfPage(of);
  const disk = diskPages === 0 ? null : { folder, bytes: diskPages * pageBytes };
  const below = {
    // Ranks share it: each has its part of a page.
    hostBytes: hostPages * pageBytes,
    disk,
    spillLaneShare: 1,
    policy: 'lru',
  } as const;
  // Prompts of tests are too short to be worth it.
  const kvPrices = (known: KvPrices): KvPrices => {
    learn?.(known);
    return { ...known, recomputeNs: () => 1e9 };
  };
  const kvBytes = (PAGES * pageBytes) / ranks;
  return opened({ model: of, policy, kvBytes, tiers: below, kvPrices }, prepare, ranks);
}

const knownPageBytes = new Map<string, number>();
async function bytesOfPage(of: string): Promise<number> {
  const known = knownPageBytes.get(of);
  if (known !== undefined) return known;
  const { engine } = await opened({ model: of });
  const { kvBytes, kvPages } = engine.card.memory;
  knownPageBytes.set(of, kvBytes / kvPages);
  return kvBytes / kvPages;
}

function crossedPages(engine: Engine, purpose: string): number {
  const { totals } = engine.stats().bridge;
  const found = totals.find((each) => each.purpose === purpose);
  return (found?.bytes ?? 0) / knownPageBytes.get(model)!;
}

/** A prompt that begins as others of that number do. */
function promptOf(prefix: number, prefixTokens: number, own = prefixTokens): number[] {
  const shared = Array.from({ length: prefixTokens }, (_, i) => (prefix * 37 + i * 11) % 100);
  return [...shared, (own * 7) % 100, (own * 13) % 100];
}

let asked = 0;
async function answer(engine: Engine, prompt: readonly number[], tenant = 'tenant') {
  const { tokens, finish } = await generate(
    engine,
    request(`r${asked++}`, prompt, { maxTokens: 6 }, tenant),
  );
  return [finish.reason, ...tokens];
}

/** Rounds of prompts that push each other off the device and return. */
async function rounds(engine: Engine, from = 0, to = 3): Promise<(string | number)[][]> {
  const answers: (string | number)[][] = [];
  for (let round = from; round < to; round++) {
    for (let prefix = 0; prefix < 4; prefix++) {
      answers.push(await answer(engine, promptOf(prefix, 50, round)));
    }
  }
  return answers;
}

let plainAnswers: (string | number)[][] | null = null;
/** What an engine without tiers says to all rounds. */
async function plainly(): Promise<(string | number)[][]> {
  plainAnswers ??= await rounds((await opened({})).engine);
  return plainAnswers;
}

const wanted = fc.record({
  prefix: fc.nat(4),
  prefixTokens: fc.integer({ min: 1, max: 40 }),
  ownTokens: fc.integer({ min: 1, max: 12 }),
  maxTokens: fc.integer({ min: 1, max: 40 }),
  /** After so many milliseconds. */
  cancelled: fc.option(fc.nat(8), { freq: 1 }),
});
type Wanted = typeof wanted extends fc.Arbitrary<infer Value> ? Value : never;

/** Answers to the same requests at once; of cancelled ones, nothing. */
function answers(engine: Engine, all: readonly Wanted[]): Promise<(string | number)[][]> {
  return Promise.all(
    all.map(async ({ prefix, prefixTokens, ownTokens, maxTokens, cancelled }, index) => {
      const own = Array.from({ length: ownTokens }, (_, i) => (index * 5 + i * 3) % 100);
      const prompt = [...promptOf(prefix, prefixTokens), ...own];
      const id = `r${asked++}`;
      const outcome = generate(engine, request(id, prompt, { maxTokens }));
      if (cancelled !== null) {
        const atNs = clock.nowNs() + cancelled * 1e6;
        void clock.sleepUntilNs(atNs).then(() => engine.cancel(id));
      }
      const { tokens, finish } = await outcome;
      return cancelled === null ? [finish.reason, ...tokens] : [];
    }),
  );
}

/** One in so many crossings of KV fails. */
function failingCrossings(oneIn: number): void {
  const cross = Route.prototype.cross;
  let crossings = 0;
  vi.spyOn(Route.prototype, 'cross').mockImplementation(async function (this: Route, wanted) {
    crossings += 1;
    const isChosen = (hash32(crossings, oneIn, 0) >>> 0) % oneIn === 0;
    if (wanted.purpose.startsWith('kv') && isChosen) {
      await Promise.resolve();
      throw new DeviceError('launch-failed', 'this crossing fails');
    }
    return cross.call(this, wanted);
  });
}

test.each([
  ['drain-first', '', Number.POSITIVE_INFINITY],
  ['resident', '', Number.POSITIVE_INFINITY],
  ['resident', ', though every sixth crossing fails', 6],
] as const)(
  'tokens are the same with and without tiers under %s%s',
  async (policy, _, oneIn) => {
    const { engine: plain } = await opened({});
    const { engine } = await tiered({ policy });
    if (Number.isFinite(oneIn)) failingCrossings(oneIn);
    await fc.assert(
      fc.asyncProperty(fc.array(wanted, { minLength: 1, maxLength: 6 }), async (all) => {
        expect(await answers(engine, all)).toEqual(await answers(plain, all));
      }),
      { numRuns: 25, seed: 3 },
    );
    expect(crossedPages(engine, 'kv-spill')).toBeGreaterThan(20);
    expect(crossedPages(engine, 'kv-restore')).toBeGreaterThan(20);
    expect(engine.stats().preemptions).toBeGreaterThan(0);
  },
  60_000,
);

test.each([
  ['resident', '', Number.POSITIVE_INFINITY],
  ['overlap', ', though every sixth crossing fails', 6],
] as const)(
  'ranks bring their parts of pages down and back under %s%s',
  async (policy, _, oneIn) => {
    const ranks = 2;
    const { engine: plain } = await opened({}, undefined, ranks);
    const { engine } = await tiered({ policy, ranks });
    if (Number.isFinite(oneIn)) failingCrossings(oneIn);
    await fc.assert(
      fc.asyncProperty(fc.array(wanted, { minLength: 1, maxLength: 6 }), async (all) => {
        expect(await answers(engine, all)).toEqual(await answers(plain, all));
      }),
      { numRuns: 6, seed: 5 },
    );
    const { restored, demoted, spilled } = engine.stats().kv.total;
    expect(Math.min(restored, demoted, spilled)).toBeGreaterThan(0);
  },
  60_000,
);

test.each([1, 2])('prefixes come back instead of being computed, on %d ranks', async (ranks) => {
  const { engine } = await tiered({ ranks });
  expect(await rounds(engine)).toEqual(await plainly());
  // Of each page what every rank has of it.
  const { restored } = engine.stats().kv.total;
  expect(restored).toBeGreaterThan(0);
  expect(crossedPages(engine, 'kv-restore')).toBe(restored);
  // Of 12 prompts 4 were new.
  expect(engine.stats().prefixHitTokens).toBeGreaterThan(6 * 40);
});

test('pages on disk are priced by the disk, which is measured as it works', async () => {
  let prices: KvPrices | undefined;
  const { engine } = await tiered({}, undefined, model, (known) => {
    prices = known;
  });
  const priceOf = (tier: 'host' | 'disk') => [prices!.writeNs(tier), prices!.readNs(tier)];
  const unmeasured = priceOf('disk');
  await rounds(engine);
  expect(engine.stats().kv.total.demoted).toBeGreaterThan(0);
  const [host, disk] = [priceOf('host'), priceOf('disk')];
  expect(disk[1]).toBeGreaterThan(host[1]!);
  expect(disk[0]).not.toBe(unmeasured[0]);
  expect(disk[1]! - host[1]!).not.toBe(disk[0]);
});

test('requests are told what each of them had of stores', async () => {
  const { engine } = await tiered();
  const tokens = { restored: 0, recomputed: 0 };
  for (let round = 0; round < 3; round++) {
    for (let prefix = 0; prefix < 4; prefix++) {
      const wanted = request(`r${asked++}`, promptOf(prefix, 50, round), { maxTokens: 6 });
      const { finish } = await generate(engine, wanted);
      for (const share of finish.kv ?? []) tokens[share.what] += share.tokens;
    }
  }
  const { restored, recomputed } = engine.stats().kv.total;
  const pages = Object.values(recomputed).reduce((sum, each) => sum + each, 0);
  expect(restored).toBeGreaterThan(0);
  expect(tokens.restored).toBe(restored * engine.card.pageTokens);
  expect(tokens.recomputed).toBe(pages * engine.card.pageTokens);
});

test('a lane that is lost takes nothing with it but what it carried', async () => {
  let lane: Lane | undefined;
  const { engine } = await tiered({}, (device) => {
    const openLane = device.openLane.bind(device);
    vi.spyOn(device, 'openLane').mockImplementation(async (options) => {
      const opened = await openLane(options);
      // This step policy has no lanes of its own.
      lane ??= opened;
      return opened;
    });
  });
  const before = await rounds(engine, 0, 2);
  expect(crossedPages(engine, 'kv-restore')).toBeGreaterThan(0);
  await lane!.close();
  expect([...before, ...(await rounds(engine, 2, 3))]).toEqual(await plainly());
});

test('launch after launch, nobody asks again to be told what stores end', async () => {
  const listened = vi.spyOn(PageMover.prototype, 'whenSettled');
  const { engine } = await tiered({ policy: 'resident' });
  // All of it fits into the device, so that nothing moves.
  await generate(engine, request(`r${asked++}`, promptOf(0, 5), { maxTokens: 80 }));
  expect(crossedPages(engine, 'kv-spill')).toBe(0);
  expect(engine.stats().steps).toBeGreaterThan(60);
  expect(listened.mock.calls.length).toBeLessThanOrEqual(1);
});

test('a host without memory is a device without a host', async () => {
  const { engine } = await tiered({}, (device) => {
    const allocateHost = device.allocateHost.bind(device);
    vi.spyOn(device, 'allocateHost').mockImplementation((bytes, memory, label) => {
      if (label.startsWith('kv host')) throw new DeviceError('out-of-memory', 'none');
      return allocateHost(bytes, memory, label);
    });
  });
  expect(await rounds(engine)).toEqual(await plainly());
  expect(crossedPages(engine, 'kv-spill')).toBe(0);
});

/** Where this process reaches the file that has no name. */
async function diskFile(): Promise<string> {
  for (const fd of await readdir('/proc/self/fd')) {
    const path = `/proc/self/fd/${fd}`;
    const target = await readlink(path).catch(() => '');
    if (target.startsWith(join(folder, 'bridgekeeper-kv-'))) return path;
  }
  throw new Error('there is no such file');
}

test.runIf(process.platform === 'linux')('pages that the host changed are computed', async () => {
  const { engine } = await tiered({ hostPages: 3, diskPages: 60 });
  const before = await rounds(engine, 0, 2);
  const file = await open(await diskFile(), 'r+');
  const { size } = await file.stat();
  expect(size).toBeGreaterThan(0);
  await file.write(Buffer.alloc(size, 0xa5), 0, size, 0);
  await file.close();
  expect([...before, ...(await rounds(engine, 2, 3))]).toEqual(await plainly());
});

test('a sleep that lets go of KV changes no answer', async () => {
  const { engine } = await tiered();
  const before = await rounds(engine, 0, 2);
  await engine.sleep({ level: 1, mode: 'wait', keepsKv: false });
  const restored = crossedPages(engine, 'kv-restore');
  await engine.wakeUp();
  expect([...before, ...(await rounds(engine, 2, 3))]).toEqual(await plainly());
  expect(crossedPages(engine, 'kv-restore')).toBeGreaterThanOrEqual(restored);
});

test('a tenant never gets pages of another from any tier', async () => {
  const { engine } = await tiered();
  for (let prefix = 0; prefix < 4; prefix++) await answer(engine, promptOf(prefix, 50), 'a');
  const { prefixHitTokens } = engine.stats();
  const restored = crossedPages(engine, 'kv-restore');
  const { finish } = await generate(engine, request('other', promptOf(0, 50), {}, 'b'));
  expect(finish.cachedTokens).toBe(0);
  expect(engine.stats().prefixHitTokens).toBe(prefixHitTokens);
  expect(crossedPages(engine, 'kv-restore')).toBe(restored);
});

test('what latent attention keeps of a token goes below and comes back the same', async () => {
  const latent = join(folder, 'latent');
  await mkdir(latent);
  await writeModelFolder(latent, LATENT_MODEL);
  const { engine: plain } = await opened({ model: latent });
  const { engine } = await tiered({}, undefined, latent);
  expect(await rounds(engine)).toEqual(await rounds(plain));
  const { totals } = engine.stats().bridge;
  const restored = totals.find(({ purpose }) => purpose === 'kv-restore');
  expect(restored?.bytes).toBeGreaterThan(0);
});
