import { describe, expect, test } from 'vitest';
import { ModelBuffer } from './memory.ts';

const MIB = 1024 * 1024;

describe('memory of a modelled device', () => {
  test('keeps no large zeros where nothing was written, and everything else', () => {
    const buffer = new ModelBuffer(1, 4 * MIB, 'table');
    buffer.write(MIB, new Uint8Array(2 * MIB));
    expect(buffer.hasContents).toBe(false);

    const table = new Uint8Array(2 * MIB);
    table[2 * MIB - 1] = 7;
    buffer.write(MIB, table);
    expect(buffer.all[3 * MIB - 1]).toBe(7);

    // Zeros over something are kept as well.
    buffer.write(MIB, new Uint8Array(2 * MIB));
    expect(buffer.all[3 * MIB - 1]).toBe(0);

    const small = new ModelBuffer(2, 64, 'command');
    small.write(0, new Uint8Array(64));
    expect(small.hasContents).toBe(true);
  });
});
