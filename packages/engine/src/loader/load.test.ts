import { mkdtemp, readFile, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CrossingRecord } from '@bridgekeeper/bridge';
import {
  type Device,
  f32FromBf16,
  openCpuDevice,
  openModelDevice,
  type Slice,
  VirtualClock,
} from '@bridgekeeper/device';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readModelSpec } from '../models/folder.ts';
import type { ModelSpec } from '../models/spec.ts';
import { type WeightMatrix, type Weights, weightPlan } from '../models/weights.ts';
import { type ModelFolderOptions, writeModelFolder } from '../testing/model-folder.ts';
import { openCheckpoint } from './checkpoint.ts';
import { type LoadOptions, type LoadProgress, loadWeights } from './load.ts';
import { uploadBytes } from './upload.ts';

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
  if (owner.info.element === 'bf16') return f32FromBf16(new Uint16Array(buffer));
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
    for (const [role, weight] of Object.entries(layer) as [string, WeightMatrix | Slice | null][]) {
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

async function load(folder: string, more: Partial<LoadOptions> = {}) {
  const spec = await readModelSpec(folder);
  const checkpoint = await openCheckpoint(folder);
  const crossings: CrossingRecord[] = [];
  const steps: LoadProgress[] = [];
  try {
    const loaded = await loadWeights({
      spec,
      source: checkpoint,
      device,
      lanes: [device.inlineLane],
      onCrossing: (record) => crossings.push(record),
      onProgress: (progress) => steps.push(progress),
      ...more,
    });
    return { spec, loaded, crossings, steps };
  } finally {
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
  const plan = weightPlan(spec);
  expect([...slices.keys()].sort()).toEqual(
    [...plan.map(({ label }) => label), ...(spec.tiedHead ? ['head'] : [])].sort(),
  );
  for (const { label, sources } of plan) {
    const expected = sources.flatMap(({ name }) => reference.get(name)!);
    expect([...(await download(slices.get(label)!, owner))], label).toEqual(expected);
  }
}

const CASES: readonly (readonly [string, ModelFolderOptions, Partial<LoadOptions>])[] = [
  ['Llama, bf16', {}, {}],
  ['Llama, f16, windows that cut tensors', { storedType: 'f16' }, { stagingBytes: 1024 }],
  ['Llama, f32, three shards', { storedType: 'f32', shards: 3 }, { stagingBytes: 4096 }],
  [
    'Mistral, tied, two shards',
    { architecture: 'MistralForCausalLM', tiedHead: true, shards: 2 },
    {},
  ],
  ['Qwen2 with biases', { architecture: 'Qwen2ForCausalLM' }, { stagingBytes: 2048 }],
  ['Qwen3 with head norms', { architecture: 'Qwen3ForCausalLM', storedType: 'f16' }, {}],
];

describe('loading a checkpoint', () => {
  test.each(CASES)('%s', async (name, options, more) => {
    const folder = join(root, name);
    const plain = join(root, `${name} plain`);
    await writeModelFolder(folder, options);
    await writeModelFolder(plain, { ...options, storedType: 'f32', shards: 1 });
    const before = device.counters();
    const { spec, loaded, crossings, steps } = await load(folder, more);
    const after = device.counters();
    expect(loaded.unusedTensors).toEqual([]);
    expect(loaded.weights.head.weight === loaded.weights.embed).toBe(options.tiedHead ?? false);

    const bytes = crossings.reduce((total, crossing) => total + crossing.bytes, 0);
    expect(bytes).toBe(after.h2dBytes - before.h2dBytes);
    expect(bytes).toBe(loaded.progress.bytesTotal);
    expect(new Set(crossings.map(({ purpose }) => purpose))).toEqual(new Set(['weights']));
    expect(crossings).toHaveLength(Math.ceil(bytes / (more.stagingBytes ?? 16 * 1024 * 1024)));
    expect(steps.map(({ bytesDone }) => bytesDone)).toEqual(
      steps.map(({ bytesDone }) => bytesDone).sort((a, b) => a - b),
    );
    expect(steps.at(-1)).toEqual(loaded.progress);
    expect(loaded.progress.bytesDone).toBe(bytes);

    await expectWeights(spec, loaded.weights, await plainTensors(plain));
    for (const buffer of loaded.buffers) device.free(buffer);
    expect(device.counters().allocatedBytes).toBe(before.allocatedBytes);
  });

  test.each(['bf16', 'f16', 'f32'] as const)('%s into a bf16 device', async (storedType) => {
    const folder = join(root, `into bf16 from ${storedType}`);
    const plain = join(root, `plain of ${storedType}`);
    await writeModelFolder(folder, { storedType });
    await writeModelFolder(plain, { storedType: 'f32' });
    const clock = new VirtualClock();
    clock.runFreely();
    const modelled = openModelDevice({ clock, law: null });
    const lanes = [modelled.inlineLane];
    const options = { device: modelled, lanes, stagingBytes: 4096 };
    const { spec, loaded } = await load(folder, options);
    await expectWeights(spec, loaded.weights, await plainTensors(plain), modelled);
    await modelled.close();
  });

  test('over two lanes of their own', async () => {
    const folder = join(root, 'lanes');
    await writeModelFolder(folder, { storedType: 'f32' });
    const lanes = await Promise.all(
      ['one', 'two'].map((label) => device.openLane({ label, context: 'own' })),
    );
    const { spec, loaded, crossings } = await load(folder, { lanes, stagingBytes: 4096 });
    expect(new Set(crossings.map(({ lane }) => lane))).toEqual(new Set(lanes.map(({ id }) => id)));
    await expectWeights(spec, loaded.weights, await plainTensors(folder));
    for (const buffer of loaded.buffers) device.free(buffer);
    for (const lane of lanes) await lane.close();
  });
});

describe('failures free what was taken', () => {
  test('a file that shrinks under way', async () => {
    const folder = join(root, 'shrinks');
    await writeModelFolder(folder);
    const spec = await readModelSpec(folder);
    const checkpoint = await openCheckpoint(folder);
    await truncate(join(folder, 'model.safetensors'), 60_000);
    const before = device.counters().allocatedBytes;
    const loading = loadWeights({
      spec,
      source: checkpoint,
      device,
      lanes: [device.inlineLane],
      onCrossing: () => undefined,
      stagingBytes: 1024,
    });
    await expect(loading).rejects.toMatchObject({ name: 'ModelError', code: 'wrong-size' });
    expect(device.counters().allocatedBytes).toBe(before);
    await checkpoint.close();
  });

  test('a device that is too small', async () => {
    const folder = join(root, 'large');
    await writeModelFolder(folder);
    const small = await openCpuDevice({ threads: 1, memoryBytes: 1024 });
    const loading = load(folder, { device: small, lanes: [small.inlineLane] });
    await expect(loading).rejects.toMatchObject({ name: 'DeviceError', code: 'out-of-memory' });
    expect(small.counters().allocatedBytes).toBe(0);
    await small.close();
  });
});

test('dummy weights look like fresh ones and cross nothing', async () => {
  const folder = join(root, 'dummy');
  await writeModelFolder(folder, { architecture: 'Qwen2ForCausalLM' });
  const before = device.counters().h2dBytes;
  const { loaded, crossings } = await load(folder, { source: 'dummy' });
  expect(crossings).toEqual([]);
  expect(device.counters().h2dBytes).toBe(before);
  expect(loaded.progress.bytesDone).toBe(loaded.progress.bytesTotal);
  const [layer] = loaded.weights.layers;
  expect(new Set(await download(layer!.inputNorm))).toEqual(new Set([1]));
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
  const values = Float32Array.from({ length: 3_000 }, (_, i) => i);
  const buffer = device.allocate(values.byteLength, 'constants');
  const crossings: CrossingRecord[] = [];
  await uploadBytes({
    device,
    lane: device.inlineLane,
    bytes: new Uint8Array(values.buffer),
    to: { buffer, offsetBytes: 0, bytes: buffer.bytes },
    onCrossing: (record) => crossings.push(record),
    stagingBytes: 4096,
  });
  expect(crossings.map(({ bytes }) => bytes)).toEqual([4096, 4096, 3808]);
  expect(await download({ buffer, offsetBytes: 0, bytes: buffer.bytes })).toEqual(values);
  device.free(buffer);
});
