import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Device, openCpuDevice, type Slice } from '@bridgekeeper/device';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import { readModelSpec } from '../models/folder.ts';
import { type WeightMatrix, weightTensors } from '../models/weights.ts';
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
  root = await mkdtemp(join(tmpdir(), 'load-int4-'));
  device = await openCpuDevice({ threads: 1 });
});
afterAll(async () => {
  await device.close();
  await rm(root, { recursive: true });
});

const AWQ = { quant_method: 'awq', bits: 4, group_size: 32, zero_point: true };
const GPTQ = { quant_method: 'gptq', bits: 4, group_size: 32, sym: false };
const packed = (symmetric: boolean) => ({
  quant_method: 'compressed-tensors',
  format: 'pack-quantized',
  config_groups: {
    all: {
      targets: ['Linear'],
      weights: { num_bits: 4, type: 'int', strategy: 'group', group_size: 32, symmetric },
    },
  },
  ignore: ['lm_head'],
});

async function folderOf(options: ModelFolderOptions): Promise<string> {
  folders += 1;
  const folder = join(root, String(folders));
  await writeModelFolder(folder, options);
  return folder;
}

async function load(folder: string, isDummy = false) {
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
  quantization: ModelFolderOptions['quantization'],
  name: string,
  change: (tensor: TensorData) => TensorData | undefined,
): Promise<string> {
  const folder = await folderOf(quantization === undefined ? {} : { quantization });
  const tensors = (await tensorsIn(folder)).flatMap((tensor) => {
    const result = tensor.name === name ? change(tensor) : tensor;
    return result === undefined ? [] : [result];
  });
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
  return folder;
}

const ATTENTION = 'model.layers.0.self_attn';
const CODES = `${ATTENTION}.k_proj.qweight`;
const SCALES = `${ATTENTION}.k_proj.scales`;
const ZEROS = `${ATTENTION}.k_proj.qzeros`;

/** [outputs, inputs] of q, k and v, which are stacked. */
const OUTPUTS = { q: 64, k: 32, v: 32 } as const;
const INPUTS = 64;

