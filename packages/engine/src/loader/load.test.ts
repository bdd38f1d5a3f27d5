import { mkdir, mkdtemp, readFile, rm, truncate, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CrossingRecord } from '@bridgekeeper/bridge';
import { type Device, openCpuDevice, type Slice, slice } from '@bridgekeeper/device';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import { readModelSpec } from '../models/folder.ts';
import { sliceForRank } from '../models/rank-slice.ts';
import type { ModelSpec } from '../models/spec.ts';
import {
  type ExpertsMatrix,
  type WeightMatrix,
  type Weights,
  weightTensors,
} from '../models/weights.ts';
import { type ModelFolderOptions, writeModelFolder } from '../selftest/model-folder.ts';
import { writeSafetensors } from '../selftest/safetensors-file.ts';
import { parameterCount } from '../testing/parameter-count.ts';
import { Traffic } from '../traffic/traffic.ts';
import {
  type LoadProgress,
  loadRank,
  loadVerbatim,
  loadWeights,
  type WeightOptions,
} from './load.ts';
import { ReaderPool } from './reading/reads.ts';
import type { LoadingStrategy } from './strategy/loading-strategy.ts';

let root: string;
let device: Device;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'load-'));
  device = await openCpuDevice({ threads: 1 });
});
afterAll(async () => {
  await device.close();
  await rm(root, { recursive: true });
});

async function download(from: Slice, owner: Device = device): Promise<Float32Array> {
  const host = owner.allocateHost(from.bytes, 'pinned', 'download');
  await owner.inlineLane.copy({
    direction: 'd2h',
    device: from,
    host,
    hostOffsetBytes: 0,
    stream: owner.createStream('download'),
    purpose: 'probe',
    tenant: 'test',
  });
  const { buffer } = host.bytes.slice();
  owner.freeHost(host);
  return new Float32Array(buffer);
}

/** The values of every tensor; of the scales see below. */
function slicesOf(weights: Weights): Map<string, Slice> {
  const slices = new Map([
    ['embed', weights.embed],
    ['finalNorm', weights.finalNorm],
    ['head', weights.head.weight],
  ]);
  weights.layers.forEach((layer, index) => {
    const { feedForward, deltaNet, latent, ...rest } = layer;
    expect(deltaNet).toBeNull();
    const { kind: _, ...more } = feedForward;
    const roles: Record<string, ExpertsMatrix | WeightMatrix | Slice | null> = {
      ...rest,
      ...more,
      ...latent,
    };
    for (const [role, weight] of Object.entries(roles)) {
      if (weight === null) continue;
      slices.set(`layers.${index}.${role}`, 'weight' in weight ? weight.weight : weight);
    }
  });
  return slices;
}

/** The tensors of a folder of float32 weights in one file, read in the plainest way. */
async function plainTensors(folder: string): Promise<Map<string, number[]>> {
  const file = await readFile(join(folder, 'model.safetensors'));
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes));
  const tensors = new Map<string, number[]>();
  for (const [name, { data_offsets: offsets }] of Object.entries<{ data_offsets: number[] }>(
    header,
  )) {
    if (name === '__metadata__') continue;
    const values: number[] = [];
    for (let at = offsets[0]!; at < offsets[1]!; at += 4) {
      values.push(file.readFloatLE(8 + headerBytes + at));
    }
    tensors.set(name, values);
  }
  return tensors;
}

/** All that crosses between this process and `on`. */
function trafficOf(on: Device, crossings: CrossingRecord[] = []): Traffic {
  const onCrossing = (record: CrossingRecord) => crossings.push(record);
  return new Traffic({ device: on, profile: null, onCrossing });
}

async function load(folder: string, more: Partial<WeightOptions> = {}) {
  const spec = await readModelSpec(folder);
  const checkpoint = await openCheckpoint(folder);
  const crossings: CrossingRecord[] = [];
  const traffic = trafficOf(more.device ?? device, crossings);
  const steps: LoadProgress[] = [];
  try {
    const loaded = await loadWeights({
      spec,
      source: checkpoint,
      device,
      traffic,
      onProgress: (progress) => steps.push(progress),
      ...more,
    });
    return { spec, loaded, crossings, steps, traffic };
  } finally {
    await traffic.closeReserved();
    await checkpoint.close();
  }
}

async function expectWeights(
  spec: ModelSpec,
  weights: Weights,
  reference: Map<string, number[]>,
  owner: Device = device,
) {
  const slices = slicesOf(weights);
  const plan = weightTensors(spec);
  expect([...slices.keys()].sort()).toEqual(
    [...plan.map(({ label }) => label), ...(spec.tiedHead ? ['head'] : [])].sort(),
  );
  for (const { label, sources } of plan) {
    const expected = sources.flatMap(({ name }) => reference.get(name)!);
    expect([...(await download(slices.get(label)!, owner))], label).toEqual(expected);
  }
}

