/**
 * Templates by the behaviour of Jinja2, or of Python, that each is about. They are rendered with
 * `RANDOM_VARIABLES`, and none of them fails, except those of `FAILING`.
 */
export const TEMPLATES: Readonly<Record<string, readonly string[]>> = {
  'strings are stripped of what is named': [
    "{{ 'xxabcxx'.strip('x') }}|{{ '  a '.strip() }}|{{ 'aXa'.lstrip('a') }}|" +
      "{{ 'a\\n\\n'.rstrip('\\n') }}",
    "{{ messages[2].content.split('</think>')[-1].lstrip('\\n') }}",
    '{{ ' +
      'm' +
      'e' +
      's' +
      's' +
      'a' +
      'g' +
      "es[2].content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') " +
      '}}',
    "{{ '😀a😀'.strip('😀') }}{{ '\\x1fa\\u3000'.strip() }}|{{ '\\t\\n x'|trim }}" +
      "{{ 'xxaxx'|trim('x') }}",
  ],
  'None, True and False are spelled as Python does': [
    "{{ true }}{{ none }}{{ False }}{{ none|string }}{{ 'a' ~ none ~ true ~ 1.0 ~ missing }}",
    "{{ [none, true, missing, 'x', 1.0] }}{{ {'a': none} }}{{ (none,) }}{{ nothing }}",
  ],
  'numbers are ints of any size, or floats': [
    '{{ 1.0 }} {{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1e22 }} {{ 5e-324 }} ' +
      '{{ 1.7976931348623157e308 }}',
    '{{ 9007199254740993 + 1 }} {{ 9007199254740993 * 9007199254740993 }} {{ 10 ** 20 }} ' +
      '{{ 1_000 }} {{ 0x1F }} {{ 0b11 }} {{ 0o17 }}',
    '{{ 7 % 3 }} {{ -7 % 3 }} {{ 7.5 % 2 }} {{ -7 // 2 }} {{ -3.5 // 2 }} {{ 5.0 % -3 }} ' +
      '{{ 7 / 2 }} {{ 4 / 2 }} {{ 2 ** -1 }}',
    '{{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ 0.1 + 0.2 }} {{ 1 / 3 }} {{ 0.0 * -1 }} ' +
      '{{ true + 1 }} {{ 3 ~ 4 * 5 }} {{ 2 * 3 ~ 4 }}',
    "{{ '42'|int }}{{ '4.7'|int }}{{ 'x'|int(7) }}{{ '0x1f'|int(0, 16) }}{{ 3.9|int }}",
    "{{ '2.5'|float }}{{ 'z'|float(1.5) }}{{ ' 1_0 '|int }}",
    '{{ 2.5|round }}{{ 3.5|round }}{{ 2.675|round(2) }}{{ 42|round }}',
    "{{ 42.123|round(1, 'ceil') }}{{ 1250|round(-2) }}{{ 1250.0|round(-2) }}",
    '{{ 1.5.real }}{{ (5).bit_length() }}{{ 2.0.is_integer() }}{{ -n }}{{ +n }}',
    '{{ n - -1 }}{{ -n|abs }}',
  ],
  'dicts keep the order of their keys': [
    '{{ messages[2].tool_calls[0].function.arguments|tojson }}{{ tools|tojson }}{{ d }}',
    '{{ d|list }}',
    "{{ {'10': 1, '9': 2, 2: 3, 1: 4} }}{{ {1: 'a', 1.0: 'b', true: 'c'} }}",
    '{{ dict(b=1, a=2) }}{{ {1: 2}[1.0] }}',
    '{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{{ d.keys() }}' +
      "{{ d.values() }}{{ d.items() }}{{ d|dictsort(by='key', reverse=true) }}",
  ],
  'attributes come before items after a point, and after them in brackets': [
    "{{ d.items is callable }}{{ d['items'] }}{{ d.b }}{{ d['b'] }}{{ d.missing }}",
    "{{ d.get('b') }}{{ d.get('q') }}{{ d.get('q', 1) }}",
    "{{ d.update is defined }}{{ l.append is defined }}{{ ''.__class__ }}{{ nothing.x }}",
    "{{ l.0 }}{{ l[10] }}{{ l[-1] }}{{ s[100] }}{{ 'abc'['upper']() }}",
  ],
  'tojson is json.dumps': [
    '{{ tools|tojson(indent=2) }}',
    '{{ tools|tojson(sort_keys=true, separators=(",", ":")) }}',
    '{{ [1, (2,), {}, []]|tojson(indent=0) }}',
    "{{ 'é\\u2028\\x7f\\x1f\\\\\"/'|tojson }}{{ 'é😀\\x7f'|tojson(ensure_ascii=true) }}",
    "{{ {1: 2, none: 4, 1.5: 5}|tojson }}{{ {'a': [1]}|tojson(indent='--') }}",
    "{{ 'é'|tojson(false) }}{{ {'b': 1, 'a': {'d': 1, 'c': 2}}" +
      '|tojson(sort_keys=True, indent=1) }}{{ 1e400 }}{{ (1e400)|tojson }}',
  ],
  'loops keep what they wrote before they are left': [
    '{% for i in [1, 2, 3] %}{{ i }}{% if i == 2 %}!{% break %}{% endif %},{% endfor %}',
    '{% for i in [1, 2, 3] %}{{ i }}{% if i == 2 %}!{% continue %}{% endif %},{% endfor %}',
    '{% for i in [1] %}{% break %}{% else %}E{% endfor %}{% for i in [1] %}{% continue %}' +
      '{% else %}E{% endfor %}{% for i in [] %}{% else %}E{% endfor %}',
    '{% for i in l %}{% set x %}a{% break %}{% endset %}{% endfor %}{% for i in l %}' +
      '{% filter upper %}a{% continue %}{% endfilter %}{% endfor %}',
  ],
  'loop knows its place': [
    '{% for x in l %}{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ loop.length }}' +
      "{{ loop.revindex0 }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}" +
      '{{ loop.changed(x) }};{{ loop }}{% endfor %}',
    '{% for x in l if x > 1 %}{{ loop.index }}{{ loop.length }}{{ x }}{% endfor %}' +
      '{{ loop is defined }}{% for c in "h😀" %}[{{ c }}]{% endfor %}',
    "{% for x in [{'c': [{'c': []}]}] recursive %}<{{ loop.depth }}{{ loop(x.c) }}>" +
      '{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}',
    '{% for m in messages|map(attribute="role") %}{{ loop.last }}{{ loop.length }}' +
      '{% endfor %}{% for x in missing %}{% else %}none{% endfor %}',
  ],
  'what is assigned in a loop, a macro or a block stays in it': [
    '{% for i in range(3) %}{% set z = i %}{% endfor %}{{ z is defined }}{% set t = 0 %}' +
      '{% for i in range(3) %}{% set t = t + i %}{{ t }}{% endfor %}{{ t }}',
    '{% set ns = namespace(a=1) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}' +
      '{% endfor %}{{ ns.a }}{{ ns }}{{ ns["a"] }}{{ ns.q }}',
    '{% set x = none %}{% if true %}{% set x = 1 %}{% endif %}{{ x }}{% with a=1, b=x %}' +
      '{{ a }}{{ b }}{% set x = 2 %}{% endwith %}{{ x }}{{ a }}',
    '{% generation %}g{% set z = 1 %}{% endgeneration %}{{ z }}{% block b %}{{ n }}' +
      '{% set z = 2 %}{% endblock %}{{ z }}{% set a, b = 1, 2 %}{{ a }}{{ b }}',
    '{% macro f() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ f() }}{% for x in [5] %}' +
      '{{ f() }}{% endfor %}',
    '{% set y %} a{{ n }} {% endset %}[{{ y }}]{% set y | upper | trim %} b {% endset %}[' +
      '{{ y }}]{% filter upper | replace("A", "c") %}a{% endfilter %}',
  ],
  'macros bind arguments as functions do': [
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}" +
      '{% endmacro %}{{ m(1) }}{{ m(1, 2, 3, 4, k=5) }}{{ m(b=1) }}' +
      "{{ m(*[1, 2], **{'c': 3}) }}",
    '{% macro k(x) %}[{{ caller(x) }}]{% endmacro %}{% call(y) k(3) %}<{{ y }}>' +
      '{% endcall %}{{ k.name }}{{ k.arguments }}{{ k.caller }}{{ k }}',
    '{% macro r(x) %}{{ x }}{% if x > 0 %}{{ r(x - 1) }}{% endif %}{% endmacro %}' +
      '{{ r(3) }}{% macro d(a, b=a) %}{{ b }}{% endmacro %}{{ d(4) }}',
  ],
  'sequences are sliced, joined and printed as in Python': [
    "{{ 'abc'[::-1] }}{{ 'abcdef'[1:4] }}{{ 'abcdef'[-3:] }}{{ [1, 2, 3, 4][::2] }}",
    "{{ messages[1].content[4] }}{{ messages[1].content|length }}{{ 'abc'[5:1:-1] }}",
    "{{ (1,) }}{{ (1, 2) }}{{ () }}{{ [] }}{{ {} }}{{ 1, 2 }}{{ [1] * 2 }}{{ 'x' * 3 }}",
    "{{ 'a' * -1 }}{{ (1, 2) + (3,) }}{{ [1] + [2] }}",
    '{{ range(5) }}{{ range(1, 10, 3)|list }}{{ range(5)[1:3] }}{{ range(10)[-1] }}',
    '{{ range(9, 0, -4)|list }}{{ range(0)|list }}{{ 3 in range(5) }}',
    '{{ ["it\'s", \'say "x"\', \'both\\\'"\', "n\\nt\\t\\x00\\u200b😀é\\xad"] }}',
    '{{ "a" "b" }}{{ "\\q\\u00e9\\x41\\101" }}',
    '{{ [1, 2] < [1, 3] }}{{ "a" < "b" }}{{ 1 == 1.0 }}{{ [1] == [1.0] }}',
    '{{ {"a": 1} == {"a": true} }}{{ (1,) == [1] }}{{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}',
    '{{ "\\uffff" < "😀" }}',
  ],
  'strings have their methods': [
    "{{ 'a,b,,c'.split(',') }}{{ ' a  b '.split() }}{{ 'a b c'.split(' ', 1) }}",
    "{{ 'a b c'.rsplit(' ', 1) }}{{ ' a b c '.rsplit(none, 1) }}",
    "{{ 'a\\nb\\r\\nc\\x0bd\\u2028'.splitlines(true) }}",
    "{{ 'abc'.partition('b') }}{{ 'abcb'.rpartition('b') }}",
    "{{ 'abc'.startswith(('x', 'a')) }}{{ 'abc'.endswith('c', 1) }}",
    "{{ 'aXbX'.replace('X', '-', 1) }}{{ 'ab'.replace('', '-') }}",
    "{{ 'a😀bcb'.find('b') }}{{ 'abc'.find('z') }}{{ 'abcabc'.rfind('c') }}",
    "{{ 'aaa'.count('a') }}{{ 'aaa'.count('') }}{{ 'abc'.index('c') }}",
    "{{ 'a😀b'.find('b', 2) }}{{ 'abc'.find('', 4) }}",
    "{{ 'abc'.upper().lower().title() }}{{ 'abc'.zfill(5) }}{{ '-5'.zfill(4) }}",
    "{{ 'ab'.center(5, '*') }}{{ 'a'.ljust(3, '.') }}{{ 'a\\tb'.expandtabs(4) }}",
    "{{ 'aB'.swapcase() }}",
    "{{ 'Ünï ǆ ß'.title() }}{{ 'straße'.upper() }}{{ 'ΑΣ'.lower() }}",
    '{{ \'ﬁn\'.capitalize() }}{{ "they\'re ok".title() }}{{ "they\'re o-k"|title }}',
    "{{ 'İ'.lower()|length }}",
    "{{ '12'.isdigit() }}{{ '²'.isdigit() }}{{ '²'.isdecimal() }}{{ '½'.isnumeric() }}",
    "{{ 'a1'.isalnum() }}{{ 'Ab Cd'.istitle() }}{{ ' '.isspace() }}{{ ''.isalpha() }}",
    "{{ 'a'.isidentifier() }}",
    "{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}{{ 'x'.join(['a', 'b']) }}",
    "{{ ','.join(d) }}{{ 'Straße'.casefold() }}{{ [1, 2].index(2) }}{{ (1, 1).count(1) }}",
  ],
  'texts are formatted as Python does': [
    "{{ '%d-%s-%05.2f-%x' % (3, 'q', 2.345, 255) }}{{ '%s' % 'a' }}",
    "{{ '%(a)s' % {'a': 1} }}{{ '%5s|%-5s|%05d|%+d|%.3s' % ('a', 'b', 42, 7, 'abcdef') }}",
    "{{ '%%' % () }}",
    "{{ '%.0f %.0f %.1f' % (0.5, 1.5, 0.25) }}",
    "{{ '%e %g %G %g' % (12345.678, 0.00001, 1e20, 100000) }}{{ '%i' % 3.7 }}",
    "{{ '%c%r' % (65, 'x') }}{{ '%s' % [1, 2] }}{{ '%s %s' % ('a', none) }}",
    "{{ '%d' % true }}",
    "{{ '{} {}'.format(1, 'b') }}{{ '{1}{0}'.format('a', 'b') }}" +
      "{{ '{a:>5}|{b:<4}|{c:^7}|{d:06.1f}|{e:,}|{f:+}|{g:%}'.format(a=1, b='x', c='mid', " +
      'd=2.25, e=1234567, f=3, g=0.5) }}',
    "{{ '{0[b][1][c]} {0.b[0]} {x!r} {{}}" +
      " {y:#x} {z:{w}}'.format({'b': [0, {'c': 'd'}], 'items': 1}, x='q', y=255, z=1, w=4) " +
      "}}{{ '{0[b]}'.format({'b': 1}) }}{{ '{:e} {:g} {:.3}'.format(1.5, 2.0, 3.14159) }}",
    "{{ '%s-%s'|format(1, 2) }}{{ '%(a)s'|format(a=3) }}{{ 1000000|filesizeformat }}",
    "{{ 2048|filesizeformat(true) }}{{ 1|filesizeformat }}{{ 'a b/c?d=é'|urlencode }}",
    "{{ {'a b': 'c/d'}|urlencode }}",
  ],
  filters: [
    "{{ 'a\\nb\\n\\nc'|indent(2) }}{{ 'a\\nb\\n\\nc'|indent(2, true, true) }}",
    "{{ 'a\\nb'|indent('> ', true) }}{{ 'hello world foo bar'|truncate(11) }}",
    "{{ 'hello world'|truncate(9, true, '!', 0) }}",
    "{{ l|sort }}{{ l|sort(reverse=true) }}{{ l|join(',') }}{{ l|sum }}{{ l|max }}",
    "{{ l|min }}{{ l|first }}{{ l|last }}{{ l|reverse|list }}{{ ['B', 'a']|sort }}",
    "{{ ['B', 'a']|sort(case_sensitive=true) }}",
    "{{ messages|map(attribute='role')|list }}",
    "{{ messages|selectattr('role', 'equalto', 'user')|list|length }}",
    "{{ messages|rejectattr('tool_calls')|map(attribute='role')|join('-') }}",
    "{{ ['a']|map('upper')|list }}",
    "{{ l|batch(2)|list }}{{ l|batch(2, 'z')|list }}{{ [1, 2, 3, 4, 5]|slice(2)|list }}",
    "{{ l|slice(2, 0)|list }}{{ ['a', 'B', 'A']|unique|list }}",
    "{{ messages|groupby('role')|map(attribute=0)|list }}",
    "{{ [1, 2, 3]|select('odd')|list }}{{ [1, 2, 3]|reject('>', 1)|list }}",
    '{{ [0, 1]|select|list }}{{ d|items|list }}',
    "{{ [{'a': 2}, {'a': 1}]|sort(attribute='a') }}{{ [{'a': 1}]|sum('a') }}",
    "{{ missing|default('dd') }}{{ ''|default('q', true) }}{{ ''|d('q') }}{{ []|first }}" +
      '{{ []|max }}{{ missing|length }}{{ missing|list }}{{ missing|join }}' +
      "{{ 'a b c'|wordcount }}{{ 'x'|center(5) }}|{{ 'b😀c'|reverse }}",
    "{{ '<a href=\"x\">'|e }}{{ '<'|e|e }}{{ ('<'|e) ~ '<' }}{{ ('<'|e) + '<' }}",
    "{{ ('<'|safe) + '<' }}{{ '<'|forceescape }}{{ 'a' ~ (tools|tojson|safe) }}",
    "{% set g = [1, 2]|map('string') %}{{ g|list }}{{ g|list }}{% if []|map('x') %}true" +
      "{% endif %}{{ 'abc'|attr('upper') is callable }}{{ d|attr('b') }}",
  ],
  tests: [
    "{{ 'x' is string }}{{ 1 is number }}{{ none is none }}{{ d is mapping }}",
    '{{ l is iterable }}{{ l is sequence }}{{ q is defined }}{{ 3 is divisibleby 3 }}',
    '{{ 3 is odd }}{{ 1 is in [1] }}',
    "{{ 'a' is lower }}{{ 'A' is upper }}{{ true is integer }}{{ true is number }}",
    '{{ true is boolean }}{{ yes is true }}{{ l is sameas l }}{{ range is callable }}',
    "{{ 'upper' is filter }}{{ 'odd' is test }}",
    '{{ missing is sequence }}{{ missing is iterable }}{{ missing is mapping }}',
    '{{ missing == other }}{{ d.keys() is sequence }}{{ n is eq 3 }}{{ n is ne(3) }}',
    '{{ n is not none }}{{ not n is none }}{{ n is gt 1 and n is le 3 }}',
  ],
  'space around blocks is trimmed': [
    '{%- if n == 3 -%}  three {%- elif n == 2 %} two {% else %} other {% endif %} end\n  ' +
      '{% if yes %}\n    indented\n  {% endif %}\ntail\n  {%+ if yes %} kept {%+ endif +%}' +
      '\nafter\n{{- " x" }}\n',
    'a\r\nb\rc\n\n',
    'a\n{% raw %}\n {{ x }} {% endraw %}\n  {% raw -%}  y {%- endraw -%}  z\n',
    '  {# c #}\n x {# d #} y\n  {#- e -#}\n z{#+ f +#}\n',
    '{% if yes %}\n\n  x\n  {% endif %}\n\n{{ n }}\n  {{ n -}}\n{%- for x in l %}\n  - ' +
      '{{ x }}\n{%- endfor %}\n',
    '{%- macro f(x) %}\n  {{- x }}\n{% endmacro -%}\n{{ f(1) }}\n{{ f(2) -}}\n\n  end' +
      '{% set q = 5 -%}   x{%- set r = 1 +%}\nz',
    '{{ {"a": {"b": 1}}}}{{ "}}" }}{{ "{%" }}{{+ 1 }}{{-1}}',
  ],
  globals: [
    '{% set c = cycler(1, 2) %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}' +
      "{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ dict([('x', 1)], y=2) }}" +
      "{{ namespace({'q': 1}).q }}",
    "{{ strftime_now('%d %b %Y %H:%M:%S %A %j %y %-d %-m %F %T %e %I %p %B %w %-I') }}" +
      "{{ 'a' if false }}{% print n %}{% if false %}{% include 'x' %}{% endif %}",
  ],
};

