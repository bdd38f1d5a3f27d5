import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { settingsWith } from '../../settings/configuration.ts';
import type { Settings } from '../../settings/table.ts';
import { chooseTask } from './choose-task.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'bridgekeeper-task-'));
});
afterAll(() => rm(root, { recursive: true }));

/** A folder as sentence-transformers writes it, with this in its Pooling. */
async function folder(name: string, pooling?: object): Promise<string> {
  const path = join(root, name);
  await mkdir(join(path, '1_Pooling'), { recursive: true });
  if (pooling === undefined) return path;
  const module = (kind: string, at: string) => ({
    type: `sentence_transformers.models.${kind}`,
    path: at,
  });
  const modules = [module('Transformer', ''), module('Pooling', '1_Pooling')];
  await writeFile(join(path, 'modules.json'), JSON.stringify(modules));
  await writeFile(join(path, '1_Pooling/config.json'), JSON.stringify(pooling));
  return path;
}

const LAST = { pooling_mode_mean_tokens: false, pooling_mode_lasttoken: true };
const choose = (files: string, changes: Partial<Settings> = {}) =>
  chooseTask(settingsWith(changes), files).then(({ value }) => value);

test('what a folder says is done, unless a flag says otherwise', async () => {
  const plain = await folder('plain');
  const embedder = await folder('embedder', LAST);
  expect(await choose(plain)).toBe('generate');
  expect(await choose(embedder)).toBe('embed');
  expect(await choose(await folder('newer', { pooling_mode: 'lasttoken' }))).toBe('embed');
  expect(await choose(embedder, { task: 'generate' })).toBe('generate');
  expect(await choose(embedder, { runner: 'generate' })).toBe('generate');
  expect(await choose(plain, { runner: 'pooling' })).toBe('embed');
  expect(await choose(plain, { runner: 'pooling', convert: 'classify' })).toBe('score');
  expect(await choose(plain, { convert: 'embed' })).toBe('embed');
  expect(await choose(plain, { task: 'score' })).toBe('score');
});

test('flags that contradict each other are refused', async () => {
  const plain = await folder('plain');
  await expect(choose(plain, { task: 'embed', convert: 'classify' })).rejects.toThrow(
    '--task embed and --convert classify contradict each other',
  );
  await expect(choose(plain, { task: 'embed', runner: 'generate' })).rejects.toThrow('contradict');
});

test('pooling of another kind is refused', async () => {
  const mean = { pooling_mode_mean_tokens: true, pooling_mode_lasttoken: false };
  await expect(choose(await folder('mean', mean))).rejects.toThrow(
    '1_Pooling/config.json: pooling is mean_tokens; supported: lasttoken',
  );
});
