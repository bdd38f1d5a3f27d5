import { closeSync, linkSync, mkdtempSync, openSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { lockFile } from './file-lock.ts';

const folder = mkdtempSync(join(tmpdir(), 'file-lock-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('a file has one lock, under every name, until the one that has it is closed', () => {
  const path = join(folder, 'file');
  const first = openSync(path, 'a+');
  symlinkSync(path, join(folder, 'symbolic'));
  linkSync(path, join(folder, 'hard'));
  const others = [path, join(folder, 'symbolic'), join(folder, 'hard')].map((name) =>
    openSync(name, 'a+'),
  );
  expect(lockFile(first)).toBe(true);
  expect(lockFile(first)).toBe(true);
  for (const other of others) expect(lockFile(other)).toBe(false);
  const elsewhere = openSync(join(folder, 'other file'), 'a+');
  expect(lockFile(elsewhere)).toBe(true);
  closeSync(first);
  expect(others.map(lockFile)).toEqual([true, false, false]);
  for (const fd of [...others, elsewhere]) closeSync(fd);
});

test('what cannot be locked is an error that says why', () => {
  const fd = openSync(join(folder, 'closed'), 'a+');
  closeSync(fd);
  expect(() => lockFile(fd)).toThrow(expect.objectContaining({ code: 'call-failed', status: 9 }));
});
