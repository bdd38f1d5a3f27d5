import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bf16FromF32, f32FromBf16 } from './bf16.ts';

describe('bf16', () => {
  it('survives the round trip through float32 in every bit pattern but quiet NaN', () => {
    const all = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);
    const widened = f32FromBf16(all);
    bf16FromF32(widened).forEach((bits, i) => {
      if (Number.isNaN(widened[i]!)) expect(bits & 0x7fff).toBeGreaterThan(0x7f80);
      else expect(bits).toBe(i);
    });
  });

  it('rounds to the nearest, ties to even', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, min: -(2 ** 100), max: 2 ** 100 }), (exact) => {
        const [rounded] = f32FromBf16(bf16FromF32(Float32Array.of(exact)));
        const bits = new Uint32Array(Float32Array.of(exact).buffer)[0]!;
        const [below, above] = f32FromBf16(Uint16Array.of(bits >>> 16, (bits >>> 16) + 1));
        const toBelow = Math.abs(exact - below!);
        const toAbove = Math.abs(above! - exact);
        const evenOne = ((bits >>> 16) & 1) === 0 ? below : above;
        expect(rounded).toBe(toBelow < toAbove ? below : toAbove < toBelow ? above : evenOne);
      }),
    );
  });

  it('keeps NaN a NaN and overflows to infinity', () => {
    const odd = new Float32Array(new Uint32Array([0x7f800001, 0xff80ffff, 0x7f7fffff]).buffer);
    const [a, b, c] = f32FromBf16(bf16FromF32(odd));
    expect([a, b, c]).toEqual([Number.NaN, Number.NaN, Number.POSITIVE_INFINITY]);
  });
});
