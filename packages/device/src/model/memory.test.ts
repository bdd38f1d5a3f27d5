import { describe, expect, test } from 'vitest';
import { copyBytes, ModelBuffer, viewsOf } from './memory.ts';

const MIB = 1024 * 1024;

describe('memory of a modelled device', () => {
  test('keeps no large zeros where nothing was written, and everything else', () => {
    const buffer = new ModelBuffer(1, 4 * MIB, 'table');
    buffer.write(MIB, viewsOf(new ArrayBuffer(2 * MIB)), 0, 2 * MIB);
    expect(buffer.hasContents).toBe(false);

    const table = viewsOf(new ArrayBuffer(2 * MIB));
    table.bytes[2 * MIB - 1] = 7;
    buffer.write(MIB, table, 0, 2 * MIB);
    expect(buffer.all[3 * MIB - 1]).toBe(7);

    // Zeros over something are kept as well.
    buffer.write(MIB, viewsOf(new ArrayBuffer(2 * MIB)), 0, 2 * MIB);
    expect(buffer.all[3 * MIB - 1]).toBe(0);

    const large = new ModelBuffer(3, 64 * MIB, 'large');
    large.write(0, table, 0, 2 * MIB);
    expect(large.hasContents).toBe(false);
    large.write(0, table, 0, 2 * MIB, true);
    expect(large.all[2 * MIB - 1]).toBe(7);

    const small = new ModelBuffer(2, 64, 'command');
    small.write(0, viewsOf(new ArrayBuffer(64)), 0, 64);
    expect(small.hasContents).toBe(true);
  });

  test.each([
    ['whole words', 8, 4, 2048],
    ['more of them', 8, 4, 2052],
    ['from the middle of a word', 3, 4, 16],
    ['to the middle of one', 8, 5, 16],
    ['parts of words', 8, 4, 13],
    ['nothing', 8, 4, 0],
  ])('%s are copied and nothing beside them', (_, fromOffset, toOffset, bytes) => {
    const from = viewsOf(new SharedArrayBuffer(4096));
    from.bytes.forEach((_, at) => {
      from.bytes[at] = 1 + (at % 251);
    });
    const to = viewsOf(new ArrayBuffer(4096));
    copyBytes(from, fromOffset, to, toOffset, bytes);
    const expected = new Uint8Array(4096);
    for (let i = 0; i < bytes; i++) expected[toOffset + i] = from.bytes[fromOffset + i]!;
    expect(to.bytes).toEqual(expected);
  });
});
