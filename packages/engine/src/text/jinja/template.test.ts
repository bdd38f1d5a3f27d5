import { describe, expect, test } from 'vitest';
import { readJsonValue } from '../json.ts';
import { TEMPLATE_FILTERS } from '../template-globals.ts';
import { JinjaError } from './errors.ts';
import { Template } from './template.ts';
import type { Dict, Value } from './values.ts';

function render(source: string, json = '{}'): string {
  const given = readJsonValue(json) as Dict;
  const variables = new Map<string, Value>();
  for (const [name, value] of given.entries()) variables.set(name as string, value);
  return new Template(source).render({ filters: TEMPLATE_FILTERS, variables });
}

const failure = (code: string, words = '') =>
  expect.objectContaining({
    name: 'JinjaError',
    code,
    message: expect.stringContaining(words) as string,
  });

describe('what other engines in JavaScript make otherwise', () => {
  test.each([
    ["{{ 'xaxb'.strip('x') }}", 'axb'],
    ["{{ '\\n  code'.lstrip('\\n') }}", '  code'],
    ["{{ none }}{{ true }}{{ 'a' ~ none }}{{ none|string }}", 'NoneTrueaNoneNone'],
    ['{% for i in [1, 2] %}{{ i }}{% break %}{% endfor %}', '1'],
    ['{% for i in [1, 2] %}{{ i }}{% continue %}{% endfor %}', '12'],
    ['{{ 1.0 }} {{ 7 // 2 }} {{ -7 % 3 }} {{ 7.5 % 2 }}', '1.0 3 2 1.5'],
    ["{{ {1: 'a', 'b': 2.0} }}", "{1: 'a', 'b': 2.0}"],
    ['a\r\nb', 'a\nb'],
  ])('%s', (source, text) => {
    expect(render(source)).toBe(text);
  });

  test('keys of a schema keep their order, and numbers their spelling', () => {
    const schema = '{"b": 1.0, "10": 9007199254740993, "9": [1e16, -0.0, null, true]}';
    const written = '{"b": 1.0, "10": 9007199254740993, "9": [1e+16, -0.0, null, true]}';
    expect(render('{{ x|tojson }}', `{"x": ${schema}}`)).toBe(written);
    expect(render('{{ x }}', `{"x": ${schema}}`)).toBe(
      "{'b': 1.0, '10': 9007199254740993, '9': [1e+16, -0.0, None, True]}",
    );
  });
});

