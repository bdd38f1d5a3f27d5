import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ModelError } from '../models/errors.ts';
import { safetensorsBytes, writeSafetensors } from '../selftest/safetensors-file.ts';
import { readSafetensorsHeader } from './safetensors.ts';
import { ShardFile } from './shard-file.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'safetensors-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function readHeader(bytes: Uint8Array) {
  await writeFile(join(folder, 'file.safetensors'), bytes);
  const file = await ShardFile.open(folder, 'file.safetensors', null);
  try {
    return await readSafetensorsHeader(file, bytes.length, 'file.safetensors');
  } finally {
    await file.close();
  }
}

const f32 = (shape: number[], begin: number, end: number) =>
  JSON.stringify({ dtype: 'F32', shape, data_offsets: [begin, end] });
const data = (bytes: number) => new Uint8Array(bytes);

describe('well-formed files', () => {
  test('tensors come in the order of their data', async () => {
    const header = `{"b":${f32([2], 4, 12)},"__metadata__":{"format":"pt"},"a":${f32([], 0, 4)}}`;
    const dataStart = 8 + header.length;
    expect(await readHeader(safetensorsBytes(header, data(12)))).toEqual({
      metadata: { format: 'pt' },
      tensors: [
        { name: 'a', dtype: 'F32', shape: [], offsetBytes: dataStart, bytes: 4 },
        { name: 'b', dtype: 'F32', shape: [2], offsetBytes: dataStart + 4, bytes: 8 },
      ],
    });
  });

  test('padding, empty tensors, sub-byte types and odd names are fine', async () => {
    const nibbles = JSON.stringify({ dtype: 'F4', shape: [3, 2], data_offsets: [4, 7] });
    const header =
      `{"e":${f32([0, 9007199254740991], 4, 4)},"a":${f32([1], 0, 4)},` +
      `"__proto__":${nibbles}}     `;
    const { tensors } = await readHeader(safetensorsBytes(header, data(7)));
    expect(tensors.map(({ name }) => name)).toEqual(['a', 'e', '__proto__']);
  });

  test('no tensors at all', async () => {
    expect((await readHeader(safetensorsBytes('{}', data(0)))).tensors).toEqual([]);
  });

  test('what the test writer writes', async () => {
    const path = join(folder, 'written.safetensors');
    const bytes = data(6);
    await writeSafetensors(path, [{ name: 'x', dtype: 'BF16', shape: [3], bytes }]);
    const file = await ShardFile.open(folder, 'written.safetensors', null);
    const { tensors } = await readSafetensorsHeader(file, file.bytes, path);
    await file.close();
    expect(tensors[0]).toMatchObject({ name: 'x', dtype: 'BF16', shape: [3], bytes: 6 });
  });
});

/** One tensor, well described. */
const X = '"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}';

/** A header with one tensor of the given JSON. */
function one(dtype: string, shape: string, offsets: string): string {
  return `{"x":{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}}`;
}

/** Its product overflows to infinity. */
const ENDLESS = JSON.stringify(Array(30).fill(2 ** 52));