/** Chunks as small as may be, so that they cut tensors. */
const SMALL: LoadingStrategy = {
  crossedBy: 'lanes',
  contexts: 0,
  chunkBytes: 4096,
  memory: 'pinned',
  readers: 0,
  direct: false,
};
const small = { strategy: SMALL, stagingBytes: 8192 } as const;
/** Threads that copy four pieces of a chunk by themselves. */
const READERS: LoadingStrategy = { ...SMALL, crossedBy: 'readers', readers: 2, chunkBytes: 16_384 };
const byReaders = { strategy: READERS, stagingBytes: 32_768 } as const;

const CASES: readonly (readonly [string, ModelFolderOptions, Partial<WeightOptions>])[] = [
  ['Llama, bf16', {}, {}],
  ['Llama, f16, chunks that cut tensors', { storedType: 'f16' }, small],
  ['Llama, f32, three shards', { storedType: 'f32', shards: 3 }, small],
  [
    'Mistral, tied, two shards',
    { architecture: 'MistralForCausalLM', tiedHead: true, shards: 2 },
    {},
  ],
  [
    'Qwen2 with biases, read by threads from pageable memory',
    { architecture: 'Qwen2ForCausalLM' },
    { ...small, strategy: { ...SMALL, readers: 3, memory: 'pageable' } },
  ],
  [
    'Llama, f32, past the page cache',
    { storedType: 'f32', shards: 2 },
    { ...small, strategy: { ...SMALL, readers: 2, direct: true } },
  ],
  ['Llama, f16, by threads that copy what they read', { storedType: 'f16' }, byReaders],
  [
    'Qwen2, bf16, three shards, by one such thread past the page cache',
    { architecture: 'Qwen2ForCausalLM', shards: 3 },
    { strategy: { ...READERS, readers: 5, direct: true }, stagingBytes: 8192 },
  ],
  ['Qwen3 with head norms', { architecture: 'Qwen3ForCausalLM', storedType: 'f16' }, {}],
];

describe('loading a checkpoint', () => {
  test.each(CASES)('%s', async (name, options, more) => {
    const folder = join(root, name);
    const plain = join(root, `${name} plain`);
    await writeModelFolder(folder, options);
    await writeModelFolder(plain, { ...options, storedType: 'f32', shards: 1 });
    const before = device.counters();
    const { spec, loaded, crossings, steps, traffic } = await load(folder, more);
    const after = device.counters();
    expect(loaded.unusedTensors).toEqual([]);
    expect(loaded.weights.head.weight === loaded.weights.embed).toBe(options.tiedHead ?? false);

    const bytes = crossings.reduce((total, crossing) => total + crossing.bytes, 0);
    expect(bytes).toBe(after.h2dBytes - before.h2dBytes);
    expect(bytes).toBe(loaded.report!.bytes);
    expect(traffic.snapshot().totals).toMatchObject([
      { purpose: 'weights', direction: 'h2d', bytes, crossings: after.copies - before.copies },
    ]);
    expect(new Set(crossings.map(({ purpose }) => purpose))).toEqual(new Set(['weights']));
    expect(crossings.length).toBeGreaterThanOrEqual(more.strategy === undefined ? 1 : bytes / 4096);
    expect(loaded.report!.stagingPeakBytes).toBeLessThanOrEqual(more.stagingBytes ?? 2 ** 25);
    expect(steps.map(({ bytesDone }) => bytesDone)).toEqual(
      steps.map(({ bytesDone }) => bytesDone).sort((a, b) => a - b),
    );
    expect(steps.at(-1)).toMatchObject({ bytesDone: bytes, bytesTotal: bytes });

    await expectWeights(spec, loaded.weights, await plainTensors(plain));
    for (const buffer of loaded.buffers) device.free(buffer);
    expect(device.counters().allocatedBytes).toBe(before.allocatedBytes);
  });

  test('over two lanes of their own', async () => {
    const folder = join(root, 'lanes');
    await writeModelFolder(folder, { storedType: 'f32' });
    const crossings: CrossingRecord[] = [];
    const traffic = trafficOf(device, crossings);
    const strategy = { ...SMALL, contexts: 2 };
    const checkpoint = await openCheckpoint(folder);
    const spec = await readModelSpec(folder);
    const loaded = await loadWeights({
      spec,
      source: checkpoint,
      device,
      traffic,
      strategy,
      stagingBytes: 32_768,
    });
    const lanes = new Set(crossings.map(({ lane }) => lane));
    expect(lanes.size).toBe(2);
    await expectWeights(spec, loaded.weights, await plainTensors(folder));
    for (const buffer of loaded.buffers) device.free(buffer);
    const taken = await traffic.openRoute('drain');
    expect(lanes).toContain(taken.lanes[0]!.id);
    await traffic.closeReserved();
    await traffic.closeRoute(taken);
    await checkpoint.close();
  });

  test.each([
    ['lanes', small],
    ['readers', byReaders],
  ] as const)('tensors at odd places, converted, crossed by %s', async (crossers, more) => {
    const folder = join(root, `odd ${crossers}`);
    const plain = join(root, `odd plain ${crossers}`);
    await writeModelFolder(folder, { storedType: 'f16', startRemainder: 1 });
    await writeModelFolder(plain, { storedType: 'f32' });
    const { spec, loaded } = await load(folder, more);
    await expectWeights(spec, loaded.weights, await plainTensors(plain));
    for (const buffer of loaded.buffers) device.free(buffer);
  });
});

