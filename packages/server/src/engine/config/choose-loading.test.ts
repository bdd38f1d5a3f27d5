import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Profile, referenceProfile } from '@bridgekeeper/bridge';
import type { LoadingPlan } from '@bridgekeeper/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { chooseLoading } from './choose-loading.ts';
import { keepLoadingPlan } from './loading-store.ts';

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
  });

/** What a race found, kept for the situation that `choice` was made in. */
function keep({ store }: ReturnType<typeof choose>, plan: LoadingPlan): void {
  keepLoadingPlan(store!.path, store!.key, plan);
}

test('what won before is used again, on that GPU behind that bridge', () => {
  const first = choose('GPU-1', NATIVE, false);
  expect(first.race).not.toBeNull();
  const winner: LoadingPlan = { ...first.plan, chunkBytes: 2 ** 23, direct: true };
  keep(first, winner);
  expect(choose('GPU-1', NATIVE, false)).toMatchObject({ plan: winner, race: null });
  expect(choose('GPU-2', NATIVE, false).plan).toEqual(first.plan);
  expect(choose('GPU-1', null, false).plan.direct).toBe(false);
  expect(choose('GPU-1', referenceProfile('h100-cc'), false).plan.crossedBy).toBe('lanes');
});

test('what won without a law is not used where the same bridge is imposed as one', () => {
  const free = choose('GPU-3', NATIVE, false);
  expect(free.plan.crossedBy).toBe('readers');
  keep(free, free.plan);
  const imposed = choose('GPU-3', NATIVE, true);
  expect(imposed.plan.crossedBy).toBe('lanes');
  expect(imposed.race).not.toBeNull();
});

test('a kept plan that a law forbids, from wherever it came, is not used', () => {
  const imposed = choose('GPU-4', NATIVE, true);
  keep(imposed, { ...imposed.plan, crossedBy: 'readers' });
  expect(choose('GPU-4', NATIVE, true).plan).toEqual(imposed.plan);
});

test('without a GPU nothing is kept, and nothing raced', () => {
  const situation = { model: folder, deviceKind: 'cpu', bridge: null, law: null } as const;
  expect(chooseLoading({ ...situation, gpuUuid: null })).toMatchObject({ race: null, store: null });
});
