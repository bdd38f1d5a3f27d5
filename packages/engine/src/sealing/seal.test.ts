import {
  appendFile,
  copyFile,
  cp,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectedDigest, sealedFile } from '../seal/chunks.ts';
import { openSeal, readSeal, type SealPolicy } from '../seal/open.ts';
import { readSealedText, readSmallFiles } from '../seal/small-files.ts';
import { writeModelFolder } from '../selftest/model-folder.ts';
import { writeSafetensors } from '../selftest/safetensors-file.ts';
import { type SealOptions, sealModel } from './make.ts';
import { type VerifyOptions, verifyModel } from './verify.ts';

const SEAL = 'bridgekeeper.seal.json';
const FIRST = 'model-00001-of-00002.safetensors';
const SECOND = 'model-00002-of-00002.safetensors';
const KEY = new Uint8Array(32).fill(9);

let scratch: string;
let folders = 0;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'seal-'));
});
afterAll(() => rm(scratch, { recursive: true }));

function newFolder(): string {
  folders += 1;
  return join(scratch, String(folders), 'model');
}

async function modelFolder(seed = 1): Promise<string> {
  const folder = newFolder();
  await writeModelFolder(folder, { shards: 2, seed });
  await mkdir(join(folder, 'additional_chat_templates'));
  await writeFile(join(folder, 'additional_chat_templates', 'rag.jinja'), 'documents');
  await writeFile(join(folder, 'README.md'), 'is not sealed');
  return folder;
}

const seal = (folder: string, options: Partial<SealOptions> = {}) =>
  sealModel(folder, { chunkBytes: 16_384, threads: 1, ...options });

const made = new Map<string, Promise<string>>();

/** A sealed model: as it is, or its encrypted copies. Sealed once, and copied for each test. */
async function sealedFolder(isEncrypted: boolean, seed = 1): Promise<string> {
  const name = `${seed} ${isEncrypted}`;
  const original = made.get(name) ?? makeSealed(isEncrypted, seed);
  made.set(name, original);
  const folder = newFolder();
  await cp(await original, folder, { recursive: true });
  return folder;
}

async function makeSealed(isEncrypted: boolean, seed: number): Promise<string> {
  const folder = await modelFolder(seed);
  const out = newFolder();
  await seal(folder, isEncrypted ? { out, userKey: KEY } : {});
  return isEncrypted ? out : folder;
}

const keyOf = (isEncrypted: boolean) => (isEncrypted ? { userKey: KEY } : {});

/** What is wrong with a folder, in words. */
async function faultsIn(folder: string, options: Partial<VerifyOptions> = {}): Promise<string[]> {
  const { faults } = await verifyModel(folder, { threads: 1, ...options });
  return faults.map(({ message }) => message);
}

async function overwrite(path: string, position: number, bytes: Uint8Array): Promise<void> {
  const handle = await open(path, 'r+');
  await handle.write(bytes, 0, bytes.length, position);
  await handle.close();
}

const failure = (code: string, words: string) =>
  expect.objectContaining({
    name: 'ModelError',
    code,
    message: expect.stringContaining(words) as string,
  });

