import {
  mkdir,
  mkdtemp,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkTensors } from '../loader/tensors/check-tensors.ts';
import { describeModel } from '../models/describe.ts';
import { ModelError } from '../models/errors.ts';
import { weightTensors } from '../models/weights.ts';
import {
  type ModelFolderOptions,
  smallConfig,
  writeModelFolder,
} from '../selftest/model-folder.ts';
import { type TensorData, writeSafetensors } from '../selftest/safetensors-file.ts';
import { openCheckpoint } from './checkpoint.ts';
import { parseShardIndex } from './shard-index.ts';

const INDEX = 'model.safetensors.index.json';
const FIRST = 'model-00001-of-00003.safetensors';
const SECOND = 'model-00002-of-00003.safetensors';

let root: string;
let folders = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'checkpoint-'));
});
afterAll(() => rm(root, { recursive: true }));

async function modelFolder(options: ModelFolderOptions): Promise<string> {
  folders += 1;
  const folder = join(root, String(folders));
  await writeModelFolder(folder, options);
  return folder;
}

async function editIndex(folder: string, edit: (map: Record<string, unknown>) => void) {
  const index = JSON.parse(await readFile(join(folder, INDEX), 'utf8'));
  edit(index.weight_map);
  await writeFile(join(folder, INDEX), JSON.stringify(index));
}

/** Opens, checks against the plan of `config`, closes; returns what is reported. */
async function inspect(folder: string, config: Record<string, unknown> = smallConfig()) {
  const checkpoint = await openCheckpoint(folder);
  try {
    const unused = checkTensors(checkpoint, weightTensors(describeModel(config)));
    return { unused, unmapped: checkpoint.unmapped, files: checkpoint.files.length };
  } finally {
    await checkpoint.close();
  }
}

const failure = (code: string, words: string) =>
  expect.objectContaining({
    name: 'ModelError',
    code,
    message: expect.stringContaining(words) as string,
  });

const NORM = 'model.norm.weight';
const oneTensor = (name: string): TensorData => ({
  name,
  dtype: 'F32',
  shape: [1],
  bytes: new Uint8Array(4),
});

describe('checkpoints that open', () => {
  test.each([
    ['one file', {}, 1],
    ['three shards', { shards: 3 }, 3],
    ['float16', { storedType: 'f16', shards: 2 }, 2],
  ] as const)('%s', async (_, options, files) => {
    const found = await inspect(await modelFolder(options));
    expect(found).toEqual({ unused: [], unmapped: [], files });
  });

  test('through the symlinks of a download cache', async () => {
    const folder = await modelFolder({ shards: 3 });
    await mkdir(join(folder, 'blobs'));
    await rename(join(folder, FIRST), join(folder, 'blobs', 'abc'));
    await symlink(join('blobs', 'abc'), join(folder, FIRST));
    expect((await inspect(folder)).unused).toEqual([]);
  });

  test('tensors that nothing needs are reported', async () => {
    const folder = await modelFolder({ tiedHead: false });
    const tied = smallConfig({ tiedHead: true });
    expect((await inspect(folder, tied)).unused).toEqual(['lm_head.weight']);
  });

  test('copies that the index does not map are reported and not used', async () => {
    const folder = await modelFolder({ shards: 3 });
    const extra = 'model-extra.safetensors';
    await writeSafetensors(join(folder, extra), [oneTensor('stray'), oneTensor(NORM)]);
    await editIndex(folder, (map) => {
      map.stray = extra;
    });
    const found = await inspect(folder);
    expect(found.unmapped).toEqual([{ name: NORM, file: extra }]);
    expect(found.unused).toEqual(['stray']);
  });

  test('a file that the index does not name is not read', async () => {
    const folder = await modelFolder({ shards: 3 });
    await writeFile(join(folder, 'consolidated.safetensors'), 'nonsense');
    expect((await inspect(folder)).files).toBe(3);
  });
});

