import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CrossingRecord, profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import {
  type Device,
  openCudaDevice,
  openCudaRanks,
  slice,
  splitDevice,
} from '@bridgekeeper/device';
import {
  commonVariants,
  kernelProgram,
  LIBRARY_INDEX,
  type LibraryFile,
  libraryKey,
} from '@bridgekeeper/device/kernels';
import { compileStubGpu, hasCompiler, type StubGpu } from '@bridgekeeper/device/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openCheckpoint } from './checkpoint/checkpoint.ts';
import { createEngine, type EngineOptions, prepareModel } from './create.ts';
import { loadVerbatim } from './loader/load.ts';
import { deriveStrategy, type LoadingStrategy } from './loader/strategy/loading-strategy.ts';
import { measureDecode } from './measure/steps.ts';
import { writeModelFolder } from './selftest/model-folder.ts';
import { Traffic } from './traffic/traffic.ts';

const LAW = 'b300-cc';
/** They multiply by warpgroups. */
const HOPPER_UNITS = ['attention-prefill-hopper.cu', 'linear-skinny.cu'];

/** Everything around kernels, as it is on a GPU. */
describe.each(hasCompiler ? ['stub GPU'] : [])('on a %s', () => {
  let root: string;
  let gpu: StubGpu;
  let model: string;
  const path = process.env.LD_LIBRARY_PATH;
  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), 'engine-cuda-'));
    gpu = compileStubGpu(root);
    process.env.LD_LIBRARY_PATH = gpu.folder;
    model = join(root, 'model');
    await writeModelFolder(model, { shards: 2 });
  });
  afterAll(() => {
    if (path === undefined) delete process.env.LD_LIBRARY_PATH;
    else process.env.LD_LIBRARY_PATH = path;
    rmSync(root, { recursive: true });
  });

  const small = (device: Device): EngineOptions => ({
    device,
    model,
    dummy: true,
    policy: 'drain-first',
    seed: 1,
    burst: { tollNs: 0, interTokenLimitNs: 5e7 },
    maxModelTokens: 64,
    maxRows: 8,
    maxBatchTokens: 64,
    pageTokens: 16,
    memoryUtilization: 0.5,
    kvBytes: 2 ** 22,
    prefixCaching: true,
    chunkedPrefill: true,
    maxWaiting: 4,
    quantization: undefined,
    kvFormat: 'element',
  });

  let caches = 0;
  const open = (law: typeof LAW | null = null) =>
    openCudaDevice({
      driverPath: gpu.driverPath,
      kernelCacheFolder: join(root, `kernels ${caches++}`),
      law: law === null ? null : profileLaw(referenceProfile(law)),
    });

  test.each([null, LAW] as const)(
    'KV crosses from staging to host and disk and back, law %s',
    async (law) => {
      const device = await open(law);
      const hostBytes = 4 * 2 ** 20;
      const disk = { folder: root, bytes: hostBytes };
      const tiers = { hostBytes, disk, spillLaneShare: 1, policy: 'lru' } as const;
      const bridge = referenceProfile(LAW);
      const prepared = await prepareModel({ ...small(device), tiers, bridge });
      const { traffic, parts } = prepared;
      const { mover, host, close } = prepared.tiers!;
      await host.grow();
      // Kernels do nothing: what is in staging stands for what they would have gathered there.
      const { kvSpills, kvRestores } = parts.buffers;
      const pageBytes = parts.buffers.kv.bytes / prepared.shape.kvPages;
      const pages = Uint8Array.from({ length: 3 * pageBytes }, (_, i) => (i * 7) >> 3);
      await traffic.upload(pages, slice(kvSpills));
      const moves = [0, 1, 2].map((slot) => {
        return { part: 'context', slot, page: slot, key: `${slot}` } as const;
      });
      expect(mover.spill({ tenant: 'a', moves })).toBe(3);
      mover.queueMoves();
      const demotions = moves.map(({ slot, key }) => {
        return { part: 'context', hostSlot: slot, diskSlot: 2 - slot, key } as const;
      });
      mover.demote('a', demotions);
      const arrived = async () => {
        mover.queueMoves();
        await mover.idle();
        const all = mover.settled().filter(({ kind }) => kind !== 'spilled');
        return {
          all,
          bytes: await traffic.download(slice(kvRestores, 0, pages.length), parts.stream, 'probe'),
        };
      };
      mover.restore({ tenant: 'a', moves, from: 'host' });
      const fromHost = await arrived();
      expect(fromHost).toMatchObject({ all: [{ kind: 'restored' }], bytes: pages });
      const fromDisk = moves.map(({ slot, ...move }) => ({ ...move, slot: 2 - slot }));
      mover.restore({ tenant: 'a', moves: fromDisk, from: 'disk' });
      const { all, bytes } = await arrived();
      expect(all).toMatchObject([{ kind: 'restored', bytes: pages.length }]);
      // In the order of their slots.
      for (const page of [0, 1, 2]) {
        const at = (2 - page) * pageBytes;
        const expected = pages.subarray(page * pageBytes, (page + 1) * pageBytes);
        expect(Buffer.compare(bytes.subarray(at, at + pageBytes), expected)).toBe(0);
      }
      await close();
      await device.close();
    },
  );

  test('a start compiles all its kernels on other threads, and only once', async () => {
    const device = await open();
    const before = [gpu.read('compiledByCaller'), gpu.read('compiledElsewhere')];
    const engine = await createEngine(small(device));
    expect(gpu.read('compiledByCaller')).toBe(before[0]);
    expect(gpu.read('compiledElsewhere') - before[1]!).toBeGreaterThan(3);
    expect(device.counters().copies).toBeLessThan(4);
    await engine.shutdown(0);
  });

  test.each([1, 2])('two ranks on %i GPUs load, capture and launch alike', async (gpus) => {
    const folder = join(root, `${gpus} GPUs`);
    mkdirSync(folder);
    const stub = compileStubGpu(folder, { gpus });
    const { driverPath } = stub;
    const options = { driverPath, kernelCacheFolder: join(folder, 'kernels') };
    const device =
      gpus === 1 ? splitDevice(await openCudaDevice(options), 2) : await openCudaRanks(2, options);
    const prepared = await prepareModel({ ...small(device), dummy: false, maxRows: 2 });
    expect(prepared.loaded.bytes).toBeLessThan(prepared.memory.weightBytes * 1.01);
    const setting = { batch: 2, contextTokens: 8, repeats: 1, steps: 4 };
    const { graphLaunches } = device.counters();
    await measureDecode(device, prepared, setting);
    expect(device.counters().graphLaunches).toBeGreaterThan(graphLaunches);
    // Behind one that waits, a GPU's other copies stand still, and with them what it waits for.
    expect(stub.read('peerCopies')).toBe(0);
    await device.close();
  });

  test('ranks that no GPU is for are refused', async () => {
    const ranks = openCudaRanks(2, { driverPath: gpu.driverPath });
    await expect(ranks).rejects.toThrow('2 ranks need as many GPUs, and the driver sees 1');
  });

  async function load(device: Device, strategy: LoadingStrategy) {
    const source = await openCheckpoint(model);
    const crossings: CrossingRecord[] = [];
    const before = device.counters();
    const onCrossing = (record: CrossingRecord) => crossings.push(record);
    const traffic = new Traffic({ device, profile: null, onCrossing });
    const { buffers, report } = await loadVerbatim({ device, traffic, source, strategy });
    const after = device.counters();
    expect(after.h2dBytes - before.h2dBytes).toBe(report.bytes);
    expect(after.copies - before.copies).toBe(crossings.length);
    await traffic.closeReserved();
    for (const buffer of buffers) device.free(buffer);
    expect(device.counters().allocatedBytes).toBe(before.allocatedBytes);
    await source.close();
    return { crossings, report };
  }

  test.each([
    ['Hopper', { major: 9, minor: 0, multiprocessors: 132 }, HOPPER_UNITS],
    ['Blackwell', { major: 10, minor: 3, multiprocessors: 148 }, []],
  ])('%s gets only kernels that it can run', async (name, traits, hopperUnits) => {
    const folder = join(root, name);
    mkdirSync(folder);
    const other = compileStubGpu(folder, traits);
    process.env.LD_LIBRARY_PATH = folder;
    try {
      const wide = join(folder, 'model');
      await writeModelFolder(wide, { config: { head_dim: 64 } });
      const device = await openCudaDevice({
        driverPath: other.driverPath,
        kernelCacheFolder: join(folder, 'kernels'),
      });
      const engine = await createEngine({ ...small(device), model: wide });
      const units = new Set(other.compiledUnits());
      expect(units).toContain('attention-decode.cu');
      expect([...units].filter((unit) => HOPPER_UNITS.includes(unit)).sort()).toEqual(hopperUnits);
      await engine.shutdown(0);
    } finally {
      process.env.LD_LIBRARY_PATH = gpu.folder;
    }
  });

  test.each(['element', 'fp8-e4m3'] as const)(
    'a common model with KV as %s compiles nothing where kernels were compiled ahead',
    async (kvFormat) => {
      const folder = join(root, `ahead ${kvFormat}`);
      const wide = join(folder, 'model');
      const library = join(folder, 'compiled');
      mkdirSync(library, { recursive: true });
      const heads = { head_dim: 128, num_attention_heads: 8, num_key_value_heads: 2 };
      await writeModelFolder(wide, { config: heads });
      const sha256 = createHash('sha256').update('code').digest('hex');
      const files: Record<string, LibraryFile> = {};
      for (const { unit, defines, targets } of commonVariants()) {
        const key = libraryKey(kernelProgram(unit, 'sm_90a', defines));
        files[key] = { unit, targets, bytes: 4, sha256 };
        writeFileSync(join(library, `${key}.fatbin`), 'code');
      }
      writeFileSync(join(library, LIBRARY_INDEX), JSON.stringify({ compiler: 'test', files }));
      const device = await openCudaDevice({
        driverPath: gpu.driverPath,
        kernelCacheFolder: join(folder, 'kernels'),
        kernelLibraryFolder: library,
      });
      const options = { ...small(device), model: wide, maxRows: 64, kvFormat };
      const engine = await createEngine(options);
      expect(engine.card.notes.join()).toMatch(/^kernels: \d+ were compiled when this was packed/);
      expect(engine.card.notes.join()).not.toContain('by this start');
      await engine.shutdown(0);
    },
  );

  test('without a law, threads that read copy what they have read', async () => {
    const device = await open();
    const own = { deviceKind: 'cuda', cores: 4, gpus: 1 } as const;
    const facts = { ...own, profile: null, isImposed: false };
    const { crossings, report } = await load(device, {
      ...deriveStrategy(facts),
      chunkBytes: 32_768,
    });
    expect(report.strategy).toMatchObject({ crossedBy: 'readers', readers: 3 });
    expect(crossings.every(({ lane }) => lane.startsWith('reader-'))).toBe(true);
    expect(Math.max(...crossings.map(({ bytes }) => bytes))).toBe(4096);
    await device.close();
  });

  test.each([0, 1])('under a law, lanes cross, with %i contexts of their own', async (contexts) => {
    const device = await open(LAW);
    expect(device.uploaderStart()).toBeNull();
    const profile = referenceProfile(LAW);
    const strategy = deriveStrategy({
      deviceKind: 'cuda',
      profile,
      isImposed: true,
      cores: 4,
      gpus: 1,
    });
    const { crossings } = await load(device, { ...strategy, contexts, chunkBytes: 32_768 });
    expect(new Set(crossings.map(({ lane }) => lane)).size).toBe(1);
    const least = Math.min(
      ...crossings.map(({ startedNs, completedNs }) => completedNs - startedNs),
    );
    expect(least).toBeGreaterThanOrEqual(profile.crossings.h2d[strategy.memory].idleTollNs);
    await device.close();
  });
});
