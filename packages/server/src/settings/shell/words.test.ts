import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { quoteStyleOf, quoteWord, usualStyle } from './quote.ts';
import { CommandError, type CommandErrorCode, splitWords } from './words.ts';

const texts = (source: string) => splitWords(source).words.map(({ text }) => text);

const codeOf = (source: string): CommandErrorCode | null => {
  try {
    splitWords(source);
    return null;
  } catch (error) {
    if (error instanceof CommandError) return error.code;
    throw error;
  }
};

describe('words', () => {
  test.each([
    ['a \'b c\' "d e"', ['a', 'b c', 'd e']],
    ['a\\ b "c\\"d" \'e\\f\'', ['a b', 'c"d', 'e\\f']],
    ['vllm serve \\\n  model \\\n  --tp 2', ['vllm', 'serve', 'model', '--tp', '2']],
    ['a=\'{"b": 1}\'c', ['a={"b": 1}c']],
    ["--x='' ''", ['--x=', '']],
    ['# first\n\nvllm serve # the rest\n', ['vllm', 'serve']],
    ['a#b', ['a#b']],
    ['$HOME/x "$(A "b c")" $(cat a b) `id -u`', ['$HOME/x', '$(A "b c")', '$(cat a b)', '`id -u`']],
    ['vllm serve m > log 2>&1 &', ['vllm', 'serve', 'm']],
    ['vllm serve m --x 2 >>log;\n', ['vllm', 'serve', 'm', '--x', '2']],
    ['a {b,c} *', ['a', '{b,c}', '*']],
    ['x a2>f 2>g', ['x', 'a2']],
    ['x 2a>f', ['x', '2a']],
    ['x 2>f', ['x']],
    ['2 a', ['2', 'a']],
    ['a;\n  \n # end\n', ['a']],
    ['a\\\nb "c\\\nd"', ['ab', 'cd']],
    ['"c\\d" "\\$e"', ['c\\d', '$e']],
    ['"$\'b\'" "f$" "$(g "h")"', ["$'b'", 'f$', '$(g "h")']],
    ['`` "``" "`id "b"` c"', ['``', '``', '`id "b"` c']],
    [`\${A:-b c} $(a (b) c)`, [`\${A:-b c}`, '$(a (b) c)']],
  ])('%j', (source, expected) => {
    expect(texts(source)).toEqual(expected);
  });

  test.each<[string, CommandErrorCode]>([
    ['', 'empty'],
    [' # nothing', 'empty'],
    ["a 'b", 'unclosed'],
    ['a "b', 'unclosed'],
    ['a $(b', 'unclosed'],
    ['a \\', 'unclosed'],
    ['a >', 'unclosed'],
    ['a && b', 'several-commands'],
    ['a; b', 'several-commands'],
    ['a | tee log', 'several-commands'],
    ['a & b', 'several-commands'],
    ['a\nb', 'several-commands'],
    ['(a)', 'several-commands'],
    ["a $'b'", 'unsupported'],
    ['a ${b', 'unclosed'],
    ['a `b', 'unclosed'],
    ['a & b > c', 'several-commands'],
    ['a; > c', 'several-commands'],
    ['a |', 'several-commands'],
    ['a &&', 'several-commands'],
    ['a (\n', 'several-commands'],
  ])('refuses %j as %s', (source, code) => {
    expect(codeOf(source)).toBe(code);
  });

  test('an error names a place and no text', () => {
    const secret = 'a \\\n --api-key "hunter2';
    expect(() => splitWords(secret)).toThrow('line 2, column 12: a double quote');
    expect(() => splitWords(secret)).not.toThrow('hunter2');
    const told = { name: 'CommandError', message: 'line 1, column 3: $( that is not closed' };
    expect(() => splitWords('a $(b')).toThrow(expect.objectContaining(told));
    // The 2 is no file: what it would be of is not said.
    expect(() => splitWords('a > 2>f')).toThrow('line 1, column 5: a redirection without its file');
  });
});

const hasBash = spawnSync('bash', ['--version']).status === 0;
const style = fc.constantFrom('none' as const, 'single' as const, 'double' as const);
const word = fc.string({ unit: fc.constantFrom(...'aZ0 \'"\\$`{}:,=-#\n\té(&;|') });

describe('properties', () => {
  test('whatever is quoted comes back, and stands where its span says', () => {
    const quoted = fc.tuple(word, style).map(([text, kind]) => [text, quoteWord(text, kind)]);
    fc.assert(
      fc.property(fc.array(quoted, { minLength: 1 }), (pairs) => {
        const source = pairs.map(([, raw]) => raw).join(' \\\n ');
        const command = splitWords(source);
        expect(command.words.map(({ text }) => text)).toEqual(pairs.map(([text]) => text));
        const slices = command.words.map(({ start, end }) => source.slice(start, end));
        expect(slices).toEqual(pairs.map(([, raw]) => raw));
      }),
    );
  });

  test('any text splits or is refused with a place', () => {
    const noise = fc.string({ unit: fc.constantFrom(...'ab \'"\\$`{}()<>&;|#\n2') });
    fc.assert(
      fc.property(noise, (source) => {
        const code = codeOf(source);
        if (code === null) expect(splitWords(source).words.length).toBeGreaterThan(0);
      }),
    );
  });

  test.each(hasBash ? ['bash'] : [])('%s splits the same words', (shell) => {
    // No expansion and no newline in words: bash would carry those out.
    const plain = fc.string({ unit: fc.constantFrom(...'aZ0 \'"\\{}:,=-#é(&;|') });
    const part = fc.tuple(plain, style).map(([text, kind]) => quoteWord(text, kind));
    const joined = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join(''));
    fc.assert(
      fc.property(fc.array(joined, { minLength: 1, maxLength: 6 }), (raws) => {
        const source = raws.join(' ');
        const script = `f() { printf '%s\\0' "$@"; }; set -f; f ${source}`;
        const { stdout, status } = spawnSync(shell, ['+B', '-c', script], { encoding: 'utf8' });
        expect(status).toBe(0);
        expect(texts(source)).toEqual(stdout.split('\0').slice(0, -1));
      }),
      { numRuns: 40 },
    );
  });
});

test('new words take the style that the command uses', () => {
  expect(usualStyle(splitWords('a b'))).toBe('single');
  expect(usualStyle(splitWords('a "b c"'))).toBe('double');
  expect(usualStyle(splitWords('a "b c" \'d\''))).toBe('single');
  const command = splitWords('a --x="{}"');
  expect(quoteStyleOf(command, command.words[1]!)).toBe('double');
  expect(quoteStyleOf(command, command.words[0]!)).toBe('none');
  expect(quoteWord('a/b=1', 'double')).toBe('a/b=1');
  expect(quoteWord('{"a":1}', 'double')).toBe('"{\\"a\\":1}"');
  expect(quoteWord("it's", 'single')).toBe("'it'\\''s'");
});
