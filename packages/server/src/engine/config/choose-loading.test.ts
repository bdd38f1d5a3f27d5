import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Profile, referenceProfile } from '@bridgekeeper/bridge';
import type { LoadingStrategy } from '@bridgekeeper/engine/loader';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { chooseLoading } from './choose-loading.ts';
import { keepLoadingStrategy } from './loading-store.ts';

const folder = mkdtempSync(join(tmpdir(), 'choose-loading-'));
const home = process.env.XDG_CONFIG_HOME;
beforeAll(() => {
  process.env.XDG_CONFIG_HOME = folder;
});
afterAll(() => {
  if (home === undefined) delete process.env.XDG_CONFIG_HOME;
  else process.env.XDG_CONFIG_HOME = home;
  rmSync(folder, { recursive: true });
});

const NATIVE = referenceProfile('h100-native');
/** On a GPU behind `bridge`, which is there, or imposed. */
const choose = (gpuUuid: string, bridge: Profile | null, isImposed: boolean) =>
  chooseLoading({
    model: folder,
    deviceKind: 'cuda',
    gpuUuid,
    bridge,
    law: isImposed ? bridge : null,
    gpus: 1,
  });

/** What a race found, kept for the situation that was decided in. */
function keep({ store }: ReturnType<typeof choose>, strategy: LoadingStrategy): void {
  keepLoadingStrategy(store!.path, store!.key, strategy);
}

test('what won before is used again, on that GPU behind that bridge', () => {
  const first = choose('GPU-1', NATIVE, false);
  expect(first.race).not.toBeNull();
  const winner: LoadingStrategy = { ...first.value, chunkBytes: 2 ** 23, direct: true };
  keep(first, winner);
  expect(choose('GPU-1', NATIVE, false)).toMatchObject({ value: winner, race: null });
  expect(choose('GPU-2', NATIVE, false).value).toEqual(first.value);
  expect(choose('GPU-1', null, false).value.direct).toBe(false);
  expect(choose('GPU-1', referenceProfile('h100-cc'), false).value.crossedBy).toBe('lanes');
});

test('what won without a law is not used where the same bridge is imposed as one', () => {
  const free = choose('GPU-3', NATIVE, false);
  expect(free.value.crossedBy).toBe('readers');
  keep(free, free.value);
  const imposed = choose('GPU-3', NATIVE, true);
  expect(imposed.value.crossedBy).toBe('lanes');
  expect(imposed.race).not.toBeNull();
});

test('a kept strategy that a law forbids, from wherever it came, is not used', () => {
  const imposed = choose('GPU-4', NATIVE, true);
  keep(imposed, { ...imposed.value, crossedBy: 'readers' });
  expect(choose('GPU-4', NATIVE, true).value).toEqual(imposed.value);
});

test('without a GPU nothing is kept, and nothing raced', () => {
  const situation = { model: folder, deviceKind: 'cpu', bridge: null, law: null } as const;
  expect(chooseLoading({ ...situation, gpuUuid: null, gpus: 1 })).toMatchObject({
    race: null,
    store: null,
  });
});
