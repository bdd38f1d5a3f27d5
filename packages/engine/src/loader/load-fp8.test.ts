import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Device, openCpuDevice, type Slice } from '@bridgekeeper/device';
import { f32FromE4m3 } from '@bridgekeeper/device/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import { readModelSpec } from '../models/folder.ts';
import type { WeightMatrix } from '../models/weights.ts';
import { weightTensors } from '../models/weights.ts';
import { type ModelFolderOptions, writeModelFolder } from '../selftest/model-folder.ts';
import { type TensorData, writeSafetensors } from '../selftest/safetensors-file.ts';
import { Traffic } from '../traffic/traffic.ts';
import { loadWeights } from './load.ts';
import { loadNotes } from './notes.ts';
import { weightBytes } from './tensors/layout.ts';

let root: string;
let folders = 0;
let device: Device;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'load-fp8-'));
  device = await openCpuDevice({ threads: 1 });
});
afterAll(async () => {
  await device.close();
  await rm(root, { recursive: true });
});

const BLOCKS = { quant_method: 'fp8', weight_block_size: [32, 32] };
const TENSORS = { quant_method: 'fp8', activation_scheme: 'static' };

async function folderOf(options: ModelFolderOptions): Promise<string> {
  folders += 1;
  const folder = join(root, String(folders));
  await writeModelFolder(folder, options);
  return folder;
}

async function load(folder: string, stagingBytes?: number, isDummy = false) {
  const spec = await readModelSpec(folder);
  const checkpoint = await openCheckpoint(folder);
  const traffic = new Traffic({ device, profile: null });
  try {
    const loaded = await loadWeights({
      spec,
      source: isDummy ? 'dummy' : checkpoint,
      device,
      traffic,
      strategy: {
        crossedBy: 'lanes',
        contexts: 0,
        chunkBytes: 4096,
        memory: 'pinned',
        readers: 0,
        direct: false,
      },
      stagingBytes,
    });
    const crossedBytes = traffic.snapshot().totals.reduce((sum, { bytes }) => sum + bytes, 0);
    return { spec, loaded, crossedBytes };
  } finally {
    await checkpoint.close();
  }
}

async function download(from: Slice): Promise<Uint8Array> {
  const host = device.allocateHost(from.bytes, 'pinned', 'download');
  await device.inlineLane.copy({
    direction: 'd2h',
    device: from,
    host,
    hostOffsetBytes: 0,
    purpose: 'probe',
    stream: device.createStream('download'),
    tenant: 'test',
  });
  const bytes = host.bytes.slice();
  device.freeHost(host);
  return bytes;
}

async function scalesOf(matrix: WeightMatrix): Promise<number[]> {
  return [...new Float32Array((await download(matrix.scales!)).buffer)];
}

/** The tensors of a folder's file as they are written. */
async function tensorsIn(folder: string): Promise<TensorData[]> {
  const file = await readFile(join(folder, 'model.safetensors'));
  const headerBytes = Number(file.readBigUInt64LE(0));
  const { __metadata__: _, ...header } = JSON.parse(file.toString('utf8', 8, 8 + headerBytes)) as {
    [name: string]: { dtype: string; shape: number[]; data_offsets: [number, number] };
  };
  return Object.entries(header).map(
    ([
      name,
      {
        dtype,
        shape,
        data_offsets: [from, to],
      },
    ]) => ({
      name,
      dtype,
      shape,
      bytes: Uint8Array.from(file.subarray(8 + headerBytes + from, 8 + headerBytes + to)),
    }),
  );
}

/** Rewrites one tensor of a folder; undefined leaves it out. */
async function changed(
  options: ModelFolderOptions,
  name: string,
  change: (tensor: TensorData) => TensorData | undefined,
): Promise<string> {
  const folder = await folderOf(options);
  const tensors = (await tensorsIn(folder)).flatMap((tensor) => {
    const result = tensor.name === name ? change(tensor) : tensor;
    return result === undefined ? [] : [result];
  });
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
  return folder;
}

const ATTENTION = 'model.layers.0.self_attn';

