import { join } from 'node:path';
import { ModelError } from '../models/errors.ts';
import { fileSize, readText } from '../models/files.ts';
import type { StoredType } from '../models/spec.ts';
import type { Seal } from '../seal/manifest.ts';
import type { OpenedSeal } from '../seal/open.ts';
import { readSealedText } from '../seal/small-files.ts';
import type { ChunkFile } from './chunk-file.ts';
import { readSafetensorsHeader, type TensorHeader } from './safetensors.ts';
import { ShardFile } from './shard-file.ts';
import { INDEX_NAME, parseShardIndex } from './shard-index.ts';

const SINGLE_NAME = 'model.safetensors';

const STORED_TYPES: Readonly<Record<string, StoredType>> = { BF16: 'bf16', F16: 'f16', F32: 'f32' };

/** A tensor and where its bytes are. */
export interface CheckpointTensor extends TensorHeader {
  /** Index into `Checkpoint.files`. */
  readonly file: number;
}

/**
 * A tensor that lies in a shard although the index maps it elsewhere or not at all. It is not used.
 */
export interface UnmappedTensor {
  readonly name: string;
  readonly file: string;
}

interface Shard {
  readonly file: ShardFile;
  readonly tensors: readonly TensorHeader[];
}

async function openShard(folder: string, name: string, seal: OpenedSeal | null): Promise<Shard> {
  const file = await ShardFile.open(folder, name, seal);
  try {
    const { tensors } = await readSafetensorsHeader(file, file.bytes, name);
    return { file, tensors };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function closeAll(shards: readonly Shard[]): Promise<void> {
  await Promise.all(shards.map(({ file }) => file.close()));
}

async function openShards(
  folder: string,
  names: readonly string[],
  seal: OpenedSeal | null,
): Promise<Shard[]> {
  const shards: Shard[] = [];
  try {
    for (const name of names) shards.push(await openShard(folder, name, seal));
  } catch (error) {
    await closeAll(shards);
    throw error;
  }
  return shards;
}

/**
 * Looks every mapped tensor up in its shard's header: the index says where, the header must agree.
 */
function resolve(shards: readonly Shard[], index: ReadonlyMap<string, string> | undefined) {
  const tensors = new Map<string, CheckpointTensor>();
  const unmapped: UnmappedTensor[] = [];
  shards.forEach((shard, file) => {
    for (const tensor of shard.tensors) {
      if (index !== undefined && index.get(tensor.name) !== shard.file.name) {
        unmapped.push({ name: tensor.name, file: shard.file.name });
      } else {
        tensors.set(tensor.name, { ...tensor, file });
      }
    }
  });
  for (const [name, shard] of index ?? []) {
    if (!tensors.has(name)) {
      const message = `${INDEX_NAME} maps ${name} to ${shard}, whose header does not have it`;
      throw new ModelError('inconsistent', message);
    }
  }
  return { tensors, unmapped };
}

/** What tensors are called where the text model is not the whole file: a name, and what for. */
const CAUSAL_NAMES: readonly (readonly [had: string, from: RegExp, to: string])[] = [
  // Models that embed are saved without a head.
  ['embed_tokens.weight', /^(?=(?:embed_tokens|layers|norm)\.)/, 'model.'],
  // Models that also see: as their authors saved them, and as transformers 5 does.
  ['language_model.model.embed_tokens.weight', /^language_model\./, ''],
  ['model.language_model.embed_tokens.weight', /^model\.language_model\./, 'model.'],
];

/** The same tensors under the names that they have in a model of text with its head. */
function asCausal(tensors: ReadonlyMap<string, CheckpointTensor>) {
  const found = CAUSAL_NAMES.find(([had]) => tensors.has(had));
  if (found === undefined) return tensors;
  const [, from, to] = found;
  const named = [...tensors].map(([name, tensor]) => {
    const causal = name.replace(from, to);
    return [causal, { ...tensor, name: causal }] as const;
  });
  return new Map(named);
}

/**
 * The weights of a model folder: one safetensors file, or the shards that an index names. Headers
 * are checked.
 */
export class Checkpoint {
  /** By name, as the headers have them for a model with its head. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
  readonly unmapped: readonly UnmappedTensor[];
  /** What the files were sealed as; null: they are taken as they are. */
  readonly seal: Seal | null;
  readonly #shards: readonly Shard[];

  constructor(
    shards: readonly Shard[],
    index: ReadonlyMap<string, string> | undefined,
    seal: OpenedSeal | null,
  ) {
    this.#shards = shards;
    this.files = shards.map(({ file: { name, bytes } }) => ({ name, bytes }));
    this.seal = seal?.seal ?? null;
    const { tensors, unmapped } = resolve(shards, index);
    this.tensors = asCausal(tensors);
    this.unmapped = unmapped;
  }

  /**
   * Fills `target` from `position` of file `file`. Throws ModelError when the file has shrunk or
   * cannot be read.
   */
  async read(file: number, position: number, target: Uint8Array): Promise<void> {
    await this.#shards[file]!.file.read(position, target);
  }

  /** For whoever reads the files' chunks. */
  get chunkFiles(): ChunkFile[] {
    return this.#shards.map(({ file }) => file.chunkFile);
  }

  /** Throws ModelError `inconsistent` when a file was written to since its header was read. */
  async assertUnchanged(): Promise<void> {
    await Promise.all(this.#shards.map(({ file }) => file.assertUnchanged()));
  }

  async close(): Promise<void> {
    await closeAll(this.#shards);
  }
}

/**
 * Opens the weights in `folder`; `close` them when done. With an index, only the shards it names
 * are read; with a seal, they are checked against it as they are read. Throws ModelError: a missing
 * or malformed file, an index that its shards contradict, a file that is not what was sealed.
 */
export async function openCheckpoint(
  folder: string,
  seal: OpenedSeal | null = null,
): Promise<Checkpoint> {
  const indexText = await (seal === null
    ? readText(folder, INDEX_NAME)
    : readSealedText(folder, seal, INDEX_NAME));
  const index = indexText === undefined ? undefined : parseShardIndex(indexText);
  if (
    index === undefined &&
    (await fileSize(join(folder, SINGLE_NAME), SINGLE_NAME)) === undefined
  ) {
    const expected = `${SINGLE_NAME} or ${INDEX_NAME}`;
    const hint = 'other formats (.bin, .gguf) are not read; --load-format dummy needs no weights';
    throw new ModelError('missing-file', `${folder} has neither ${expected}; ${hint}`);
  }
  const names = index === undefined ? [SINGLE_NAME] : [...new Set(index.values())].sort();
  const shards = await openShards(folder, names, seal);
  try {
    return new Checkpoint(shards, index, seal);
  } catch (error) {
    await closeAll(shards);
    throw error;
  }
}

/** How `tensor`'s elements are stored, or an `unsupported` error. */
export function storedTypeOf(tensor: CheckpointTensor): StoredType {
  const type = STORED_TYPES[tensor.dtype];
  if (type === undefined) {
    const list = Object.keys(STORED_TYPES).join(', ');
    const message = `tensor ${tensor.name} is stored as ${tensor.dtype}; supported: ${list}`;
    throw new ModelError('unsupported', message);
  }
  return type;
}