describe('checkpoints that are refused', () => {
  test('no weights', async () => {
    const folder = await modelFolder({});
    await rename(join(folder, 'model.safetensors'), join(folder, 'pytorch_model.bin'));
    await expect(openCheckpoint(folder)).rejects.toEqual(failure('missing-file', 'dummy'));
    await expect(openCheckpoint(join(folder, 'nowhere'))).rejects.toEqual(
      failure('missing-file', 'nowhere'),
    );
  });

  test('a missing shard', async () => {
    const folder = await modelFolder({ shards: 3 });
    await rm(join(folder, SECOND));
    await expect(openCheckpoint(folder)).rejects.toEqual(failure('missing-file', SECOND));
  });

  test('a folder in place of a shard', async () => {
    const folder = await modelFolder({ shards: 3 });
    await rm(join(folder, SECOND));
    await mkdir(join(folder, SECOND));
    await expect(openCheckpoint(folder)).rejects.toEqual(failure('unreadable', SECOND));
  });

  test('a truncated shard', async () => {
    const folder = await modelFolder({ shards: 3 });
    await truncate(join(folder, SECOND), 5000);
    await expect(openCheckpoint(folder)).rejects.toEqual(failure('wrong-size', SECOND));
  });

  test('an index that its shards contradict', async () => {
    const folder = await modelFolder({ shards: 3 });
    await editIndex(folder, (map) => {
      map.ghost = FIRST;
    });
    await expect(openCheckpoint(folder)).rejects.toEqual(failure('inconsistent', 'ghost'));
  });

  test.each([
    ['../model.safetensors'],
    ['/etc/passwd'],
    ['sub/model.safetensors'],
    ['sub\\model.safetensors'],
    ['..'],
    ['model.bin'],
    ['a\0.safetensors'],
    [''],
    [7],
  ])('a shard named %j', async (name) => {
    const folder = await modelFolder({ shards: 3 });
    await editIndex(folder, (map) => {
      map[NORM] = name;
    });
    await expect(openCheckpoint(folder)).rejects.toEqual(failure('malformed', 'path separators'));
  });

  test.each([
    ['{', 'not valid JSON'],
    ['null', 'weight_map'],
    ['{"weight_map":[]}', 'weight_map'],
    ['{"weight_map":{}}', 'empty'],
    ['{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}', '"a" twice'],
  ])('an index of %s', async (text, words) => {
    const folder = await modelFolder({});
    await writeFile(join(folder, INDEX), text);
    await expect(openCheckpoint(folder)).rejects.toEqual(failure('malformed', words));
  });

  test('a tensor too few, and where a copy of it lies', async () => {
    const folder = await modelFolder({ shards: 3 });
    await editIndex(folder, (map) => {
      delete map[NORM];
    });
    await expect(inspect(folder)).rejects.toEqual(failure('missing-tensor', NORM));
    await expect(inspect(folder)).rejects.toEqual(failure('missing-tensor', 'does not map'));
  });

  test('a tensor of another shape', async () => {
    const folder = await modelFolder({});
    const config = smallConfig({ config: { intermediate_size: 128 } });
    await expect(inspect(folder, config)).rejects.toEqual(failure('wrong-shape', '[128, 64]'));
  });

  test('weights in a type that is not read', async () => {
    const folder = await modelFolder({});
    const plan = weightTensors(describeModel(smallConfig())).flatMap(({ sources }) => sources);
    const tensors = plan.map(({ name, shape }) => {
      const elements = shape.reduce((total, size) => total * size, 1);
      return { name, dtype: 'F8_E5M2', shape, bytes: new Uint8Array(elements) };
    });
    await writeSafetensors(join(folder, 'model.safetensors'), tensors);
    await expect(inspect(folder)).rejects.toEqual(failure('unsupported', 'BF16'));
  });
});

test('any change to any byte of an index gives a map or a ModelError', () => {
  const text = JSON.stringify({
    metadata: { total_size: 12 },
    weight_map: { a: FIRST, 'b.weight': SECOND, '\u00e9': FIRST },
  });
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length; at++) {
    for (const value of [0, 0x22, 0x2f, 0x5c, 0x7b, 0x7d, 0xff, bytes[at]! ^ 1]) {
      const changed = bytes.slice();
      changed[at] = value;
      try {
        for (const name of parseShardIndex(new TextDecoder().decode(changed)).values()) {
          expect(name).toMatch(/^[^/\\\0]+\.safetensors$/);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(ModelError);
      }
    }
  }
});
