import fs, { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { writeWhole } from './whole-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'bk-whole-'));
afterEach(() => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  rmSync(folder, { recursive: true });
});

it('is there once it returns, with its name, and nothing is left beside it', () => {
  const path = join(folder, 'kept');
  const synced: boolean[] = [];
  const { fsyncSync } = fs;
  vi.spyOn(fs, 'fsyncSync').mockImplementation((fd) => {
    synced.push(fs.fstatSync(fd).isDirectory());
    fsyncSync(fd);
  });
  syncBuiltinESMExports();
  writeWhole(path, 'one');
  writeWhole(path, 'other');
  // Of the folder, after each rename.
  expect(synced.filter((isFolder) => isFolder)).toHaveLength(2);
  expect(synced.at(-1)).toBe(true);
  expect(readFileSync(path, 'utf8')).toBe('other');
  expect(readdirSync(folder)).toEqual(['kept']);
});
