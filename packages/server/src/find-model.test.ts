import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findModel, type ModelSearch } from './find-model.ts';

const COMMIT = '0123456789abcdef0123456789abcdef01234567';
const OTHER = 'f'.repeat(40);

let scratch: string;
let snapshot: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'find-model-'));
  const entry = join(scratch, 'hub', 'models--Qwen--Qwen3-0.6B');
  snapshot = join(entry, 'snapshots', COMMIT);
  mkdirSync(join(entry, 'refs', 'pr'), { recursive: true });
  mkdirSync(snapshot, { recursive: true });
  mkdirSync(join(entry, 'snapshots', OTHER));
  writeFileSync(join(snapshot, 'config.json'), '{}');
  writeFileSync(join(entry, 'refs', 'main'), `${COMMIT}\n`);
  writeFileSync(join(entry, 'refs', 'pr', '1'), OTHER);
  writeFileSync(join(entry, 'refs', 'bad'), '../../../..');
});
afterAll(() => rmSync(scratch, { recursive: true }));

const find = (model: string, more: Partial<ModelSearch> = {}) => {
  const environment = { HF_HOME: scratch };
  return findModel(model, { downloadDir: undefined, revision: undefined, environment, ...more });
};
const NAME = 'Qwen/Qwen3-0.6B';

describe('a model', () => {
  test('is the folder where there is one', () => {
    expect(find(scratch)).toEqual({ folder: scratch, name: null });
    // What is neither folder nor name is left to whoever reads it.
    expect(find('/nowhere/at-all')).toEqual({ folder: '/nowhere/at-all', name: null });
    expect(find('../up')).toEqual({ folder: '../up', name: null });
    expect(() => find(scratch, { revision: 'main' })).toThrow('--revision:');
  });

  test('is found by name in the cache, wherever that is', () => {
    const found = { folder: snapshot, name: NAME };
    expect(find(NAME)).toEqual(found);
    const hub = join(scratch, 'hub');
    expect(find(NAME, { downloadDir: hub, environment: {} })).toEqual(found);
    expect(find(NAME, { environment: { HF_HUB_CACHE: hub, HF_HOME: '/nowhere' } })).toEqual(found);
    expect(find(NAME, { revision: COMMIT })).toEqual(found);
  });

  test.each([
    [NAME, {}, { HF_HOME: '/nowhere' }, '/nowhere/hub; fetch it with: hf download Qwen/Qwen3-0.6B'],
    [
      'gpt2',
      {},
      { HF_HOME: '', XDG_CACHE_HOME: '/x' },
      'cache /x/huggingface/hub; fetch it with: hf download gpt2',
    ],
    [NAME, { revision: 'v2' }, {}, `hf download ${NAME} --revision v2`],
    [
      NAME,
      { downloadDir: '/d' },
      {},
      `cache /d; fetch it with: hf download ${NAME} --cache-dir /d`,
    ],
    [NAME, { revision: 'bad' }, {}, 'is no folder, and not in the cache'],
    [NAME, { revision: '../main' }, {}, 'is no folder, and not in the cache'],
    [NAME, { revision: 'pr/1' }, {}, 'is not whole in the cache'],
  ])('%s %o is missed with the command that fetches it', (model, more, environment, message) => {
    expect(() =>
      find(model, { environment: { HF_HOME: scratch, ...environment }, ...more }),
    ).toThrow(message);
  });
});
