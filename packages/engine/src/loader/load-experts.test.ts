import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Device, openCpuDevice, type Slice } from '@bridgekeeper/device';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import { readModelSpec } from '../models/folder.ts';
import type { ExpertsWeights } from '../models/weights.ts';
import { type ModelFolderOptions, writeModelFolder } from '../selftest/model-folder.ts';
import { type TensorData, writeSafetensors } from '../selftest/safetensors-file.ts';
import { Traffic } from '../traffic/traffic.ts';
import { loadWeights } from './load.ts';

let root: string;
let folders = 0;
let device: Device;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'load-experts-'));
  device = await openCpuDevice({ threads: 1 });
});
afterAll(async () => {
  await device.close();
  await rm(root, { recursive: true });
});

const QWEN: ModelFolderOptions = {
  architecture: 'Qwen3MoeForCausalLM',
  storedType: 'f32',
  config: { num_experts: 3, num_experts_per_tok: 2, moe_intermediate_size: 32 },
};
const OSS: ModelFolderOptions = {
  architecture: 'GptOssForCausalLM',
  quantization: { quant_method: 'mxfp4' },
  config: { attention_bias: true, num_local_experts: 3, num_experts_per_tok: 2, sliding_window: 8 },
};

async function folderOf(options: ModelFolderOptions): Promise<string> {
  folders += 1;
  const folder = join(root, String(folders));
  await writeModelFolder(folder, options);
  return folder;
}

async function load(folder: string) {
  const spec = await readModelSpec(folder);
  const checkpoint = await openCheckpoint(folder);
  const traffic = new Traffic({ device, profile: null });
  try {
    return await loadWeights({ spec, source: checkpoint, device, traffic });
  } finally {
    await checkpoint.close();
  }
}

async function download(from: Slice): Promise<Uint8Array> {
  const host = device.allocateHost(from.bytes, 'pinned', 'download');
  const stream = device.createStream('download');
  const what = { direction: 'd2h', device: from, host, hostOffsetBytes: 0, stream } as const;
  await device.inlineLane.copy({ ...what, purpose: 'probe', tenant: 'test' });
  const bytes = Uint8Array.from(host.bytes);
  device.freeHost(host);
  return bytes;
}

/** The tensors of a folder's one file. */
async function tensorsIn(folder: string): Promise<TensorData[]> {
  const file = await readFile(join(folder, 'model.safetensors'));
  const headerBytes = Number(file.readBigUInt64LE(0));
  const { __metadata__, ...header } = JSON.parse(
    file.toString('utf8', 8, 8 + headerBytes),
  ) as Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
  return Object.entries(header).map(
    ([
      name,
      {
        dtype,
        shape,
        data_offsets: [from, to],
      },
    ]) => {
      const bytes = new Uint8Array(file.subarray(8 + headerBytes + from, 8 + headerBytes + to));
      return { name, dtype, shape, bytes };
    },
  );
}

const MLP = 'model.layers.1.mlp';

function expertsOf({ weights }: Awaited<ReturnType<typeof load>>): ExpertsWeights {
  return weights.layers[1]!.feedForward as ExpertsWeights;
}

describe('experts that are modules of their own', () => {
  test('are stacked, gate on up and expert on expert', async () => {
    const folder = await folderOf(QWEN);
    const stored = new Map((await tensorsIn(folder)).map(({ name, bytes }) => [name, bytes]));
    const loaded = await load(folder);
    const { expertGateUp, expertDown, router, routerBias } = expertsOf(loaded);
    const joined = (names: readonly string[]) =>
      names.flatMap((name) => [...stored.get(`${MLP}.${name}.weight`)!]);
    const all = [0, 1, 2].map((expert) => `experts.${expert}`);
    const first = all.flatMap((name) => [`${name}.gate_proj`, `${name}.up_proj`]);
    expect([...(await download(expertGateUp.weight))]).toEqual(joined(first));
    const second = all.map((name) => `${name}.down_proj`);
    expect([...(await download(expertDown.weight))]).toEqual(joined(second));
    expect([...(await download(router.weight))]).toEqual(joined(['gate']));
    expect(expertGateUp).toMatchObject({ inputs: 64, outputs: 64, format: 'element' });
    expect(expertDown).toMatchObject({ inputs: 32, outputs: 64 });
    expect(routerBias).toBe(null);
    for (const buffer of loaded.buffers) device.free(buffer);
  });
});

