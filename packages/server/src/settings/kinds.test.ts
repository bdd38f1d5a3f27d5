import { describe, expect, test } from 'vitest';
import { digest, integer, law, number, oneOf, onOff, secret, text, texts } from './kinds.ts';

describe('integers', () => {
  const { parse, what } = integer(2, 2 ** 41);

  test.each([
    ['2', 2],
    [' 7 ', 7],
    ['3k', 3000],
    ['3m', 3e6],
    ['3g', 3e9],
    ['1.5t', 1.5e12],
    ['3K', 3 * 2 ** 10],
    ['3M', 3 * 2 ** 20],
    ['3G', 3 * 2 ** 30],
    ['2T', 2 ** 41],
    ['0.5K', 512],
  ])('%o is %i', (given, value) => {
    expect(parse(given)).toBe(value);
  });

  test.each(['', ' ', '1', '2.5', '-3', '+3', '3x', '3kk', '0x10', '1e3', 'k', '2199023255553'])(
    '%o is refused',
    (given) => {
      expect(parse(given)).toBeUndefined();
      expect(what).toBe('an integer from 2 to 2199023255552');
    },
  );

  test('that a number cannot hold exactly are refused', () => {
    expect(integer(0, 2 ** 60).parse('9007199254740993')).toBeUndefined();
  });
});

describe('numbers', () => {
  const { parse } = number(0.5, 2);

  test('have both ends of their range', () => {
    expect(['0.5', '1', ' 2 ', '15e-1'].map(parse)).toEqual([0.5, 1, 2, 1.5]);
  });

  test.each(['', ' ', '0.49', '2.01', 'NaN', 'Infinity', '1s'])('%o is refused', (given) => {
    expect(parse(given)).toBeUndefined();
  });

  test('nothing is not zero', () => {
    expect(number(0, 1).parse(' ')).toBeUndefined();
  });
});

describe('texts', () => {
  test('are not empty', () => {
    expect(text('file').parse('x')).toBe('x');
    expect(text('file').parse('')).toBeUndefined();
  });

  test('come in lists, separated by commas', () => {
    for (const kind of [texts('name'), secret(texts('key'))]) {
      expect(kind.parse(' a, b c ')).toEqual(['a', 'b c']);
      expect(kind.list).toBe(true);
      for (const wrong of ['', 'a,', ',a', 'a,,b', ' , ']) {
        expect(kind.parse(wrong)).toBeUndefined();
      }
    }
    expect(texts('name').secret).toBeUndefined();
    expect(secret(texts('key')).secret).toBe(true);
  });

  test('of which only few are known', () => {
    const kind = oneOf('a', 'b');
    expect(kind.metavar).toBe('a|b');
    expect(['a', 'b'].map(kind.parse)).toEqual(['a', 'b']);
    expect(kind.parse('c')).toBeUndefined();
    expect(kind.what).toBe('one of a, b');
  });
});

test('a digest has 64 hex digits, in lower case from here on', () => {
  expect(digest().parse('aB'.repeat(32))).toBe('ab'.repeat(32));
  for (const wrong of ['', 'ab', 'ab'.repeat(33), `${'ab'.repeat(31)}xy`]) {
    expect(digest().parse(wrong)).toBeUndefined();
  }
});

test('a switch is turned on and off by several words', () => {
  const kind = onOff();
  expect(kind).toMatchObject({ metavar: '', isSwitch: true });
  for (const on of ['true', '1', 'yes', 'on', 'ON']) expect(kind.parse(on)).toBe(true);
  for (const off of ['false', '0', 'no', 'off', 'Off']) expect(kind.parse(off)).toBe(false);
  for (const wrong of ['', 'maybe', 'onn', 'xno']) {
    expect(kind.parse(wrong)).toBeUndefined();
  }
});

test('a law is a name or a file, and not nothing', () => {
  expect(law().parse('emulate:b300-cc')).toBe('emulate:b300-cc');
  for (const wrong of ['', 'emulate:']) {
    expect(law().parse(wrong)).toBeUndefined();
  }
});
