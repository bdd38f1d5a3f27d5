import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelError } from '../models/errors.ts';
import { fileSize, readText, unreadable } from '../models/files.ts';
import type { StoredType } from '../models/spec.ts';
import { readInto, readSafetensorsHeader, type TensorHeader } from './safetensors.ts';
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
  readonly name: string;
  readonly bytes: number;
  readonly handle: FileHandle;
  readonly tensors: readonly TensorHeader[];
}

async function openShard(folder: string, name: string): Promise<Shard> {
  const path = join(folder, name);
  const bytes = await fileSize(path, name);
  if (bytes === undefined) {
    throw new ModelError('missing-file', `${name} is missing from ${folder}`);
  }
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (error) {
    throw unreadable(name, error);
  }
  try {
    const { tensors } = await readSafetensorsHeader(handle, bytes, name);
    return { name, bytes, handle, tensors };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function closeAll(shards: readonly Shard[]): Promise<void> {
  await Promise.all(shards.map(({ handle }) => handle.close()));
}

async function openShards(folder: string, names: readonly string[]): Promise<Shard[]> {
  const shards: Shard[] = [];
  try {
    for (const name of names) shards.push(await openShard(folder, name));
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
      if (index !== undefined && index.get(tensor.name) !== shard.name) {
        unmapped.push({ name: tensor.name, file: shard.name });
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

/**
 * The weights of a model folder: one safetensors file, or the shards that an index names. Headers
 * are checked.
 */
export class Checkpoint {
  /** By name, exactly as the headers have them. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
  readonly unmapped: readonly UnmappedTensor[];
  readonly #shards: readonly Shard[];

  constructor(shards: readonly Shard[], index: ReadonlyMap<string, string> | undefined) {
    this.#shards = shards;
    this.files = shards.map(({ name, bytes }) => ({ name, bytes }));
    const { tensors, unmapped } = resolve(shards, index);
    this.tensors = tensors;
    this.unmapped = unmapped;
  }

  /**
   * Fills `target` from `position` of file `file`. Throws ModelError when the file has shrunk or
   * cannot be read.
   */
  async read(file: number, position: number, target: Uint8Array): Promise<void> {
    const shard = this.#shards[file]!;
    await readInto(shard.handle, target, position, shard.name);
  }

  async close(): Promise<void> {
    await closeAll(this.#shards);
  }
}

/**
 * Opens the weights in `folder`; `close` them when done. With an index, only the shards it names
 * are read. Throws ModelError: a missing or malformed file, or an index that its shards contradict.
 */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  const indexText = await readText(folder, INDEX_NAME);
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
  const shards = await openShards(folder, names);
  try {
    return new Checkpoint(shards, index);
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
