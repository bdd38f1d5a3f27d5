import { describe, expect, test } from 'vitest';
import {
  digest,
  integer,
  kindOf,
  law,
  listOf,
  number,
  oneOf,
  onOff,
  repeated,
  secret,
  text,
  texts,
  time,
} from './kinds.ts';

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
  for (const wrong of ['', 'maybe', 'onn', 'xno', 'xtrue', 'nope']) {
    expect(kind.parse(wrong)).toBeUndefined();
  }
});

test('a law is a name or a file, and not nothing', () => {
  expect(law().parse('emulate:b300-cc')).toBe('emulate:b300-cc');
  for (const wrong of ['', 'emulate:']) {
    expect(law().parse(wrong)).toBeUndefined();
  }
});

test('a number may have to be a multiple', () => {
  const { parse, what } = integer(0, 100, 8);
  expect(what).toBe('a multiple of 8 from 0 to 100');
  expect(['0', '8', '96', '12', '104'].map(parse)).toEqual([0, 8, 96, undefined, undefined]);
});

test('what is repeated is not split', () => {
  const kind = repeated(oneOf('a,b', 'c'));
  expect(kind).toMatchObject({ list: true, metavar: 'a,b|c', what: 'one of a,b, c' });
  expect(kind.parse('a,b')).toEqual(['a,b']);
  expect(kind.parse('a')).toBeUndefined();
});

test('what is a list has the bounds of its parts', () => {
  const kind = listOf('n,n', integer(1, 9));
  expect(kind).toMatchObject({ list: true, metavar: 'n,n' });
  expect(kind.what).toBe('an integer from 1 to 9, or several, separated by commas');
  expect(kind.parse('1, 9')).toEqual([1, 9]);
  expect(kind.parse('1,10')).toBeUndefined();
});

describe('a time', () => {
  test.each([
    ['2026-09-01', Date.UTC(2026, 8, 1)],
    ['2026-09-01T12:00Z', Date.UTC(2026, 8, 1, 12)],
    ['2026-09-01T12:00:05+02:00', Date.UTC(2026, 8, 1, 10, 0, 5)],
    ['2026-09-01T12:00:05.25-01:30', Date.UTC(2026, 8, 1, 13, 30, 5, 250)],
  ])('%o has a zone, or is a day', (given, ms) => {
    expect(time().parse(given)).toBe(ms);
  });

  test.each(['', '2026', '2026-09-01T12:00', '2026-13-01', '+002026-09-01', '2026-09-01x', 'now'])(
    '%o is refused',
    (given) => {
      expect(time().parse(given)).toBeUndefined();
    },
  );
});

test.each([
  [kindOf('x', 'an x', () => 1), 'x', 'an x'],
  [text('file'), 'file', 'non-empty text'],
  [texts('name'), 'name', 'non-empty text, or several, separated by commas'],
  [number(0, 2), 'number', 'a number from 0 to 2'],
  [integer(0, 2), 'n', 'an integer from 0 to 2'],
  [digest(), 'hex', '64 hex digits'],
  [time(), 'time', 'a time such as 2026-09-01T12:00Z, with its zone'],
  [onOff(), '', 'true or false'],
  [law(), 'auto|off|file|emulate:name', 'auto, off, emulate:<reference profile> or a profile file'],
] as const)('%# is shown as it is named', (kind, metavar, what) => {
  expect([kind.metavar, kind.what]).toEqual([metavar, what]);
});
