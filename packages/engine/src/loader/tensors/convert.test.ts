import { f32FromF16 } from '@bridgekeeper/device';
import { describe, expect, test } from 'vitest';
import { convertElements } from './convert.ts';

/** The value of a float16 read as its definition says, digit by digit. */
function halfValue(bits: number): number {
  const sign = bits >>> 15 === 1 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -14 : sign * (1 + fraction) * 2 ** (exponent - 15);
}

describe('float16', () => {
  test('all of them widen exactly', () => {
    const bits = Uint16Array.from({ length: 65_536 }, (_, i) => i);
    const values = f32FromF16(bits);
    for (let i = 0; i < 65_536; i++) {
      if (!Object.is(values[i], halfValue(i))) expect.fail(`0x${i.toString(16)}: ${values[i]}`);
    }
  });
});

describe('conversions', () => {
  const values = Float32Array.of(0, -0, 1, -2.5, 0.015625, 240);
  const bf16 = Uint16Array.of(0, 0x8000, 0x3f80, 0xc020, 0x3c80, 0x4370);
  const f16 = Uint16Array.of(0, 0x8000, 0x3c00, 0xc100, 0x2400, 0x5b80);
  const stored = { f32: values, bf16, f16 } as const;
  const bytes = (array: Float32Array | Uint16Array) => new Uint8Array(array.buffer);

  test.each([
    ['f32', 'f32'],
    ['f32', 'bf16'],
    ['bf16', 'f32'],
    ['bf16', 'bf16'],
    ['f16', 'f32'],
    ['f16', 'bf16'],
  ] as const)('%s to %s', (from, to) => {
    const target = new Uint8Array(values.length * (to === 'f32' ? 4 : 2));
    convertElements(bytes(stored[from]), from, target, to, values.length);
    expect(target).toEqual(bytes(stored[to]));
  });

  test('bf16 takes the nearest value, even on ties', () => {
    const source = Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20);
    const target = new Uint8Array(6);
    convertElements(bytes(source), 'f32', target, 'bf16', 3);
    expect([...new Uint16Array(target.buffer)]).toEqual([0x3f80, 0x3f82, 0x3f81]);
  });
});