describe('experts in a stack of MXFP4', () => {
  test('stay as they are stored', async () => {
    const folder = await folderOf(OSS);
    const stored = new Map((await tensorsIn(folder)).map(({ name, bytes }) => [name, bytes]));
    const loaded = await load(folder);
    const { expertGateUp, expertDown } = expertsOf(loaded);
    for (const [name, matrix] of [
      ['gate_up_proj', expertGateUp],
      ['down_proj', expertDown],
    ] as const) {
      const [codes, scales] = [await download(matrix.weight), await download(matrix.scales!)];
      expect(codes).toEqual(stored.get(`${MLP}.experts.${name}_blocks`));
      expect(scales).toEqual(stored.get(`${MLP}.experts.${name}_scales`));
      expect(matrix).toMatchObject({ format: 'mxfp4', blockOutputs: 1, blockInputs: 32 });
    }
    expect(expertGateUp).toMatchObject({ inputs: 64, outputs: 192 });
    expect(expertDown).toMatchObject({ inputs: 96, outputs: 64 });
    for (const buffer of loaded.buffers) device.free(buffer);
  });
});

describe('experts that are refused, with everything freed', () => {
  type Change = (tensor: TensorData) => TensorData | undefined;
  const halved: Change = ({ bytes, ...tensor }) => ({
    ...tensor,
    shape: [tensor.shape[0]! / 2, ...tensor.shape.slice(1)],
    bytes: bytes.subarray(0, bytes.length / 2),
  });
  const lastGone: Change = ({ bytes, ...tensor }) => ({
    ...tensor,
    shape: [2, ...tensor.shape.slice(1)],
    bytes: bytes.subarray(0, (bytes.length / 3) * 2),
  });

  test.each<[string, ModelFolderOptions, string, Change, string, RegExp]>([
    [
      'one is missing',
      QWEN,
      'experts.1.up_proj.weight',
      () => undefined,
      'missing-tensor',
      /1\.up/,
    ],
    ['one is smaller', QWEN, 'experts.2.gate_proj.weight', halved, 'wrong-shape', /\[16, 64\]/],
    [
      'a router for fewer',
      QWEN,
      'gate.weight',
      lastGone,
      'wrong-shape',
      /gate.weight is \[2, 64\]/,
    ],
    ['a stack of fewer', OSS, 'experts.down_proj_blocks', lastGone, 'wrong-shape', /is \[2, 64, 3/],
    ['scales of fewer', OSS, 'experts.down_proj_scales', lastGone, 'wrong-shape', /scales is \[2/],
    ['no scales', OSS, 'experts.down_proj_scales', () => undefined, 'missing-tensor', /_scales/],
    [
      'codes of another type',
      OSS,
      'experts.gate_up_proj_blocks',
      (tensor) => ({ ...tensor, dtype: 'I8' }),
      'inconsistent',
      /stored as I8, but .*has it in MXFP4, which is U8/,
    ],
  ])('%s', async (_, options, name, change, code, message) => {
    const folder = await folderOf(options);
    const tensors = (await tensorsIn(folder)).flatMap((tensor) => {
      const made = tensor.name === `${MLP}.${name}` ? change(tensor) : tensor;
      return made === undefined ? [] : [made];
    });
    await writeSafetensors(join(folder, 'model.safetensors'), tensors);
    const before = device.counters().allocatedBytes;
    const expected = { name: 'ModelError', code, message: expect.stringMatching(message) };
    await expect(load(folder)).rejects.toMatchObject(expected);
    expect(device.counters().allocatedBytes).toBe(before);
  });
});
