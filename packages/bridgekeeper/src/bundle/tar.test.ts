import { spawnSync } from 'node:child_process';
import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { type TarEntry, writeTar } from './tar.ts';

function file(path: string, text: string, executable = false): TarEntry {
  const bytes = Buffer.from(text);
  return { path, bytes: bytes.length, executable, read: () => Readable.from([bytes]) };
}

async function archive(...entries: TarEntry[]): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of writeTar(entries)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** What the system's tar, where there is one, makes of an archive. */
function tar(input: Buffer, ...args: string[]): string | undefined {
  const { error, stdout, stderr, status } = spawnSync('tar', args, { input, encoding: 'utf8' });
  if (error !== undefined) return undefined;
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return stdout;
}

const folder = `${'a'.repeat(70)}/${'b'.repeat(70)}`;
const entries = [
  file('x/bin/run', '#!/bin/sh\n', true),
  file(`${folder}/deep.txt`, 'z'.repeat(1000)),
  file('x/empty', ''),
  file('x/grüße', 'hello\n'),
  { path: 'x/link', link: '../y' },
];

describe('writeTar', () => {
  test('is made of whole blocks and depends on the entries alone', async () => {
    const once = await archive(...entries);
    expect(once.length % 512).toBe(0);
    expect(once.equals(await archive(...entries))).toBe(true);
  });

  test('writes the fields where ustar has them', async () => {
    const bytes = await archive(file('x/run', 'abc', true));
    const field = (from: number, to: number) => bytes.toString('latin1', from, to);
    expect(field(0, 6)).toBe('x/run\0');
    expect(field(100, 108)).toBe('0000755\0');
    expect(field(124, 136)).toBe('00000000003\0');
    expect(field(257, 265)).toBe('ustar\x0000');
    expect(field(512, 516)).toBe('abc\0');
    expect(bytes.length).toBe(4 * 512);
    const header = Buffer.from(bytes.subarray(0, 512));
    header.fill(' ', 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    expect(Number.parseInt(field(148, 154), 8)).toBe(sum);
  });

  test('is read by the tar of the system, long paths and links included', async () => {
    const listing = tar(await archive(...entries), '-tvf', '-', '--numeric-owner', '--utc');
    if (listing === undefined) return; // No tar on this machine: the fields above are what we have.
    const lines = listing.trimEnd().split('\n');
    expect(lines).toHaveLength(entries.length);
    for (const line of lines) expect(line).toMatch(/ 0\/0 +\d+ 1970-01-01 00:00 /);
    expect(lines[0]).toMatch(/^-rwxr-xr-x .* x\/bin\/run$/);
    expect(lines[1]).toContain(`1000 1970-01-01 00:00 ${folder}/deep.txt`);
    expect(lines[4]).toContain('x/link -> ../y');
  });

  test('gives back the bytes through the tar of the system', async () => {
    const text = tar(await archive(...entries), '-xOf', '-', `${folder}/deep.txt`);
    if (text === undefined) return; // As above.
    expect(text).toBe('z'.repeat(1000));
  });

  test.each([
    [file('a'.repeat(101), ''), 'path-too-long'],
    [file(`${'a'.repeat(156)}/b`, ''), 'path-too-long'],
    [{ path: 'x', link: 'a'.repeat(101) }, 'path-too-long'],
    [{ ...file('x', 'abc'), bytes: 2 }, 'file-changed'],
    [{ ...file('x', ''), bytes: 8 ** 11 }, 'too-large'],
  ])('refuses what it cannot hold (%#)', async (entry, code) => {
    await expect(archive(entry)).rejects.toMatchObject({ name: 'BundleError', code });
  });
});
