import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { keepLoadingStrategy, readLoadingStrategy } from './loading-store.ts';

const folder = mkdtempSync(join(tmpdir(), 'loading-store-'));
afterAll(() => rmSync(folder, { recursive: true }));
const PLAN = {
  crossedBy: 'lanes',
  contexts: 2,
  chunkBytes: 2 ** 25,
  memory: 'pageable',
  readers: 12,
  direct: true,
} as const;

test('winners are kept by law and storage', () => {
  const path = join(folder, 'deep', 'gpu.loading.json');
  expect(readLoadingStrategy(path, 'off tmpfs')).toBeUndefined();
  keepLoadingStrategy(path, 'off tmpfs', PLAN);
  keepLoadingStrategy(path, 'b300-cc disk', { ...PLAN, contexts: 4 });
  expect(readLoadingStrategy(path, 'off tmpfs')).toEqual(PLAN);
  expect(readLoadingStrategy(path, 'b300-cc disk')?.contexts).toBe(4);
  expect(readLoadingStrategy(path, 'off disk')).toBeUndefined();
});

test.each([
  'not json',
  '{"schema":"bridgekeeper.loading/2","plans":{}}',
  '{"schema":"bridgekeeper.loading/1","plans":{"off tmpfs":{"contexts":-1}}}',
])('a file that cannot be used counts as none: %s', (text) => {
  const path = join(folder, 'broken.json');
  writeFileSync(path, text);
  expect(readLoadingStrategy(path, 'off tmpfs')).toBeUndefined();
  keepLoadingStrategy(path, 'off tmpfs', PLAN);
  expect(readLoadingStrategy(path, 'off tmpfs')).toEqual(PLAN);
});