/** Each of them fails, here and there. */
export const FAILING: readonly string[] = [
  '{{ l.append(4) }}',
  '{{ d.update({}) }}',
  "{{ raise_exception('no') }}",
  '{{ missing.x }}',
  "{{ missing['x'] }}",
  '{{ missing + 1 }}',
  '{{ missing() }}',
  '{{ nothing[1:] }}',
  "{{ 'a' + 1 }}",
  "{{ 'a' < 1 }}",
  '{{ none < 1 }}',
  '{{ [] + () }}',
  '{{ 1 / 0 }}',
  '{{ 1 % 0.0 }}',
  '{{ none|length }}',
  '{{ range(100001) }}',
  '{{ range(1.0) }}',
  "{{ ''.join([1]) }}",
  "{{ '%d' % 'x' }}",
  "{{ '%s' % (1, 2) }}",
  "{{ {'a': missing}|tojson }}",
  '{{ {[]: 1} }}',
  "{{ 'abc'|nosuch }}",
  "{{ 'abc' is nosuch }}",
  '{{ [1, 2, 3]|first(1) }}',
  '{{ [3, "a"]|sort }}',
  '{% for x in none %}{% endfor %}',
  '{% for x in 5 %}{% endfor %}',
  '{% for a, b in [(1, 2, 3)] %}{% endfor %}',
  '{% set d.x = 1 %}',
  '{% macro m() %}{% endmacro %}{{ m(1) }}',
  '{% macro m() %}{% endmacro %}{{ m(x=1) }}',
  '{% macro m() %}{% endmacro %}{% call m() %}{% endcall %}',
  "{% include 'x' %}",
  "{% extends 'x' %}",
  "{% import 'x' as x %}",
  '{% do 1 %}',
  '{% break %}',
  '{% endfor %}',
  '{% if yes %}',
  '{% for x in l %}',
  '{{ (1 }}',
  "{{ 'abc }}",
  '{{ a b }}',
  '{{ x if }}',
  '{{ }}',
  '{# open',
  '{% raw %} open',
];
