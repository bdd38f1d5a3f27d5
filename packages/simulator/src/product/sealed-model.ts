import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { type Device, mix32 } from '@bridgekeeper/device';
import { type Seal, sealModel } from '@bridgekeeper/engine/seal';
import { Random } from '../world/random.ts';
import { MODEL_CONFIG, modelFiles } from './model.ts';
import { CHUNK_BYTES } from './settings.ts';

type DeviceBuffer = ReturnType<Device['allocate']>;

/** The model with weights, as its servers have it on their disks. */
export interface SealedModel {
  readonly seal: Seal;
  readonly files: ReadonlyMap<string, Buffer>;
  /** Whether memory of a device has these weights, each once, and nothing else. */
  isOn(arenas: readonly DeviceBuffer[]): boolean;
}

const WEIGHTS_NAME = 'model.safetensors';

/** By name, rows and columns. */
function tensors(): readonly (readonly [string, readonly number[]])[] {
  const {
    hidden_size: hidden,
    intermediate_size: intermediate,
    head_dim: head,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    vocab_size: vocab,
  } = MODEL_CONFIG;
  const layer = 'model.layers.0';
  return [
    ['model.embed_tokens.weight', [vocab, hidden]],
    [`${layer}.input_layernorm.weight`, [hidden]],
    [`${layer}.self_attn.q_proj.weight`, [heads * head, hidden]],
    [`${layer}.self_attn.k_proj.weight`, [kvHeads * head, hidden]],
    [`${layer}.self_attn.v_proj.weight`, [kvHeads * head, hidden]],
    [`${layer}.self_attn.o_proj.weight`, [hidden, heads * head]],
    [`${layer}.post_attention_layernorm.weight`, [hidden]],
    [`${layer}.mlp.gate_proj.weight`, [intermediate, hidden]],
    [`${layer}.mlp.up_proj.weight`, [intermediate, hidden]],
    [`${layer}.mlp.down_proj.weight`, [hidden, intermediate]],
    ['model.norm.weight', [hidden]],
  ];
}

/** One file in the format of safetensors, with weights that are all of them chance. */
function weightsFile(): Buffer {
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const [name, shape] of tensors()) {
    const begin = end;
    end += 2 * shape.reduce((product, size) => product * size, 1);
    header[name] = { dtype: 'BF16', shape, data_offsets: [begin, end] };
  }
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded, new Random(1, 'weights').bytes(end)]);
}

/** Sums over all elements: the same wherever each is, others where one is missing or twice. */
function sumsOf(parts: readonly Uint8Array[]): string {
  let [sum, mixed] = [0, 0];
  for (const bytes of parts) {
    for (let at = 0; at + 1 < bytes.length; at += 2) {
      const element = bytes[at]! | (bytes[at + 1]! << 8);
      // Between tensors, memory is empty.
      if (element === 0) continue;
      sum += element;
      mixed = (mixed + mix32(element)) | 0;
    }
  }
  return `${sum} ${mixed}`;
}

/** Seals it in a folder of the machine, which is gone afterwards. */
export async function sealedModel(): Promise<SealedModel> {
  const folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-simulator-'));
  try {
    const weights = weightsFile();
    for (const [path, bytes] of modelFiles()) await writeFile(join(folder, basename(path)), bytes);
    await writeFile(join(folder, WEIGHTS_NAME), weights);
    const seal = await sealModel(folder, { chunkBytes: CHUNK_BYTES, threads: 1 });
    const files = new Map<string, Buffer>();
    for (const name of (await readdir(folder)).sort()) {
      files.set(name, await readFile(join(folder, name)));
    }
    const headerBytes = 8 + Number(weights.readBigUInt64LE());
    const expected = sumsOf([weights.subarray(headerBytes)]);
    let placed: string | null = null;
    return {
      seal,
      files,
      isOn: (arenas) => {
        // A modelled device has them in memory of this process.
        const parts = arenas.map((arena) => (arena as unknown as { all: Uint8Array }).all);
        const where = createHash('sha256');
        for (const part of parts) where.update(part);
        const digest = where.digest('hex');
        placed ??= digest;
        return digest === placed && sumsOf(parts) === expected;
      },
    };
  } finally {
    await rm(folder, { recursive: true });
  }
}