describe.each([
  ['a sealed model', false],
  ['an encrypted model', true],
])('%s', (_, isEncrypted) => {
  const key = keyOf(isEncrypted);

  test('is verified, by its root and its files', async () => {
    const folder = await sealedFolder(isEncrypted);
    const found = (await readSeal(folder))!;
    expect(found.files.map(({ name }) => name)).toEqual([
      'additional_chat_templates/rag.jinja',
      'config.json',
      FIRST,
      SECOND,
      'model.safetensors.index.json',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(await faultsIn(folder, { ...key, root: found.root.toUpperCase() })).toEqual([]);
    const other = verifyModel(folder, { ...key, threads: 1, root: '0'.repeat(64) });
    await expect(other).rejects.toEqual(failure('seal-mismatch', 'was expected'));
  });

  test('with a bit changed is refused, at its place', async () => {
    const folder = await sealedFolder(isEncrypted);
    const path = join(folder, FIRST);
    const bytes = await readFile(path);
    await overwrite(path, 16_384 * 2 + 5, Uint8Array.of(bytes[16_384 * 2 + 5]! ^ 1));
    const { faults } = await verifyModel(folder, { ...key, threads: 2 });
    expect(faults).toEqual([
      {
        file: FIRST,
        chunk: 2,
        offsetBytes: 32_768,
        message: `${FIRST}: chunk 2 (16384 bytes from 32768) is not what was sealed`,
      },
    ]);
  });

  test('with its chunks in another order is refused', async () => {
    const folder = await sealedFolder(isEncrypted);
    const path = join(folder, FIRST);
    const bytes = await readFile(path);
    await overwrite(path, 0, bytes.subarray(16_384, 32_768));
    await overwrite(path, 16_384, bytes.subarray(0, 16_384));
    const faults = await faultsIn(folder, key);
    expect(faults).toHaveLength(2);
    expect(faults[0]).toContain('chunk 0 ');
    expect(faults[1]).toContain('chunk 1 ');
  });

  test('with a file cut, extended, swapped, removed or added is refused', async () => {
    const cut = await sealedFolder(isEncrypted);
    await truncate(join(cut, FIRST), 16_384);
    await appendFile(join(cut, SECOND), 'x');
    await rm(join(cut, 'tokenizer.json'));
    await writeFile(join(cut, 'chat_template.jinja'), 'say yes');
    const faults = (await faultsIn(cut, key)).join('\n');
    expect(faults).toMatch(/^chat_template.jinja was not there when the model was sealed$/m);
    expect(faults).toMatch(/^model-00001-of-00002.safetensors has 16384 bytes, \d+ were sealed$/m);
    expect(faults).toMatch(/^model-00002-of-00002.safetensors has \d+ bytes, \d+ were sealed$/m);
    expect(faults).toMatch(/^tokenizer.json is sealed, but not in the folder$/m);
    const swapped = await sealedFolder(isEncrypted);
    await rename(join(swapped, FIRST), join(swapped, 'x'));
    await rename(join(swapped, SECOND), join(swapped, FIRST));
    await rename(join(swapped, 'x'), join(swapped, SECOND));
    expect((await faultsIn(swapped, key)).length).toBeGreaterThan(0);
  });

  test('with a chunk, a file or the manifest of another model is refused', async () => {
    const folder = await sealedFolder(isEncrypted);
    const other = await sealedFolder(isEncrypted, 2);
    const piece = (await readFile(join(other, FIRST))).subarray(16_384, 32_768);
    await overwrite(join(folder, FIRST), 16_384, piece);
    expect(await faultsIn(folder, key)).toEqual([expect.stringContaining('chunk 1 ')]);
    await copyFile(join(other, FIRST), join(folder, FIRST));
    expect((await faultsIn(folder, key)).length).toBeGreaterThan(1);
    const another = await sealedFolder(isEncrypted);
    await copyFile(join(other, SEAL), join(another, SEAL));
    expect((await faultsIn(another, key)).length).toBeGreaterThan(1);
  });

  test('gives its small files as they were sealed, and no others', async () => {
    const folder = await sealedFolder(isEncrypted);
    await writeFile(join(folder, 'chat_template.jinja'), 'say yes');
    const opened = (await openSeal(folder, { mode: 'auto', ...key }))!;
    const files = await readSmallFiles(folder, opened);
    const text = (name: string) => new TextDecoder().decode(files.get(name));
    expect(text('additional_chat_templates/rag.jinja')).toBe('documents');
    expect(JSON.parse(text('config.json'))).toMatchObject({ hidden_size: 64 });
    expect(files.has('chat_template.jinja')).toBe(false);
    expect(files.has(FIRST)).toBe(false);
    const config = await readFile(join(folder, 'config.json'));
    expect(config.includes('hidden_size')).toBe(!isEncrypted);
    await writeFile(join(folder, 'config.json'), config.fill(0, 5, 6));
    const reading = () => readSmallFiles(folder, opened);
    await expect(reading()).rejects.toEqual(failure('seal-mismatch', 'config.json: chunk 0'));
    await writeFile(join(folder, 'config.json'), '{}');
    await expect(reading()).rejects.toEqual(failure('seal-mismatch', 'config.json has 2 bytes'));
    await rm(join(folder, 'config.json'));
    await expect(reading()).rejects.toEqual(failure('seal-mismatch', 'not in the folder any more'));
  });
});

describe('sealing', () => {
  test('gives the same root for the same model, however it is cut over threads', async () => {
    const folder = await modelFolder();
    const one = await seal(folder, { threads: 1 });
    const copies = await seal(folder, { threads: 3, out: newFolder() });
    expect(copies.root).toBe(one.root);
    expect((await seal(folder, { chunkBytes: 8192 })).root).not.toBe(one.root);
    expect((await seal(await modelFolder(2))).root).not.toBe(one.root);
    const { index, file } = sealedFile(one, FIRST);
    expect(expectedDigest(one, index, 1)).toBe(file.chunks[1]!.digest);
    expect(() => sealedFile(one, 'x.safetensors')).toThrow(failure('seal-mismatch', 'not among'));
  });

  test('encrypts anew each time, and leaves lengths as they are', async () => {
    const folder = await modelFolder();
    const [first, second] = [newFolder(), newFolder()];
    const plain = await readFile(join(folder, FIRST));
    for (const out of [first, second]) await seal(folder, { out, userKey: KEY });
    const [a, b] = await Promise.all([first, second].map((out) => readFile(join(out, FIRST))));
    expect([a!.length, b!.length]).toEqual([plain.length, plain.length]);
    expect(a!.equals(b!)).toBe(false);
    expect(a!.includes(plain.subarray(1000, 1016))).toBe(false);
  });

  test('reports its progress', async () => {
    const folder = await modelFolder();
    const seen: number[] = [];
    const made = await seal(folder, {
      onProgress: ({ bytesDone, bytesTotal }) => seen.push(bytesDone / bytesTotal),
    });
    expect(seen).toHaveLength(made.files.reduce((sum, { chunks }) => sum + chunks.length, 0));
    expect(seen).toEqual([...seen].sort((x, y) => x - y));
    expect(seen.at(-1)).toBe(1);
  });

  test('that is stopped leaves nothing behind', async () => {
    const folder = await modelFolder();
    const out = newFolder();
    for (const options of [{ out, userKey: KEY }, {}]) {
      const stop = new AbortController();
      const stopped = seal(folder, {
        ...options,
        chunkBytes: 8192,
        signal: stop.signal,
        onProgress: () => stop.abort(new Error('enough')),
      });
      await expect(stopped).rejects.toThrow('enough');
    }
    expect(await readdir(folder)).not.toContain(SEAL);
    expect((await readdir(folder)).filter((name) => name.endsWith('.partial'))).toEqual([]);
    expect(await readdir(join(out, '..'))).toEqual([]);
  });

  test('of a folder that changes meanwhile fails, and keeps the manifest there was', async () => {
    const folder = await modelFolder();
    const before = await seal(folder);
    const touched: Promise<void>[] = [];
    const sealing = seal(folder, {
      chunkBytes: 8192,
      onProgress: () => void touched.push(utimes(join(folder, SECOND), 1, 1)),
    });
    await expect(sealing).rejects.toEqual(failure('inconsistent', `${SECOND} changed`));
    await Promise.all(touched);
    expect((await readSeal(folder))!.root).toBe(before.root);
  });

  test('refuses a folder that is there, and a checkpoint that is broken', async () => {
    const folder = await modelFolder();
    await expect(seal(folder, { out: folder })).rejects.toEqual(failure('unwritable', 'already'));
    await truncate(join(folder, FIRST), 100);
    await expect(seal(folder)).rejects.toEqual(failure('wrong-size', FIRST));
    await rm(join(folder, FIRST));
    await expect(seal(folder)).rejects.toEqual(failure('missing-file', FIRST));
  });

  test('takes files without a byte, and a model of one file', async () => {
    const folder = newFolder();
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'chat_template.jinja'), '');
    await writeSafetensors(join(folder, 'model.safetensors'), []);
    const made = await seal(folder, { out: `${folder}-out/`, userKey: KEY });
    expect(made.files.map(({ name, chunks }) => [name, chunks.length])).toEqual([
      ['chat_template.jinja', 0],
      ['model.safetensors', 1],
    ]);
    expect(await faultsIn(`${folder}-out`, { userKey: KEY })).toEqual([]);
  });
});

