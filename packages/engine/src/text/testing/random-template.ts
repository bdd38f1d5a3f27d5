/** Random templates over what chat templates use. Equal seeds give equal templates. */

/** What every random template is rendered with: the text of a JSON object. */
export const RANDOM_VARIABLES = `{
  "messages": [
    {"role": "system", "content": "Be  brief.\\n\\n"},
    {"role": "user", "content": "  H\u00e9 \ud83d\ude00 <b>\\"x\\" & 'y'\\n", "name": null},
    {"role": "assistant", "content": "<think>\\n  hm\\n</think>\\n\\n  a\\n\\n  b\\n",
      "tool_calls": [{"id": "c1", "function": {"name": "f",
        "arguments": {"2": 1.0, "1": 9007199254740993, "t": [true]}}}]},
    {"role": "tool", "content": "12.50", "tool_call_id": "c1"}
  ],
  "tools": [{"type": "function", "function": {"name": "f", "parameters": {
    "10": {"type": "integer", "default": 1e16}, "9": {"enum": ["a", null, -0.0, 1e-5]},
    "required": []}}}],
  "n": 3, "f": 2.5, "s": "ab,c  d", "none": 0, "nothing": null, "yes": true,
  "d": {"items": 1, "b": [2, {"c": "d"}], "10": "ten", "9": "nine"}, "l": [3, 1, 2]
}`;

const SIGNS = ['', '', '-', '-', '+'];
const JSON_FORMATS = ['', '(indent=2)', '(sort_keys=true)', "(separators=(',', ':'))"];
const TEXT_FILTERS = [
  'trim',
  'upper',
  'lower',
  'capitalize',
  'title',
  'string',
  'indent',
  'e',
  "replace('a', 'b')",
  'truncate(3)',
  "trim('a')",
  'reverse',
];
const NUMBER_FILTERS = ['abs', 'float', 'round', 'round(1)', "round(1, 'floor')", 'int'];
const AGGREGATES = ['l', '[1, 2.5]', 'range(4)', '[true]'];
const TEXT_NUMBERS = [".find('a')", ".count('a')", '|wordcount', ".rfind('b')"];
const LIST_FILTERS = [
  'list',
  'reverse|list',
  'batch(2)|list',
  "slice(2, 'z')|list",
  "map('string')|list",
  'select|list',
];
const SORTS = ['sort', 'sort(true)', 'unique|list', 'sort(case_sensitive=true)'];
const MESSAGE_FILTERS = [
  "map(attribute='role')|list",
  "selectattr('role', 'equalto', 'user')|list",
  "rejectattr('tool_calls')|map(attribute='content')|list",
  "groupby('role')",
  "selectattr('tool_calls', 'defined')|list",
  "sort(attribute='role')",
];
const ORDERS = ['<', '<=', '>', '>='];
const VALUE_TESTS = [
  'defined',
  'none',
  'string',
  'mapping',
  'number',
  'iterable',
  'sequence',
  'true',
  'false',
  'integer',
  'float',
  'boolean',
  'undefined',
];
const NUMBER_TESTS = ['odd', 'even', 'divisibleby 3', 'eq 1', 'gt(1)', 'in [1, 2]'];
const TEXT_TESTS = ["startswith('a')", "endswith('\\n')", 'isdigit()', 'islower()'];

export function randomTemplate(seed: number): string {
  return new TemplateWriter(seed).write();
}

