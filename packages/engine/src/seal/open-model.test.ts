import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import { readModelSpec } from '../models/folder.ts';
import { readSamplingDefaults } from '../models/sampling-defaults.ts';
import { sealModel } from '../sealing/make.ts';
import { writeModelFolder } from '../selftest/model-folder.ts';
import { readTokenizerFiles } from '../text/tokenizer-files.ts';
import { SEAL_NAME } from './names.ts';
import { openModel, pinSeal } from './open-model.ts';

const KEY = new Uint8Array(32).fill(9);
const AUTO = { mode: 'auto' } as const;

let scratch: string;
let folder: string;
let encrypted: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'open-model-'));
  folder = join(scratch, 'model');
  encrypted = join(scratch, 'encrypted');
  await writeModelFolder(folder, { shards: 2 });
  await mkdir(join(folder, 'additional_chat_templates'));
  await writeFile(join(folder, 'additional_chat_templates', 'rag.jinja'), 'documents');
  await sealModel(folder, { out: encrypted, userKey: KEY, chunkBytes: 8192, threads: 1 });
});
afterAll(() => rm(scratch, { recursive: true }));

const mismatch = (words: string) =>
  expect.objectContaining({
    code: 'seal-mismatch',
    message: expect.stringContaining(words) as string,
  });

test('an encrypted model is read as the plain one is, also by another thread', async () => {
  const { files, seal } = await openModel(encrypted, { ...AUTO, userKey: KEY });
  for (const each of [files, structuredClone(files)]) {
    expect(await readModelSpec(each)).toEqual(await readModelSpec(folder));
    expect(await readSamplingDefaults(each)).toEqual(await readSamplingDefaults(folder));
    expect(await readTokenizerFiles(each)).toEqual(await readTokenizerFiles(folder));
  }
  const checkpoint = await openCheckpoint(encrypted, seal);
  const plain = await openCheckpoint(folder);
  expect([...checkpoint.tensors]).toEqual([...plain.tensors]);
  expect(checkpoint.files).toEqual(plain.files);
  await Promise.all([checkpoint.close(), plain.close()]);
});

test('what storage adds to a sealed folder is not looked at', async () => {
  const { files, seal } = await openModel(encrypted, { ...AUTO, userKey: KEY });
  const added = ['chat_template.jinja', 'additional_chat_templates/added.jinja'];
  for (const name of added) await writeFile(join(encrypted, name), 'say yes');
  const again = await openModel(encrypted, { ...AUTO, userKey: KEY });
  expect(again.files).toEqual(files);
  expect((await readTokenizerFiles(again.files)).templates.has('added')).toBe(false);
  for (const name of added) await rm(join(encrypted, name));
  const single = join(scratch, 'single');
  await writeModelFolder(single, {});
  await sealModel(single, { chunkBytes: 8192, threads: 1 });
  const opened = await openModel(single, AUTO);
  await writeFile(join(single, 'model.safetensors.index.json'), '{"weight_map": {"a": "b"}}');
  const checkpoint = await openCheckpoint(single, opened.seal);
  expect(checkpoint.files.map(({ name }) => name)).toEqual(['model.safetensors']);
  await checkpoint.close();
  expect(seal!.key).not.toBeNull();
});

test('a sealed file that has grown is refused unread', async () => {
  const grown = join(scratch, 'grown');
  await writeModelFolder(grown, {});
  await sealModel(grown, { chunkBytes: 8192, threads: 1 });
  await writeFile(join(grown, 'tokenizer.json'), ' '.repeat(1e6));
  await expect(openModel(grown, AUTO)).rejects.toEqual(mismatch('tokenizer.json has 1000000'));
});

test('a policy is pinned to what was opened first', async () => {
  const mine = join(scratch, 'mine');
  const other = join(scratch, 'other');
  await writeModelFolder(mine, { seed: 1 });
  await writeModelFolder(other, { seed: 2 });
  const unsealed = await openModel(mine, AUTO);
  await sealModel(mine, { chunkBytes: 8192, threads: 1 });
  expect(pinSeal(AUTO, unsealed)).toEqual({ mode: 'off' });
  const sealed = await openModel(mine, AUTO);
  const pinned = pinSeal(AUTO, sealed);
  expect((await openModel(mine, pinned)).seal).toEqual(sealed.seal);
  await sealModel(other, { chunkBytes: 8192, threads: 1 });
  for (const name of ['model.safetensors', SEAL_NAME]) {
    await copyFile(join(other, name), join(mine, name));
  }
  await expect(openModel(mine, AUTO)).resolves.toBeDefined();
  await expect(openModel(mine, pinned)).rejects.toEqual(mismatch("the model's root is"));
  await rm(join(mine, SEAL_NAME));
  await expect(openModel(mine, pinned)).rejects.toMatchObject({ code: 'not-sealed' });
});
