import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { configureEngine, settingsWith } from '@bridgekeeper/server';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { interpreter, PEER_READY } from '../testing/interpreter.ts';
import { chooseCases } from './contract.ts';
import { chooseModels, isPassed, type ModelResult, runModels } from './models.ts';

const folder = mkdtempSync(join(tmpdir(), 'bridgekeeper-models-'));
// What a process that is killed leaves behind is removed with it.
beforeAll(() => vi.stubEnv('TMPDIR', folder));
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

const settings = settingsWith({ device: 'cpu', policy: 'resident' });
const config = configureEngine(settings, { mode: 'off' });
const quick = chooseModels('quick', '');

test('models are chosen by name', () => {
  expect(chooseModels('none', '')).toEqual([]);
  expect(chooseModels('all', '')).toHaveLength(67);
  expect(quick.length).toBeGreaterThan(1);
  const windowed = chooseModels('all', 'Mistral');
  expect(windowed.every(({ name }) => name.startsWith('Mistral'))).toBe(true);
  expect(chooseModels('all', 'mistral')).toEqual(windowed);
  expect(windowed.length).toBeGreaterThan(0);
});

test('cases are chosen by name', () => {
  const some = chooseCases('all', 'attention');
  expect(some.length).toBeGreaterThan(0);
  expect(chooseCases('all', 'ATTENTION')).toEqual(some);
  expect(chooseCases('none', 'attention')).toEqual([]);
});

test('a model is checked in a process of its own, without a peer where there is none', async () => {
  const seen: ModelResult[] = [];
  const missing = join(folder, 'nothing');
  const report = await runModels(config, quick.slice(0, 1), missing, (each) => seen.push(each));
  expect(report.models.map(isPassed)).toEqual([true]);
  expect(seen).toEqual(report.models);
  expect(report.peer).toEqual({ skipped: expect.stringContaining('ENOENT') });
});

test('a model that ranks cannot share is no failure, and is told', async () => {
  const ranks = { ...config, ranks: 2 };
  const gated = chooseModels('quick', 'Qwen3-Next');
  expect(gated).toHaveLength(1);
  const { models } = await runModels(ranks, gated, undefined, () => undefined);
  expect(models).toEqual([
    { name: gated[0]!.name, refused: expect.stringContaining('is not divided among GPUs') },
  ]);
  expect(models.map(isPassed)).toEqual([true]);
});

test('a process that dies costs the model that it was at, and no other', async () => {
  const died = join(folder, 'died');
  // A peer's parent is the process that checks models.
  const deadly = interpreter(
    folder,
    PEER_READY,
    `const { existsSync, writeFileSync } = require('fs');
     if (existsSync(${JSON.stringify(died)})) console.log('{"error":"no such model"}');
     else {
       writeFileSync(${JSON.stringify(died)}, '');
       process.kill(process.ppid, 'SIGKILL');
     }`,
  );
  const { models } = await runModels(config, quick.slice(0, 2), deadly, () => undefined);
  expect(models.map(({ error }) => error)).toEqual(
    expect.arrayContaining([
      'the process that checks models ended: SIGKILL',
      'transformers 5.0, torch 2.0: no such model',
    ]),
  );
});