class TemplateWriter {
  #state: number;
  #loops = 0;
  #macros = 0;

  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 0x9e3779b1);
  }

  write(): string {
    return this.#body(3) + this.#oneOf('', '\n', '\n\n', '\r\n');
  }

  /** An integer below `limit`, by a generator of Marsaglia's. */
  #below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }

  #oneOf(...texts: readonly string[]): string {
    return texts[this.#below(texts.length)]!;
  }

  #pick(...makers: readonly (() => string)[]): string {
    return makers[this.#below(makers.length)]!();
  }

  // Statements

  #body(depth: number): string {
    let text = '';
    for (let left = 1 + this.#below(4); left > 0; left -= 1) text += this.#statement(depth - 1);
    return text;
  }

  #data(): string {
    return this.#oneOf(
      'a',
      ' b ',
      '\n',
      '\n  ',
      '  \n\n',
      '\t',
      'x{y}\n',
      '<|im_end|>\n',
      '',
      'é\n ',
    );
  }

  #tag(inner: string): string {
    return `{%${this.#oneOf(...SIGNS)} ${inner} ${this.#oneOf(...SIGNS)}%}`;
  }

  #block(open: string, body: string, close: string): string {
    return this.#tag(open) + body + this.#tag(close);
  }

  #statement(depth: number): string {
    const print = () => `{{${this.#oneOf('', '-')} ${this.#any(2)} ${this.#oneOf('', '-')}}}`;
    const data = () => this.#data();
    if (depth <= 0) return this.#pick(print, data);
    return this.#pick(
      print,
      print,
      data,
      data,
      () => `{#${this.#oneOf('', '-')} note ${this.#oneOf('', '-')}#}`,
      () => this.#block('raw', this.#oneOf(' {{ x }} ', '\n{% y %}', ''), 'endraw'),
      () => this.#if(depth),
      () => this.#if(depth),
      () => this.#for(depth),
      () => this.#for(depth),
      () => this.#tag(`set ${this.#name()} = ${this.#any(2)}`),
      () => this.#block(`set ${this.#name()}`, this.#body(depth - 1), 'endset'),
      () =>
        this.#tag('set ns = namespace(v=0)') +
        this.#tag(`set ns.v = ${this.#any(2)}`) +
        '{{ ns.v }}',
      () => this.#macro(depth),
      () =>
        this.#block(
          `filter ${this.#oneOf('upper', 'trim', 'indent(2)')}`,
          this.#body(depth - 1),
          'endfilter',
        ),
      () => this.#block(`with ${this.#name()} = ${this.#any(1)}`, this.#body(depth - 1), 'endwith'),
      () => this.#block('generation', this.#body(depth - 1), 'endgeneration'),
      () => (this.#loops > 0 ? this.#leave() : data()),
    );
  }

  #leave(): string {
    const leave = this.#tag(this.#oneOf('break', 'continue'));
    return this.#block(`if ${this.#bool(1)}`, leave, 'endif');
  }

  #if(depth: number): string {
    let body = this.#body(depth - 1);
    if (this.#below(3) === 0) body += this.#tag(`elif ${this.#bool(2)}`) + this.#body(depth - 1);
    if (this.#below(2) === 0) body += this.#tag('else') + this.#body(depth - 1);
    return this.#block(`if ${this.#bool(2)}`, body, 'endif');
  }

  #for(depth: number): string {
    const target = this.#oneOf(
      'm in messages',
      'x in l',
      `y in ${this.#list(1)}`,
      'k, v in d.items()',
      'k, v in d|items',
    );
    const test = this.#oneOf('', '', ` if ${this.#bool(1)}`);
    this.#loops += 1;
    const body =
      this.#body(depth - 1) +
      this.#oneOf('', '{{ loop.index }}', '{{ loop.last }}', '{{ loop.length }}');
    this.#loops -= 1;
    const otherwise = this.#below(4) === 0 ? this.#tag('else') + this.#body(depth - 1) : '';
    return this.#block(`for ${target}${test}`, body + otherwise, 'endfor');
  }

  #macro(depth: number): string {
    const loops = this.#loops;
    this.#loops = 0;
    this.#macros += 1;
    const name = `m${this.#macros}`;
    const parameters = this.#oneOf('', 'x', `x, y=${this.#any(1)}`, "x='q', z=x");
    const uses = this.#oneOf('', '{{ varargs }}', '{{ kwargs }}', '{{ caller() }}');
    const macro = this.#block(
      `macro ${name}(${parameters})`,
      this.#body(depth - 1) + uses,
      'endmacro',
    );
    const body = uses.includes('caller') ? this.#body(1) : '';
    this.#loops = loops;
    const given = this.#oneOf(
      '',
      this.#any(1),
      `${this.#any(1)}, ${this.#any(1)}`,
      `x=${this.#any(1)}`,
    );
    if (uses.includes('caller'))
      return macro + this.#block(`call ${name}(${given})`, body, 'endcall');
    return `${macro}{{ ${name}(${given}) }}`;
  }

  // Expressions

  #name(): string {
    return this.#oneOf('x', 'y', 'z');
  }

  #any(depth: number): string {
    const kinds = [
      () => this.#text(depth),
      () => this.#text(depth),
      () => this.#number(depth),
      () => this.#list(depth),
      () => this.#dict(depth),
      () => this.#bool(depth),
      () => this.#name(),
      () => this.#oneOf('none', 'nothing', 'd.b', 'd["10"]', 'd.missing', 'l[0]', 'v', 'd.b[1].c'),
    ];
    if (depth > 0) {
      kinds.push(
        () => `(${this.#any(depth - 1)} if ${this.#bool(depth - 1)} else ${this.#any(depth - 1)})`,
      );
      kinds.push(
        () => `${this.#any(depth - 1)}|default(${this.#any(0)}${this.#oneOf('', ', true')})`,
      );
      kinds.push(
        () => `(${this.#any(depth - 1)} ${this.#oneOf('or', 'and')} ${this.#any(depth - 1)})`,
      );
      kinds.push(() => `${this.#any(depth - 1)}|tojson${this.#oneOf(...JSON_FORMATS)}`);
    }
    return this.#pick(...kinds);
  }

  #message(): string {
    return this.#oneOf('messages[0]', 'messages[1]', 'messages[-1]', 'messages[2]');
  }

  #text(depth: number): string {
    if (depth <= 0) {
      return this.#pick(
        () => this.#oneOf("'a'", '"it\'s"', "'\\n'", "'<think>'", "''", "'é😀'", 's', "'A b'"),
        () => this.#message() + this.#oneOf('.role', "['content']", '.content'),
      );
    }
    const inner = () => this.#text(depth - 1);
    return this.#pick(
      inner,
      () => `(${this.#any(depth - 1)} ~ ${this.#any(depth - 1)})`,
      () => `(${inner()} + ${inner()})`,
      () => inner() + this.#method(),
      () => inner() + this.#method(),
      () => `${inner()}|${this.#oneOf(...TEXT_FILTERS)}`,
      () => `(${inner()} ~ 'q')[${this.#oneOf('0', '-1', '1:', ':-1', '::2', '::-1')}]`,
      () => `${this.#list(depth - 1)}|join(${this.#oneOf('', "', '", 's')})`,
      () => `(${this.#any(depth - 1)}|string)`,
      () => `('%s|%s' % (${this.#any(depth - 1)}, ${this.#number(0)}))`,
      () => `'{} {x:>4}'.format(${this.#number(0)}, x=${this.#text(0)})`,
      () => `${inner()} * ${this.#oneOf('2', '0', '-1')}`,
    );
  }

  #method(): string {
    return this.#oneOf(
      '.strip()',
      ".strip('\\n')",
      ".lstrip('\\n ')",
      ".rstrip('a\\n')",
      '.upper()',
      '.title()',
      ".split('</think>')[-1]",
      ".split('<think>')[0]",
      ".replace('a', 'xy')",
      ".replace('', '-', 2)",
      ".removeprefix('a')",
      '.capitalize()',
      ".rsplit(' ', 1)[0]",
      ".partition('a')[2]",
      '.splitlines()|join',
      '.zfill(6)',
      '.center(7)',
      '.swapcase()',
    );
  }

  #number(depth: number): string {
    if (depth <= 0) {
      return this.#oneOf(
        '0',
        '1',
        '2',
        '-3',
        '7',
        '1.0',
        '0.1',
        '2.5',
        '1e16',
        '1e-5',
        'n',
        'f',
        '9007199254740993',
        'true',
      );
    }
    const inner = () => this.#number(depth - 1);
    return this.#pick(
      inner,
      () => `(${inner()} ${this.#oneOf('+', '-', '*', '/', '//', '%', '+', '-', '*')} ${inner()})`,
      () =>
        `(${this.#pick(
          () => this.#text(depth - 1),
          () => this.#list(depth - 1),
        )}|length)`,
      () => `${this.#any(depth - 1)}|int`,
      () => '(2 ** n)',
      () => `${inner()}|${this.#oneOf(...NUMBER_FILTERS)}`,
      () => `(${this.#oneOf(...AGGREGATES)}|${this.#oneOf('sum', 'max', 'min', 'count')})`,
      () => `${this.#text(depth - 1)}${this.#oneOf(...TEXT_NUMBERS)}`,
    );
  }

  #list(depth: number): string {
    if (depth <= 0)
      return this.#oneOf(
        'messages',
        'tools',
        'l',
        '[]',
        '[1, 2.0, none]',
        'range(3)',
        '(1, "b")',
        "['B', 'a', 'b']",
      );
    const inner = () => this.#list(depth - 1);
    return this.#pick(
      inner,
      () => `[${this.#any(depth - 1)}, ${this.#any(depth - 1)}]`,
      () => `(${this.#any(depth - 1)},)`,
      () => `${inner()}[${this.#oneOf('1:', ':-1', '::-1', '::2')}]`,
      () => `([${this.#any(depth - 1)}] + ${inner()}|list)`,
      () => `${inner()}|${this.#oneOf(...LIST_FILTERS)}`,
      () => `${this.#oneOf('l', "['B', 'a', 'b', 'A']")}|${this.#oneOf(...SORTS)}`,
      () => `messages|${this.#oneOf(...MESSAGE_FILTERS)}`,
      () => `${this.#text(depth - 1)}.split(${this.#oneOf('', "','", "'a', 1")})`,
      () => `d.${this.#oneOf('items()', 'keys()', 'values()')}|list`,
      () => 'd|dictsort',
    );
  }

  #dict(depth: number): string {
    if (depth <= 0) {
      return this.#oneOf(
        'd',
        '{}',
        'messages[0]',
        'messages[2].tool_calls[0].function.arguments',
        'tools[0].function',
      );
    }
    return this.#pick(
      () => this.#dict(depth - 1),
      () => `{'a': ${this.#any(depth - 1)}, ${this.#number(0)}: ${this.#any(depth - 1)}}`,
      () => `dict(${this.#dict(depth - 1)}, k=${this.#any(depth - 1)})`,
    );
  }

  #bool(depth: number): string {
    if (depth <= 0) return this.#oneOf('true', 'false', 'x', 's', 'y', 'messages', 'tools');
    const any = () => this.#any(depth - 1);
    return this.#pick(
      () => `(${any()} ${this.#oneOf('==', '!=')} ${any()})`,
      () => `(${this.#number(depth - 1)} ${this.#oneOf(...ORDERS)} ${this.#number(depth - 1)} < 9)`,
      () =>
        `(${this.#text(0)} ${this.#oneOf('in', 'not in')} ${this.#pick(
          () => this.#text(0),
          () => this.#list(0),
          () => this.#dict(0),
        )})`,
      () => `not ${this.#bool(depth - 1)}`,
      () => `${any()} is ${this.#oneOf('', 'not ')}${this.#oneOf(...VALUE_TESTS)}`,
      () => `${this.#number(0)} is ${this.#oneOf(...NUMBER_TESTS)}`,
      () => `${this.#text(depth - 1)}.${this.#oneOf(...TEXT_TESTS)}`,
      () => `(${this.#bool(depth - 1)} ${this.#oneOf('and', 'or')} ${this.#bool(depth - 1)})`,
    );
  }
}