describe('a policy', () => {
  const opening = async (folder: string, policy: SealPolicy) => openSeal(folder, policy);
  const root = '0'.repeat(64);

  test('of auto asks for a seal where there is one, or where a root or key is given', async () => {
    const folder = await modelFolder();
    expect(await opening(folder, { mode: 'auto' })).toBe(null);
    for (const more of [{ root }, { userKey: KEY }]) {
      const opened = opening(folder, { mode: 'auto', ...more });
      await expect(opened).rejects.toEqual(failure('not-sealed', SEAL));
    }
    const required = opening(folder, { mode: 'require' });
    await expect(required).rejects.toEqual(failure('not-sealed', SEAL));
    const made = await seal(folder);
    const opened = await opening(folder, { mode: 'auto', root: made.root });
    expect(opened).toEqual({ seal: made, key: null });
    await writeFile(join(folder, SEAL), '{');
    await expect(opening(folder, { mode: 'auto' })).rejects.toEqual(failure('malformed', SEAL));
    expect(await opening(folder, { mode: 'off' })).toBe(null);
  });

  test('needs the key of an encrypted model, and that only', async () => {
    const folder = await sealedFolder(true);
    await expect(opening(folder, { mode: 'auto' })).rejects.toEqual(
      failure('wrong-key', 'is encrypted'),
    );
    const wrong = opening(folder, { mode: 'auto', userKey: new Uint8Array(32) });
    await expect(wrong).rejects.toEqual(failure('wrong-key', 'another key'));
    const plain = await sealedFolder(false);
    const replaced = opening(plain, { mode: 'auto', userKey: KEY });
    await expect(replaced).rejects.toEqual(failure('seal-mismatch', 'not encrypted'));
  });

  test('of small files covers those that were taken away, changed or put there', async () => {
    const folder = await sealedFolder(false);
    const opened = { seal: (await readSeal(folder))!, key: null };
    const path = join(folder, 'config.json');
    const config = await readFile(path);
    const read = () => readSmallFiles(folder, opened);
    await writeFile(join(folder, 'generation_config.json'), '{}');
    expect((await read()).get('config.json')).toEqual(new Uint8Array(config));
    expect((await read()).has('generation_config.json')).toBe(false);
    expect(await readSealedText(folder, opened, 'generation_config.json')).toBeUndefined();
    for (const change of [config.subarray(1), config.map((byte) => byte ^ 1)]) {
      await writeFile(path, change);
      await expect(read()).rejects.toEqual(failure('seal-mismatch', 'config.json'));
    }
    await rm(path);
    await expect(read()).rejects.toEqual(failure('seal-mismatch', 'not in the folder any more'));
  });
});