describe('weights in 4 bits', () => {
  test('cross as they are stored, and are ordered on the device', async () => {
    const folder = await folderOf({ quantization: AWQ });
    const { spec, loaded, crossedBytes } = await load(folder);
    const { qkv } = loaded.weights.layers[0]!;
    expect(qkv).toMatchObject({ format: 'int4', blockOutputs: 1, blockInputs: 32 });
    expect(qkv).toMatchObject({ outputs: 128, inputs: INPUTS });
    const tensors = new Map((await tensorsIn(folder)).map((tensor) => [tensor.name, tensor]));
    const wordsOf = (name: string) => new Uint32Array(tensors.get(name)!.bytes.buffer);
    const nibble = (word: number, output: number) =>
      (word >>> (4 * [0, 4, 1, 5, 2, 6, 3, 7][output % 8]!)) & 15;
    const expected: number[] = [];
    for (const part of ['q', 'k', 'v'] as const) {
      const words = wordsOf(`${ATTENTION}.${part}_proj.qweight`);
      const columns = OUTPUTS[part] / 8;
      for (let output = 0; output < OUTPUTS[part]; output++) {
        for (let input = 0; input < INPUTS; input++) {
          expected.push(nibble(words[input * columns + (output >> 3)]!, output));
        }
      }
    }
    const codes = [...(await download(qkv.weight))].flatMap((pair) => [pair & 15, pair >> 4]);
    expect(codes).toEqual(expected);
    expect(loaded.weights.head).toMatchObject({ format: 'element', scales: null });
    // Codes, 2 bytes of scales and half a byte of zeros for each group, and no more: of elements
    // the file has half of what the device has.
    const file = [...tensors.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
    expect(crossedBytes).toBeLessThan(file + 65_536);
    expect(loaded.bytes).toBeGreaterThanOrEqual(weightBytes(weightTensors(spec), 4));
    expect(loadNotes(loaded)).toEqual([]);
    for (const buffer of loaded.buffers) device.free(buffer);
  });

  test.each([
    ['AWQ', AWQ],
    ['GPTQ', GPTQ],
    ['int4', packed(true)],
    ['int4 with zero points', packed(false)],
  ])('of %s leave no tensor unused', async (_, quantization) => {
    const { loaded } = await load(await folderOf({ quantization }));
    expect(loaded.unusedTensors).toEqual([]);
    for (const buffer of loaded.buffers) device.free(buffer);
  });

  test('of dummies have the spread of other dummies', async () => {
    const folder = await folderOf({ quantization: GPTQ });
    const { loaded, crossedBytes } = await load(folder, true);
    expect(crossedBytes).toBe(0);
    const { gateUp } = loaded.weights.layers[1]!.feedForward as { gateUp: WeightMatrix };
    const words = new Uint32Array((await download(gateUp.scales!)).buffer);
    expect(new Set(words).size).toBe(1);
    expect(words[0]! & 31).toBe(8);
    const [scale] = new Float32Array(Uint32Array.of(words[0]! - 8).buffer);
    const pairs = await download(gateUp.weight);
    const values = [...pairs].flatMap((pair) => [pair & 15, pair >> 4]).map((code) => code - 8);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const squares = values.reduce((sum, value) => sum + value ** 2, 0) / values.length;
    expect(mean).toBeCloseTo(-0.5, 0);
    expect(Math.sqrt(squares) * scale!).toBeCloseTo(0.02, 2);
    for (const buffer of loaded.buffers) device.free(buffer);
  });
});

const without = (): undefined => undefined;
const words = (...values: number[]) => new Uint8Array(Int32Array.from(values).buffer);

describe('checkpoints in 4 bits that are refused, with everything freed', () => {
  test.each<
    [string, object, string, (tensor: TensorData) => TensorData | undefined, string, RegExp]
  >([
    ['codes are missing', AWQ, CODES, without, 'missing-tensor', /no tensor .*k_proj\.qweight/],
    [
      'scales are missing',
      AWQ,
      SCALES,
      without,
      'missing-tensor',
      /no tensor .*k_proj\.scales, which weights in AWQ need/,
    ],
    [
      'zero points are missing',
      GPTQ,
      ZEROS,
      without,
      'missing-tensor',
      /no tensor .*k_proj\.qzeros, which weights in GPTQ need/,
    ],
    [
      'zero points of compressed-tensors are missing',
      packed(false),
      `${ATTENTION}.k_proj.weight_zero_point`,
      without,
      'missing-tensor',
      /weight_zero_point, which weights in compressed-tensors int4 need/,
    ],
    [
      'scales that do not fit',
      AWQ,
      SCALES,
      (tensor) => ({ ...tensor, shape: [1, 64] }),
      'wrong-shape',
      /k_proj\.scales is \[1, 64\]; config.json implies \[2, 32\]/,
    ],
    [
      'zero points that do not fit',
      AWQ,
      ZEROS,
      (tensor) => ({ ...tensor, shape: [4, 2] }),
      'wrong-shape',
      /k_proj\.qzeros is \[4, 2\]; config.json implies \[2, 4\]/,
    ],
    [
      'codes of the other tool',
      GPTQ,
      CODES,
      (tensor) => ({ ...tensor, shape: [64, 4] }),
      'wrong-shape',
      /k_proj\.qweight is \[64, 4\]; config.json implies \[8, 32\]/,
    ],
    [
      'codes of another type',
      AWQ,
      CODES,
      (tensor) => ({ ...tensor, dtype: 'F32' }),
      'inconsistent',
      /stored as F32, but .*has it in integers of 4 bits, which is I32/,
    ],
    [
      'scales of another type',
      AWQ,
      SCALES,
      (tensor) => ({ ...tensor, dtype: 'F32', bytes: new Uint8Array(tensor.bytes.length * 2) }),
      'unsupported',
      /k_proj\.scales is stored as F32; supported: BF16, F16/,
    ],
    [
      'zero points of another type',
      AWQ,
      ZEROS,
      (tensor) => ({ ...tensor, dtype: 'F32' }),
      'unsupported',
      /k_proj\.qzeros is stored as F32; supported: I32/,
    ],
    [
      'inputs in another order',
      GPTQ,
      `${ATTENTION}.k_proj.g_idx`,
      (tensor) => ({ ...tensor, bytes: tensor.bytes.toReversed() }),
      'unsupported',
      /k_proj\.g_idx has .* at 0; supported: 0, in order/,
    ],
    [
      'inputs of which some are missing',
      GPTQ,
      `${ATTENTION}.k_proj.g_idx`,
      (tensor) => ({ ...tensor, shape: [1], bytes: words(0) }),
      'inconsistent',
      /k_proj\.g_idx is 4 bytes of I32; 64 of I32 or I64 are wanted/,
    ],
    [
      'another shape than the one that is stored',
      packed(true),
      `${ATTENTION}.k_proj.weight_shape`,
      (tensor) => ({ ...tensor, bytes: words(32, 0, 60, 0) }),
      'unsupported',
      /k_proj\.weight_shape has 60 at 1; supported: 64/,
    ],
    [
      'words where config.json has none',
      { ...AWQ, modules_to_not_convert: ['model.layers.0.self_attn.o_proj'] },
      `${ATTENTION}.o_proj.weight`,
      (tensor) => ({ ...tensor, name: `${ATTENTION}.o_proj.qweight` }),
      'missing-tensor',
      /no tensor model\.layers\.0\.self_attn\.o_proj\.weight/,
    ],
  ])('%s', async (_, quantization, name, change, code, message) => {
    const folder = await changed(quantization as Record<string, unknown>, name, change);
    const before = device.counters().allocatedBytes;
    const expected = { name: 'ModelError', code, message: expect.stringMatching(message) };
    await expect(load(folder)).rejects.toMatchObject(expected);
    expect(device.counters().allocatedBytes).toBe(before);
  });
});
