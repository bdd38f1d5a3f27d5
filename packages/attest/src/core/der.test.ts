import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { derTime, derUnsigned } from '../testing/der-elements.ts';
import { type Bytes, fromBase64, fromHex, toBase64, toHex } from './bytes.ts';
import { DerReader, enterDer, readBoolean, readOid, readTime, readUnsigned, TAG } from './der.ts';
import { der, derOid } from './der-writer.ts';

const hex = (text: string): Bytes => fromHex(text, 'a test');
const read = (text: string) => new DerReader(hex(text), 'it').next();
const malformed = expect.objectContaining({ code: 'malformed' });

describe('DER', () => {
  test('elements of any size come back', () => {
    const content = fc.uint8Array({ maxLength: 70_000, size: 'max' });
    fc.assert(
      fc.property(content, (bytes) => {
        const reader = enterDer(der(TAG.sequence, der(TAG.octetString, bytes)), TAG.sequence, 'it');
        expect(toHex(reader.expect(TAG.octetString).content)).toBe(toHex(bytes));
        reader.end();
      }),
      { numRuns: 30 },
    );
  });

  test('identifiers come back', () => {
    const arcs = fc.tuple(fc.nat(2), fc.nat(39), fc.array(fc.nat(0xffff_ffff), { maxLength: 8 }));
    fc.assert(
      fc.property(arcs, ([first, second, rest]) => {
        const oid = [first, second, ...rest].join('.');
        expect(readOid(read(toHex(derOid(oid))).content, 'it')).toBe(oid);
      }),
    );
  });

  test('numbers come back without leading zeros', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 160n }), (number) => {
        const digits = number.toString(16);
        const bytes = hex(digits.padStart(digits.length + (digits.length % 2), '0'));
        const { content } = read(toHex(derUnsigned(bytes)));
        expect(toHex(readUnsigned(content, 'it'))).toBe(toHex(bytes));
      }),
    );
  });

  test('lengths are definite, minimal and within bounds', () => {
    const lengths = ['3080', '308100', '30817f', '30820080', '3084000000010', '30', '3002aa'];
    for (const text of lengths) {
      expect(() => read(text.length % 2 === 0 ? text : `${text}0`)).toThrowError(malformed);
    }
    expect(() => read('1f8101')).toThrowError(malformed);
  });

  test('integers, booleans, identifiers and times have one form', () => {
    expect(() => readUnsigned(hex('0001'), 'it')).toThrowError(malformed);
    expect(() => readUnsigned(hex('80'), 'it')).toThrowError(malformed);
    expect(() => readUnsigned(hex(''), 'it')).toThrowError(malformed);
    expect(toHex(readUnsigned(hex('0080'), 'it'))).toBe('80');
    expect(readBoolean(hex('ff'), 'it')).toBe(true);
    expect(() => readBoolean(hex('01'), 'it')).toThrowError(malformed);
    for (const text of ['', '80', '2a80', '2a8001', '2a9080808000']) {
      expect(() => readOid(hex(text), 'it')).toThrowError(malformed);
    }
    expect(readTime(read(toHex(derTime('20241231235959'))), 'it')).toBe(
      Date.UTC(2024, 11, 31, 23, 59, 59),
    );
    for (const digits of ['20241331000000', '20240100000000', '2024010100000', '20240101240000']) {
      expect(() => readTime(read(toHex(derTime(digits))), 'it')).toThrowError(malformed);
    }
  });

  test('structures end where they end', () => {
    const reader = new DerReader(hex('050000'), 'it');
    reader.expect(TAG.null);
    const trailing = expect.objectContaining({ code: 'trailing-bytes' });
    expect(() => reader.end()).toThrowError(trailing);
    expect(() => enterDer(hex('300000'), TAG.sequence, 'it')).toThrowError(trailing);
  });
});

describe('base64', () => {
  test('comes back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        expect(toHex(fromBase64(toBase64(bytes), 'it'))).toBe(toHex(bytes));
      }),
    );
  });

  test('has one spelling', () => {
    for (const text of ['AA=', 'AB==', 'AAB=', 'A A=', 'AA==\n', 'AA-_', 'A===', '====', '=']) {
      expect(() => fromBase64(text, 'it')).toThrowError(malformed);
    }
  });
});