const HALVES = { of: 2, wholeExperts: false } as const;

test('ranks hold their parts and nothing else', async () => {
  const folder = join(root, 'ranks');
  await writeModelFolder(folder, { storedType: 'f32', architecture: 'Qwen2ForCausalLM' });
  const spec = await readModelSpec(folder);
  const whole = await plainTensors(folder);
  const ranks = [0, 1].map((index) =>
    sliceForRank(weightTensors(spec), spec, { index, ...HALVES }),
  );
  const checkpoint = await openCheckpoint(folder);
  for (const [index, tensors] of ranks.entries()) {
    const traffic = trafficOf(device);
    const options = { spec, source: checkpoint, device, traffic, ...small };
    const { parts, buffers } = await loadRank(options, { index, ...HALVES });
    for (const { name, arena, offsetBytes, outBytes } of parts) {
      const planned = tensors.flatMap(({ sources }) => sources).find((each) => each.name === name)!;
      const { rows, columns } = planned.selection ?? {
        rows: [0, planned.shape[0]!],
        columns: [0, planned.shape[1] ?? 1],
      };
      const width = planned.shape[1] ?? 1;
      const expected = whole.get(name)!.filter((_, i) => {
        const [row, column] = [Math.floor(i / width), i % width];
        const isRow = row >= rows[0]! && row < rows[1]!;
        return isRow && column >= columns[0]! && column < columns[1]!;
      });
      const found = await download({ buffer: buffers[arena]!, offsetBytes, bytes: outBytes });
      expect([...found], name).toEqual(expected);
    }
    for (const buffer of buffers) device.free(buffer);
  }
  await checkpoint.close();
  const held = ranks.map((tensors) => tensors.reduce((total, { elements }) => total + elements, 0));
  expect(held[0]! + held[1]!).toBeGreaterThan(parameterCount(spec));
  expect(Math.max(...held)).toBeLessThan(parameterCount(spec));
});

test('verbatim: every tensor of the files, as it is stored', async () => {
  const folder = join(root, 'verbatim');
  const blocks = Uint8Array.from({ length: 10_001 }, (_, i) => i * 7);
  const scales = Uint8Array.from({ length: 33 }, (_, i) => 127 + i);
  await mkdir(folder);
  await writeSafetensors(join(folder, 'model.safetensors'), [
    { name: 'experts_blocks', dtype: 'U8', shape: [10_001], bytes: blocks },
    { name: 'experts_scales', dtype: 'U8', shape: [33], bytes: scales },
    { name: 'empty', dtype: 'F32', shape: [0], bytes: new Uint8Array(0) },
  ]);
  const source = await openCheckpoint(folder);
  const traffic = trafficOf(device);
  const { parts, buffers } = await loadVerbatim({ source, device, traffic, ...small });
  await source.close();
  const found = await Promise.all(
    parts.map(async ({ arena, offsetBytes, outBytes }) => {
      const bytes = Math.ceil(outBytes / 4) * 4;
      const words = await download({ buffer: buffers[arena]!, offsetBytes, bytes });
      return new Uint8Array(words.buffer, 0, outBytes);
    }),
  );
  expect(found).toEqual([blocks, scales]);
  for (const buffer of buffers) device.free(buffer);
});