describe('FP8 weights', () => {
  test.each([undefined, 1024])(
    'cross as they are, scales beside them (windows of %s)',
    async (bytes) => {
      const folder = await folderOf({ quantization: BLOCKS, scaleType: 'bf16' });
      const { spec, loaded, crossedBytes } = await load(folder, bytes);
      const tensors = new Map((await tensorsIn(folder)).map((tensor) => [tensor.name, tensor]));
      const { qkv } = loaded.weights.layers[0]!;
      const codes = ['q', 'k', 'v'].flatMap((part) => [
        ...tensors.get(`${ATTENTION}.${part}_proj.weight`)!.bytes,
      ]);
      expect(qkv).toMatchObject({ format: 'fp8-e4m3', blockOutputs: 32, blockInputs: 32 });
      expect([...(await download(qkv.weight))]).toEqual(codes);
      const scales = ['q', 'k', 'v'].flatMap((part) => {
        const { bytes: stored } = tensors.get(`${ATTENTION}.${part}_proj.weight_scale_inv`)!;
        const words = Uint32Array.from(new Uint16Array(stored.buffer), (bits) => bits << 16);
        return [...new Float32Array(words.buffer)];
      });
      expect(await scalesOf(qkv)).toEqual(scales);
      expect(loaded.weights.head).toMatchObject({ format: 'element', scales: null });
      expect(crossedBytes).toBeGreaterThanOrEqual(weightBytes(weightTensors(spec), 4) * 0.5);
      expect(loadNotes(loaded)).toEqual([]);
      for (const buffer of loaded.buffers) device.free(buffer);
    },
  );

  test('with one scale a tensor, of shape [] or [1]', async () => {
    const folder = await changed(
      { quantization: TENSORS },
      `${ATTENTION}.k_proj.weight_scale_inv`,
      (tensor) => ({ ...tensor, name: `${ATTENTION}.k_proj.weight_scale`, shape: [1] }),
    );
    const { loaded } = await load(folder);
    const { qkv } = loaded.weights.layers[0]!;
    expect(qkv).toMatchObject({ blockOutputs: 32, blockInputs: 64 });
    const [first, second, key, value, ...none] = await scalesOf(qkv);
    expect([second, none]).toEqual([first, []]);
    expect(new Set([first, key, value]).size).toBe(3);
    for (const buffer of loaded.buffers) device.free(buffer);
  });

  test('scales of activations and layers for further tokens are left aside', async () => {
    const folder = await folderOf({ quantization: TENSORS });
    const scale = { dtype: 'F32', shape: [], bytes: new Uint8Array(4) };
    const tensors = await tensorsIn(folder);
    const more = ['q', 'k', 'v'].map((part) => `${ATTENTION}.${part}_proj.input_scale`);
    more.push('model.layers.2.eh_proj.weight');
    const all = [...tensors, ...more.map((name) => ({ name, ...scale }))];
    await writeSafetensors(join(folder, 'model.safetensors'), all);
    const { loaded } = await load(folder);
    expect(loadNotes(loaded)).toEqual([
      '3 tensors are not used: scales of activations, which are not quantised ' +
        `(${ATTENTION}.q_proj.input_scale, ...)`,
      '1 tensor is not used: of layers that predict tokens further ahead ' +
        '(model.layers.2.eh_proj.weight)',
    ]);
    for (const buffer of loaded.buffers) device.free(buffer);
  });

  test('dummies have the spread of other dummies', async () => {
    const folder = await folderOf({ quantization: BLOCKS });
    const { loaded, crossedBytes } = await load(folder, undefined, true);
    const scales = await scalesOf(loaded.weights.layers[1]!.qkv);
    expect(crossedBytes).toBe(0);
    expect(new Set(scales).size).toBe(1);
    const values = f32FromE4m3(await download(loaded.weights.layers[1]!.qkv.weight)).map(
      (value) => value * scales[0]!,
    );
    const variance = values.reduce((sum, value) => sum + value * value, 0) / values.length;
    expect(Math.sqrt(variance)).toBeCloseTo(0.02, 3);
    for (const buffer of loaded.buffers) device.free(buffer);
  });
});

const f32 = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
const SCALE = `${ATTENTION}.k_proj.weight_scale_inv`;
const WEIGHT = `${ATTENTION}.k_proj.weight`;
const withScale = (value: number) => (tensor: TensorData) => ({ ...tensor, bytes: f32(value, 1) });

describe('FP8 checkpoints that are refused, with everything freed', () => {
  test.each<[string, string, (tensor: TensorData) => TensorData | undefined, string, RegExp]>([
    ['a scale is missing', SCALE, () => undefined, 'missing-tensor', /k_proj\.weight_scale_inv or/],
    [
      'scales of another shape',
      SCALE,
      (tensor) => ({ ...tensor, shape: [2, 1] }),
      'wrong-shape',
      /is \[2, 1\]; config.json implies \[1, 2\]/,
    ],
    [
      'scales of size zero',
      SCALE,
      (tensor) => ({ ...tensor, shape: [0, 2], bytes: new Uint8Array() }),
      'wrong-shape',
      /is \[0, 2\]/,
    ],
    [
      'scales of another type',
      SCALE,
      (tensor) => ({ ...tensor, dtype: 'F8_E8M0', bytes: new Uint8Array(2) }),
      'unsupported',
      /stored as F8_E8M0; supported: BF16, F16, F32/,
    ],
    ['a NaN', SCALE, withScale(Number.NaN), 'malformed', /has NaN at 0; scales are finite/],
    ['a negative scale', SCALE, withScale(-1), 'malformed', /has -1 at 0/],
    ['an infinite scale', SCALE, withScale(Infinity), 'malformed', /has Infinity at 0/],
    [
      'weights in E5M2',
      WEIGHT,
      (tensor) => ({ ...tensor, dtype: 'F8_E5M2' }),
      'inconsistent',
      /stored as F8_E5M2, but .*has it in FP8, which is F8_E4M3/,
    ],
    [
      'weights that are not FP8',
      WEIGHT,
      (tensor) => ({ ...tensor, dtype: 'BF16', bytes: new Uint8Array(tensor.bytes.length * 2) }),
      'inconsistent',
      /stored as BF16, but .*has it in FP8/,
    ],
    [
      'FP8 that config.json does not know of',
      'lm_head.weight',
      (tensor) => ({ ...tensor, dtype: 'F8_E4M3', bytes: new Uint8Array(tensor.bytes.length / 2) }),
      'inconsistent',
      /lm_head.weight is stored as F8_E4M3, but .*does not have it in FP8/,
    ],
  ])('%s', async (_, name, change, code, message) => {
    const folder = await changed({ quantization: BLOCKS }, name, change);
    const before = device.counters().allocatedBytes;
    const expected = { name: 'ModelError', code, message: expect.stringMatching(message) };
    await expect(load(folder)).rejects.toMatchObject(expected);
    expect(device.counters().allocatedBytes).toBe(before);
  });

  test('two tensors that could be the scales', async () => {
    const folder = await folderOf({ quantization: BLOCKS });
    const tensors = await tensorsIn(folder);
    const copy = tensors.find(({ name }) => name === SCALE)!;
    const more = { ...copy, name: `${ATTENTION}.k_proj.weight_scale` };
    await writeSafetensors(join(folder, 'model.safetensors'), [...tensors, more]);
    await expect(load(folder)).rejects.toMatchObject({ code: 'inconsistent' });
  });
});