describe('files that are refused', () => {
  test.each<[string, string, number, string, string]>([
    ['no JSON', '{"a":', 0, 'malformed', 'not valid JSON'],
    ['no object', '{]', 0, 'malformed', 'not valid JSON'],
    ['space in front', ` {${X}}`, 4, 'malformed', 'begin with'],
    ['an array', `[1]`, 0, 'malformed', 'begin with'],
    ['a key twice', `{${X},${X}}`, 4, 'malformed', '"x" twice'],
    ['a hidden field twice', `{"x":{"dtype":"F32","dtype":"F32"}}`, 4, 'malformed', 'twice'],
    ['metadata of numbers', `{"__metadata__":{"a":1}}`, 0, 'malformed', '__metadata__'],
    ['metadata of another kind', `{"__metadata__":"a"}`, 0, 'malformed', '__metadata__'],
    ['no description', `{"x":3}`, 0, 'malformed', 'not described'],
    ['an unknown type', one('"F31"', '[1]', '[0,4]'), 4, 'malformed', 'unknown dtype'],
    ['an inherited type', one('"toString"', '[1]', '[0,4]'), 4, 'malformed', 'unknown dtype'],
    ['no shape', one('"F32"', 'null', '[0,4]'), 4, 'malformed', '"shape"'],
    ['a text shape', one('"F32"', '["1"]', '[0,4]'), 4, 'malformed', '"shape"'],
    ['a fractional size', one('"F32"', '[1.5]', '[0,6]'), 6, 'malformed', 'whole numbers'],
    ['a negative size', one('"F32"', '[-1]', '[0,4]'), 4, 'malformed', 'whole numbers'],
    ['1e0', one('"F32"', '[1e0]', '[0,4]'), 4, 'malformed', 'whole numbers'],
    ['2^53 + 1', one('"F32"', '[9007199254740993]', '[0,4]'), 4, 'malformed', '2^53'],
    ['a huge shape', one('"F32"', '[4294967296,4294967296]', '[0,4]'), 4, 'malformed', 'large'],
    ['an endless shape', one('"F32"', ENDLESS, '[0,4]'), 4, 'malformed', 'large'],
    ['one offset', one('"F32"', '[1]', '[0]'), 4, 'malformed', 'data_offsets'],
    ['three offsets', one('"F32"', '[1]', '[0,4,8]'), 8, 'malformed', 'data_offsets'],
    ['a backward tensor', one('"F32"', '[1]', '[4,0]'), 4, 'malformed', 'before it begins'],
    ['too few bytes', one('"F32"', '[2]', '[0,4]'), 4, 'malformed', 'needs 8 bytes'],
    ['half a byte', one('"F4"', '[3]', '[0,2]'), 2, 'malformed', 'whole bytes'],
    ['a hole in front', one('"F32"', '[1]', '[4,8]'), 8, 'malformed', 'hole'],
    ['a hole', `{${X},"y":${f32([1], 8, 12)}}`, 12, 'malformed', 'hole'],
    ['an overlap', `{"x":${f32([2], 0, 8)},"y":${f32([2], 4, 12)}}`, 12, 'malformed', 'overlaps'],
    ['shared data', `{${X},"y":${f32([1], 0, 4)}}`, 4, 'malformed', 'overlaps'],
    ['missing data', `{${X}}`, 3, 'wrong-size', 'truncated'],
    ['trailing bytes', `{${X}}`, 5, 'wrong-size', '1 bytes after'],
  ])('%s', async (_, header, dataBytes, code, words) => {
    await expect(readHeader(safetensorsBytes(header, data(dataBytes)))).rejects.toEqual(
      expect.objectContaining({
        name: 'ModelError',
        code,
        message: expect.stringContaining(words) as string,
      }),
    );
  });

  test.each<[string, Uint8Array, string, string]>([
    ['an empty file', data(0), 'wrong-size', '0 bytes'],
    ['seven bytes', data(7), 'wrong-size', '7 bytes'],
    [
      'a header past the end',
      Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0, 123),
      'wrong-size',
      'truncated',
    ],
    [
      'a header past the limit',
      Uint8Array.of(1, 225, 245, 5, 0, 0, 0, 0),
      'malformed',
      '100000001',
    ],
    ['a header of 2^64 - 1', data(8).fill(255), 'malformed', '18446744073709551615'],
    ['no UTF-8', Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0, 123, 255, 125), 'malformed', 'UTF-8'],
    ['a byte order mark', safetensorsBytes('\uFEFF{}', data(0)), 'malformed', 'begin with'],
  ])('%s', async (_, bytes, code, words) => {
    await expect(readHeader(bytes)).rejects.toEqual(
      expect.objectContaining({ code, message: expect.stringContaining(words) as string }),
    );
  });

  test('any change to any byte gives a header or a ModelError', async () => {
    const header = `{"__metadata__":{"format":"pt"},"a":${f32([1], 0, 4)},"b":${f32([2], 4, 12)}}`;
    const good = safetensorsBytes(header, data(12));
    await fc.assert(
      fc.asyncProperty(
        fc.nat(good.length - 1),
        fc.nat(255),
        fc.nat(good.length),
        async (at, value, length) => {
          const bad = good.slice(0, length);
          if (at < bad.length) bad[at] = value;
          try {
            await readHeader(bad);
          } catch (error) {
            expect(error).toBeInstanceOf(ModelError);
          }
        },
      ),
      { numRuns: 400 },
    );
  });
});