describe('failures free what was taken', () => {
  test.each([
    ['lanes', small],
    ['readers', byReaders],
  ] as const)('a file that shrinks under way, crossed by %s', async (crossers, more) => {
    const folder = join(root, `shrinks ${crossers}`);
    await writeModelFolder(folder);
    const spec = await readModelSpec(folder);
    const checkpoint = await openCheckpoint(folder);
    await truncate(join(folder, 'model.safetensors'), 60_000);
    const before = device.counters().allocatedBytes;
    const loading = loadWeights({
      spec,
      source: checkpoint,
      device,
      traffic: trafficOf(device),
      ...more,
    });
    await expect(loading).rejects.toMatchObject({ name: 'ModelError', code: 'inconsistent' });
    expect(device.counters().allocatedBytes).toBe(before);
    await checkpoint.close();
  });

  test.each(['lanes', 'readers'] as const)('threads that have died, where %s cross', async (by) => {
    const folder = join(root, `dead ${by}`);
    await writeModelFolder(folder);
    const readers = new ReaderPool();
    await Promise.all(readers.workers(2).map((worker) => worker.terminate()));
    const before = device.counters().allocatedBytes;
    const strategy: LoadingStrategy = { ...READERS, crossedBy: by };
    const loading = load(folder, { strategy, readers, stagingBytes: 65_536 });
    await expect(loading).rejects.toMatchObject({ name: 'ModelError', code: 'unreadable' });
    expect(device.counters().allocatedBytes).toBe(before);
    await readers.close();
  });

  test('a file that is written to under way', async () => {
    const folder = join(root, 'written');
    await writeModelFolder(folder);
    const spec = await readModelSpec(folder);
    const checkpoint = await openCheckpoint(folder);
    const before = device.counters().allocatedBytes;
    const loading = loadWeights({
      spec,
      source: checkpoint,
      device,
      traffic: trafficOf(device),
      onProgress: () => void utimes(join(folder, 'model.safetensors'), 1, 1),
      ...small,
    });
    await expect(loading).rejects.toMatchObject({ name: 'ModelError', code: 'inconsistent' });
    expect(device.counters().allocatedBytes).toBe(before);
    await checkpoint.close();
  });

  test('a lane that dies: the message says which file, where, and which tensor', async () => {
    const folder = join(root, 'dies');
    await writeModelFolder(folder);
    const traffic = trafficOf(device);
    const { lanes } = await traffic.bulkRoute(1);
    await lanes[0]!.close();
    const before = device.counters().allocatedBytes;
    const loading = load(folder, {
      traffic,
      strategy: { ...SMALL, contexts: 1 },
      stagingBytes: 8192,
    });
    await expect(loading).rejects.toMatchObject({
      name: 'DeviceError',
      message: expect.stringMatching(/model\.safetensors at \d+ \(tensor .+\) did not cross/),
    });
    expect(device.counters().allocatedBytes).toBe(before);
  });

  test('a device that is too small', async () => {
    const folder = join(root, 'large');
    await writeModelFolder(folder);
    const tiny = await openCpuDevice({ threads: 1, memoryBytes: 1024 });
    const loading = load(folder, { device: tiny });
    await expect(loading).rejects.toMatchObject({ name: 'DeviceError', code: 'out-of-memory' });
    expect(tiny.counters().allocatedBytes).toBe(0);
    await tiny.close();
  });
});

test('dummy weights look like fresh ones and cross nothing', async () => {
  const folder = join(root, 'dummy');
  await writeModelFolder(folder, { architecture: 'Qwen2ForCausalLM' });
  const before = device.counters().h2dBytes;
  const { loaded, crossings } = await load(folder, { source: 'dummy' });
  expect(crossings).toEqual([]);
  expect(device.counters().h2dBytes).toBe(before);
  expect(loaded.report).toBeNull();
  const [layer] = loaded.weights.layers;
  expect(new Set(await download(layer!.inputNorm!))).toEqual(new Set([1]));
  expect(new Set(await download(layer!.qkvBias!))).toEqual(new Set([0]));
  const embed = await download(loaded.weights.embed);
  const mean = embed.reduce((sum, value) => sum + value, 0) / embed.length;
  const variance = embed.reduce((sum, value) => sum + value * value, 0) / embed.length;
  expect(mean).toBeCloseTo(0, 3);
  expect(Math.sqrt(variance)).toBeCloseTo(0.02, 3);
  const [first, second] = loaded.weights.layers.map(({ qkv }) => qkv.weight);
  expect(await download(first!)).not.toEqual(await download(second!));
  for (const buffer of loaded.buffers) device.free(buffer);
});

test('constants are uploaded whole, in pieces of the staging buffer', async () => {
  const values = Float32Array.from({ length: 10 * 2 ** 20 }, (_, i) => i);
  const buffer = device.allocate(values.byteLength, 'constants');
  const crossings: CrossingRecord[] = [];
  const traffic = trafficOf(device, crossings);
  await traffic.upload(new Uint8Array(values.buffer), slice(buffer));
  expect(crossings.map(({ bytes }) => bytes / 2 ** 20)).toEqual([16, 16, 8]);
  const found = await download(slice(buffer));
  expect(Buffer.compare(new Uint8Array(found.buffer), new Uint8Array(values.buffer))).toBe(0);
  device.free(buffer);
});
