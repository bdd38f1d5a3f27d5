import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { referenceE4m3 } from './contract/reference.ts';
import { E4M3_MAX, E4M3_VALUES, e4m3FromF32, f32FromE4m3 } from './fp8.ts';

const CODES = Uint8Array.from({ length: 256 }, (_, code) => code);
const isNan = (code: number) => (code & 0x7f) === 0x7f;

/** Codes of the nearest of all values by search: two where a value lies in the middle. */
function nearestCodes(value: number): number[] {
  const distance = (code: number) => Math.abs(value - referenceE4m3(code));
  const candidates = [...CODES].filter((code) => !isNan(code));
  const least = Math.min(...candidates.map(distance));
  return candidates.filter((code) => distance(code) === least);
}

/** Of two equally near, the even one; of two zeros, the one of its sign. */
function roundBySearch(value: number): number {
  const isNegative = value < 0 || Object.is(value, -0);
  const sameSign = nearestCodes(value).filter((code) => code >= 0x80 === isNegative);
  return sameSign.length === 1 ? sameSign[0]! : sameSign.find((code) => code % 2 === 0)!;
}

const encode = (value: number) => e4m3FromF32(Float32Array.of(value))[0]!;

describe('E4M3', () => {
  it('has the values of its definition, and every one of them survives the round trip', () => {
    for (const code of CODES) expect(E4M3_VALUES[code]).toBe(referenceE4m3(code));
    e4m3FromF32(f32FromE4m3(CODES)).forEach((code, i) => {
      if (isNan(i)) expect(isNan(code)).toBe(true);
      else expect(code).toBe(i);
    });
  });

  it('rounds to the nearest, ties to even, in every range of sizes', () => {
    const fraction = fc.integer({ min: 0, max: 2 ** 23 - 1 });
    const float = fc.tuple(fc.integer({ min: -14, max: 10 }), fraction, fc.boolean());
    fc.assert(
      fc.property(float, ([exponent, bits, isNegative]) => {
        const value = (1 + bits / 2 ** 23) * 2 ** exponent * (isNegative ? -1 : 1);
        expect(encode(value)).toBe(roundBySearch(value));
      }),
      { numRuns: 500 },
    );
  });

  it('rounds what lies between neighbours, at their middle and just beside it', () => {
    const positive = [...E4M3_VALUES].slice(0, 0x7f);
    positive.slice(1).forEach((above, i) => {
      const middle = (positive[i]! + above) / 2;
      const step = 2 ** (Math.floor(Math.log2(middle)) - 23);
      for (const value of [middle - step, middle, middle + step]) {
        expect(encode(value)).toBe(roundBySearch(value));
        expect(encode(-value)).toBe(roundBySearch(-value));
      }
    });
  });

  it('saturates, keeps NaN and the sign of zero', () => {
    for (const large of [E4M3_MAX, 449, 464, 480, 1e30, Number.POSITIVE_INFINITY]) {
      expect(f32FromE4m3(Uint8Array.of(encode(large), encode(-large)))).toEqual(
        Float32Array.of(E4M3_MAX, -E4M3_MAX),
      );
    }
    expect(isNan(encode(Number.NaN))).toBe(true);
    const odd = new Float32Array(new Uint32Array([0x7f800001, 0xff80ffff]).buffer);
    expect([...e4m3FromF32(odd)].every(isNan)).toBe(true);
    expect([encode(0), encode(-0), encode(1e-40), encode(-1e-40)]).toEqual([0, 0x80, 0, 0x80]);
  });
});
