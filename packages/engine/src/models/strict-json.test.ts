import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { scanStrict } from './strict-json.ts';

describe('strict scan', () => {
  test('what JSON.stringify writes of whole numbers passes', () => {
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof(
        fc.string(),
        fc.maxSafeNat(),
        fc.boolean(),
        fc.constant(null),
        fc.array(tie('tree')),
        fc.dictionary(fc.string(), tie('tree')),
      ),
    }));
    fc.assert(
      fc.property(tree, fc.constantFrom(undefined, 2), (value, indent) => {
        expect(scanStrict(JSON.stringify(value, null, indent))).toBe(undefined);
      }),
    );
  });

  test.each([
    ['{"a":1,"a":2}', 'a'],
    ['{"a":1,"b":{"a":1,"c":[{"x":1,"x":1}]}}', 'x'],
    ['{"a":{"a":1},"a":2}', 'a'],
    ['{"a":[{"b":1},{"b":2}],"\\u0061":3}', 'a'],
    ['{"q\\"":1, "q\\"" :2}', 'q"'],
    ['{"__proto__":1,"__proto__":2}', '__proto__'],
  ])('%s has a key twice', (text, key) => {
    expect(JSON.parse(text)).toBeDefined();
    expect(scanStrict(text)).toEqual({ kind: 'duplicate-key', key });
  });

  test.each(['-1', '-0', '1.0', '1e3', '0.5', '9007199254740993', '99999999999999999999999999'])(
    '%s is no plain integer',
    (number) => {
      expect(scanStrict(`{"n":[0,${number}]}`)).toEqual({ kind: 'bad-number', text: number });
    },
  );

  test('digits and brackets inside strings are text', () => {
    expect(scanStrict('{"-1e9":"}{,\\\\","b":"[\\"1.5"}')).toBe(undefined);
  });
});