describe('a rendering is bounded', () => {
  test.each([
    [
      'a loop that does not end',
      '{% macro m() %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}' +
        '{% endfor %}{% endmacro %}{{ m() }}',
      'steps',
    ],
    [
      'a macro that calls itself',
      '{% macro m(x) %}{{ m(x + 1) }}{% endmacro %}{{ m(0) }}',
      'deeply',
    ],
    [
      'a macro that calls itself in many ways',
      '{% macro m(x) %}{% if x %}{% for i in [1, 2] %}{{ [m(x - 1), [m(x - 1)]]|join }}' +
        '{% endfor %}{% endif %}{% endmacro %}{{ m(40) }}',
      'steps',
    ],
    [
      'a recursive loop',
      '{% set ns = namespace() %}{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}',
      'deeply',
    ],
    [
      'text that doubles',
      "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}" +
        '{% endfor %}',
      'text',
    ],
    [
      'a list that doubles',
      '{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}' +
        '{% endfor %}',
      'steps',
    ],
    [
      'a list of itself twice',
      '{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}' +
        '{% endfor %}{{ ns.s }}',
      'steps',
    ],
    [
      'equal lists of themselves',
      '{% set a = namespace(s=[1], t=[1]) %}{% for i in range(60) %}' +
        '{% set a.s = [a.s, a.s] %}{% set a.t = [a.t, a.t] %}{% endfor %}{{ a.s == a.t }}',
      'steps',
    ],
    [
      'a list nested by a loop',
      '{% set ns = namespace(s=[]) %}{% for i in range(50000) %}{% set ns.s = [ns.s] %}' +
        '{% endfor %}{{ ns.s }}',
      'deeply',
    ],
    [
      'a namespace within itself',
      '{% set ns = namespace() %}{% set ns.s = ns %}{{ ns }}',
      'deeply',
    ],
    ['a string repeated', "{{ 'ab' * 1000000000 }}", 'text'],
    ['a list repeated', '{{ [0] * 1000000000 }}', 'steps'],
    ['a power', '{{ 9 ** (9 ** 9) }}', 'integer'],
    [
      'a product',
      '{% set ns = namespace(x=99999999) %}{% for i in range(99) %}' +
        '{% set ns.x = ns.x * ns.x %}{% endfor %}',
      'integer',
    ],
    ['replacing nothing', "{{ ('a' * 1000000).replace('', 'a' * 20) }}", 'text'],
    ['joining', "{{ range(90000)|join('a' * 9999) }}", 'text'],
    ['padding', "{{ 'a'.center(999999999) }}", 'text'],
  ])('%s', (_, source, words) => {
    expect(() => render(source)).toThrow(failure('limit', words));
  });

  test('a format cannot be wide', () => {
    expect(() => render("{{ '%99999999d' % 1 }}")).toThrow(failure('runtime', 'too wide'));
    expect(() => render("{{ '{:999999999}'.format(1) }}")).toThrow(failure('runtime', 'too wide'));
  });

  test.each([
    ['(', ')'],
    ['[', ']'],
    ['{1:', '}'],
    ['x[', ']'],
    ['f(', ')'],
    ['-', ''],
    ['not ', ''],
    ['1 if 1 else ', ''],
  ])('source of many %s', (open, close) => {
    const source = `{{ ${open.repeat(50_000)}1${close.repeat(50_000)} }}`;
    expect(() => render(source)).toThrow(failure('limit', 'deeply'));
  });

  test('blocks within blocks', () => {
    const source = '{% if x %}'.repeat(50_000);
    expect(() => render(source)).toThrow(failure('limit', 'deeply'));
  });

  test('what real templates do is far from every bound', () => {
    const message = '{"role": "user", "content": "some words of a question"}';
    const messages = `{"messages": [${Array.from({ length: 5000 }, () => message).join()}]}`;
    const source =
      '{% for m in messages %}{% if loop.first or m.role == "system" %}' +
      '{% set x = m.content|trim %}' +
      '{% elif m.role == "user" %}{% set x = m["content"].split("</think>")[-1].strip("\\n") %}' +
      '{% endif %}{{ "<|im_start|>" + m.role + "\\n" + x + "<|im_end|>\\n" }}{% endfor %}';
    expect(render(source, messages).length).toBe(5000 * 52);
    const nested =
      '{% macro show(x, depth) %}{{ depth }}{% if x is mapping %}' +
      '{% for k, v in x.items() %}{{ show(v, depth + 1) }}{% endfor %}{% endif %}' +
      '{% endmacro %}{{ show(x, 0) }}';
    const depths = Array.from({ length: 61 }, (_, at) => at).join('');
    expect(render(nested, `{"x": ${'{"a":'.repeat(60)}1${'}'.repeat(60)}}`)).toBe(depths);
  });
});

test('a message names types and identifiers, and nothing of the conversation', () => {
  const json = '{"m": {"secret": "secret"}, "s": "secret"}';
  for (const source of [
    '{{ m.nothing.x }}',
    '{{ m[s ~ "x"].x }}',
    '{{ m + 1 }}',
    '{{ m|map(s)|list }}',
    '{{ [m]|selectattr(s, s)|list }}',
    '{{ (s ~ "{x}").format() }}',
    '{{ "%(secret)d" % m }}',
    '{{ dict(**{s: 1})(m) }}',
    '{{ s|nosuch }}',
    '{{ range(s) }}',
    '{{ s|sort(reverse=m, other=s) }}',
  ]) {
    expect(() => render(source, json)).toThrow(JinjaError);
    try {
      render(source, json);
    } catch (error) {
      expect(`${source}: ${(error as Error).message}`.replace(source, '')).not.toContain('secret');
    }
  }
});

test.each(['include "x"', 'import "x" as y', 'from "x" import y', 'extends "x"'])(
  '{%% %s %%} is refused by name',
  (tag) => {
    expect(() => render(`{% ${tag} %}`)).toThrow(failure('runtime', tag.split(' ')[0]));
    expect(render(`{% if false %}{% ${tag} %}{% endif %}a`)).toBe('a');
  },
);

test('filters that no prompt can rely on are refused by name', () => {
  for (const name of ['pprint', 'random', 'striptags', 'urlize', 'wordwrap', 'xmlattr']) {
    expect(() => render(`{{ 'a'|${name} }}`)).toThrow(failure('runtime', `"${name}"`));
  }
});
