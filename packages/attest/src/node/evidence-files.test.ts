import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readEvidenceFiles } from './evidence-files.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-evidence-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const place = (name: string) => join(scratch, name);

describe('files', () => {
  test('come from folders in the order of their names, one level deep', async () => {
    mkdirSync(place('folder/inner'), { recursive: true });
    for (const name of ['b.txt', 'a.txt', '.hidden', 'inner/deep.txt']) {
      writeFileSync(place(`folder/${name}`), name);
    }
    symlinkSync(place('folder/a.txt'), place('folder/c.txt'));
    const paths = [place('folder'), place('folder/inner/deep.txt')];
    const { files, unreadable } = await readEvidenceFiles(paths);
    expect(unreadable).toEqual([]);
    expect(files.map(({ name, isNamed }) => [name, isNamed])).toEqual([
      ['a.txt', false],
      ['b.txt', false],
      ['c.txt', false],
      ['deep.txt', true],
    ]);
    expect(new TextDecoder().decode(files[3]!.bytes)).toBe('inner/deep.txt');
  });

  test('that are missing, too large or none are refused', async () => {
    await expect(readEvidenceFiles([place('none')])).rejects.toMatchObject({ code: 'not-found' });
    writeFileSync(place('large'), '');
    truncateSync(place('large'), 8 * 1024 * 1024 + 1);
    await expect(readEvidenceFiles([place('large')])).rejects.toMatchObject({ code: 'too-large' });
    await expect(readEvidenceFiles(['/dev/zero'])).rejects.toMatchObject({ code: 'unreadable' });
    spawnSync('mkfifo', [place('pipe')]);
    await expect(readEvidenceFiles([place('pipe')])).rejects.toMatchObject({
      name: 'EvidenceFileError',
    });
  });

  test('of a folder that cannot be read do not keep the others from being read', async () => {
    mkdirSync(place('mixed'));
    writeFileSync(place('mixed/good'), 'good');
    writeFileSync(place('mixed/large'), '');
    truncateSync(place('mixed/large'), 8 * 1024 * 1024 + 1);
    symlinkSync(place('mixed/none'), place('mixed/broken'));
    symlinkSync('/dev/zero', place('mixed/device'));
    const { files, unreadable } = await readEvidenceFiles([place('mixed')]);
    expect(files.map(({ name }) => name)).toEqual(['good']);
    expect(unreadable.map(({ name, code }) => [name, code])).toEqual([
      ['broken', 'not-available'],
      ['device', 'not-available'],
      ['large', 'too-large'],
    ]);
    const named = readEvidenceFiles([place('mixed/good'), place('mixed/large')]);
    await expect(named).rejects.toMatchObject({ code: 'too-large' });
  });

  test('are bounded in number and in all', async () => {
    mkdirSync(place('many'));
    for (let i = 0; i < 257; i++) writeFileSync(place(`many/${i}`), '');
    await expect(readEvidenceFiles([place('many')])).rejects.toMatchObject({ code: 'too-large' });
    truncateSync(place('large'), 8 * 1024 * 1024);
    const nine = Array.from({ length: 9 }, () => place('large'));
    await expect(readEvidenceFiles(nine)).rejects.toMatchObject({ code: 'too-large' });
  });
});
