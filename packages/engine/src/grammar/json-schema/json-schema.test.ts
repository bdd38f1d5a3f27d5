import { Ajv } from 'ajv';
import formats from 'ajv-formats';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readJsonValue } from '../../text/json.ts';
import { compileGrammar } from '../compile.ts';
import { GrammarError } from '../errors.ts';
import type { Grammar } from '../expression.ts';
import { sampleBytes } from '../testing/sample.ts';
import { TableWalk } from '../testing/table-walk.ts';
import { type JsonOptions, jsonObjectGrammar, schemaGrammar } from './translate.ts';

const FORMATS = [
  ...['date', 'time', 'date-time', 'duration', 'email', 'hostname', 'ipv4', 'ipv6', 'uri'],
  ...['uri-reference', 'uuid', 'json-pointer', 'relative-json-pointer'],
] as const;

function grammarOf(schema: unknown, options?: JsonOptions): Grammar {
  return schemaGrammar(readJsonValue(JSON.stringify(schema)), options);
}

function startOf(grammar: Grammar): TableWalk {
  return TableWalk.start(compileGrammar(grammar));
}

function admits(start: TableWalk, text: string): boolean {
  return start.afterAll(new TextEncoder().encode(text))?.canEnd ?? false;
}

function refusalOf(schema: unknown, options?: JsonOptions): string {
  try {
    compileGrammar(grammarOf(schema, options));
  } catch (error) {
    if (error instanceof GrammarError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'none';
}

/** By schema: texts that are admitted, and texts that are not. */
const CASES: Record<string, readonly [schema: unknown, yes: string[], no: string[]]> = {
  'properties that no keyword beside evaluates': [
    {
      type: 'object',
      patternProperties: { '^x': { type: 'integer' } },
      unevaluatedProperties: { type: 'null' },
    },
    ['{}', '{"x": 1}', '{"y": null}'],
    ['{"y": 1}', '{"x": null}'],
  ],
  'no schema at all': [true, ['1', '{"a":[null]}', '"\\u00e9\\/"'], ['', '01', '{a:1}', '[1,]']],
  types: [{ type: ['integer', 'null'] }, ['-0', '12', 'null'], ['1.5', '"1"', 'true', '1e2']],
  'unknown keywords and annotations': [
    { type: 'null', title: 'x', $comment: 'y', 'x-own': { type: 'string' }, default: 3 },
    ['null'],
    ['3'],
  ],
  'enum and const': [
    { enum: ['a"b', 1, 1.5, [1, { k: null }], { a: [] }] },
    ['"a\\"b"', '1', '1.5', '[1, {"k": null}]', '{"a":[]}'],
    ['"a"', '2', '[]', '"\\u0061\\"b"'],
  ],
  'enum beside other keywords': [
    { enum: [1, 'a', 'bbb', 7], type: ['string', 'integer'], maxLength: 2, maximum: 5 },
    ['1', '"a"'],
    ['7', '"bbb"'],
  ],
  'lengths in characters': [
    { type: 'string', minLength: 2, maxLength: 3 },
    ['"ab"', '"😀😀"', '"\\ud83d\\ude00\\n"', '"éàü"'],
    ['"a"', '"😀"', '"\\ud83d\\ude00"', '"\\ud83dx"', '"abcd"'],
  ],
  pattern: [
    { type: 'string', pattern: '^a.c$|x' },
    ['"abc"', '"a\\"c"', '"--x--"', '"a😀c"'],
    ['"abcd"', '"ac"', '"a\\nc"', '"a"c"'],
  ],
  'pattern with a length': [
    { type: 'string', pattern: '^[a-z]+(-[a-z]+)*$', maxLength: 4, minLength: 2 },
    ['"ab"', '"a-b"', '"abcd"'],
    ['"a"', '"ab-cd"', '"a-"'],
  ],
  'integer bounds': [
    { type: 'integer', minimum: -12, exclusiveMaximum: 105 },
    ['-12', '-1', '0', '99', '104'],
    ['-13', '105', '1000', '-100', '1.0'],
  ],
  'number bounds': [
    { type: 'number', exclusiveMinimum: -0.5, maximum: 10.25 },
    ['-0.49', '-0.4999', '0', '10', '10.25', '10.2', '10.250', '9.99'],
    ['-0.5', '-0.50', '-1', '10.26', '10.251', '11', '1e0'],
  ],
  'one-sided bounds': [
    { type: 'number', minimum: 1.05 },
    ['1.05', '1.1', '2', '100.01'],
    ['1.04', '1', '0', '-5', '1.0499'],
  ],
  'bounds of draft 4': [
    { type: 'integer', minimum: 0, exclusiveMinimum: true },
    ['1', '20'],
    ['0', '-0', '-1'],
  ],
  multiples: [
    { type: 'number', multipleOf: 0.01 },
    ['0', '1.5', '-3.25', '7.00', '2.010'],
    ['1.005', '0.001'],
  ],
  'multiples of integers': [
    { type: 'integer', multipleOf: 15, minimum: -30 },
    ['0', '15', '-30', '3000', '45'],
    ['10', '9', '-45', '5'],
  ],
  'few multiples': [
    { type: 'integer', multipleOf: 13, minimum: 1, maximum: 30 },
    ['13', '26'],
    ['0', '39', '14'],
  ],
  items: [
    { type: 'array', items: { type: 'integer' }, minItems: 1, maxItems: 3 },
    ['[1]', '[1,2, 3]'],
    ['[]', '[1,2,3,4]', '["a"]', '[ 1]'],
  ],
  prefixItems: [
    { type: 'array', prefixItems: [{ const: 1 }, { const: 2 }], items: { const: 3 } },
    ['[]', '[1]', '[1,2]', '[1,2,3,3]'],
    ['[2]', '[1,3]', '[1,2,4]'],
  ],
  'items and additionalItems of draft 7': [
    { items: [{ const: 1 }, { const: 2 }], additionalItems: false, minItems: 1 },
    ['[1]', '[1,2]', '"x"'],
    ['[]', '[1,2,3]'],
  ],
  contains: [
    { type: 'array', items: { type: 'integer' }, contains: { minimum: 5 } },
    ['[5]', '[1,2,6,1]'],
    ['[]', '[1,2]'],
  ],
  'uniqueItems of listed values': [
    { type: 'array', items: { enum: ['a', 'b', 'c'] }, uniqueItems: true, minItems: 1 },
    ['["b"]', '["c","a","b"]'],
    ['[]', '["a","a"]'],
  ],
  properties: [
    {
      type: 'object',
      properties: { a: { type: 'integer' }, b: { type: 'null' }, c: { type: 'boolean' } },
      required: ['b'],
      additionalProperties: false,
    },
    ['{"b":null}', '{"a":1,"b":null}', '{"a": 1, "b": null, "c": true}'],
    ['{}', '{"a":1}', '{"b":null,"a":1}', '{"b":null,"b":null}', '{"b":null,"d":1}', '{"a":1,}'],
  ],
  'further properties come last, and are no others': [
    {
      type: 'object',
      properties: { a: { type: 'integer' } },
      additionalProperties: { type: 'null' },
    },
    ['{}', '{"a":1}', '{"x":null}', '{"a":1,"x":null,"aa":null}', '{"":null}'],
    ['{"a":null}', '{"x":null,"a":1}', '{"x":1}', '{"\\u0061":null}'],
  ],
  'required beyond properties': [
    { type: 'object', properties: { a: {} }, required: ['z'] },
    ['{"z":1}', '{"a":1,"z":2,"q":3}'],
    ['{"a":1}', '{}'],
  ],
  patternProperties: [
    {
      type: 'object',
      properties: { ab: { minimum: 5 } },
      patternProperties: { '^a': { type: 'integer' }, z$: { maximum: 9 } },
      additionalProperties: false,
    },
    ['{"ab":7,"az":3}', '{"a1":12}', '{"qz":"text"}'],
    ['{"ab":1}', '{"az":12}', '{"az":"text"}', '{"b":1}'],
  ],
  propertyNames: [
    { type: 'object', propertyNames: { pattern: '^[a-c]{2}$' }, properties: { toolong: {} } },
    ['{}', '{"ab":1,"cc":2}'],
    ['{"abc":1}', '{"toolong":1}'],
  ],
  'counts of properties': [
    {
      type: 'object',
      properties: { a: { const: 1 }, b: { const: 1 }, c: { const: 1 } },
      additionalProperties: { const: 2 },
      required: ['a'],
      minProperties: 2,
      maxProperties: 3,
    },
    ['{"a":1,"c":1}', '{"a":1,"x":2}', '{"a":1,"y":2,"z":2}'],
    ['{}', '{"a":1}', '{"a":1,"b":1,"c":1,"x":2}'],
  ],
  dependencies: [
    {
      type: 'object',
      properties: { a: {}, b: {}, c: { type: 'integer' } },
      additionalProperties: false,
      dependentRequired: { a: ['b'] },
      dependentSchemas: { b: { properties: { c: { minimum: 5 } } } },
    },
    ['{}', '{"a":1,"b":2}', '{"b":1,"c":6}', '{"c":1}'],
    ['{"a":1}', '{"a":1,"c":7}', '{"b":1,"c":1}'],
  ],
  anyOf: [
    { anyOf: [{ type: 'string', maxLength: 1 }, { type: 'integer' }], minimum: 3 },
    ['"a"', '3'],
    ['"ab"', '2', 'null'],
  ],
  'oneOf of schemas that overlap': [
    {
      oneOf: [
        { type: 'integer', minimum: 5 },
        { type: 'number', maximum: 10 },
      ],
    },
    ['11', '4', '1.5', '9.5'],
    ['5', '10', '10.0', '10.5', '"a"'],
  ],
  'oneOf by a discriminator': [
    {
      oneOf: [
        {
          type: 'object',
          properties: { k: { const: 'a' }, v: { type: 'integer' } },
          required: ['k'],
        },
        { type: 'object', properties: { k: { const: 'b' }, w: { type: 'null' } }, required: ['k'] },
      ],
    },
    ['{"k":"a","v":1}', '{"k":"b","w":null}', '{"k":"b","v":"x"}'],
    ['{"k":"c"}', '{"k":"a","v":"x"}', '{}'],
  ],
  'allOf is merged': [
    {
      allOf: [
        { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] },
        { properties: { a: { minimum: 3 }, b: { type: 'null' } }, additionalProperties: false },
      ],
    },
    ['{"a":3}', '{"a":4,"b":null}'],
    ['{"a":2}', '{"b":null}', '{"a":3,"c":1}'],
  ],
  'if, then and else': [
    {
      type: 'object',
      properties: { k: { enum: ['x', 'y'] }, v: {} },
      required: ['k', 'v'],
      additionalProperties: false,
      if: { properties: { k: { const: 'x' } } },
      // biome-ignore lint/suspicious/noThenProperty: the keyword
      then: { properties: { v: { type: 'integer' } } },
      else: { properties: { v: { type: 'string' } } },
    },
    ['{"k":"x","v":1}', '{"k":"y","v":"s"}'],
    ['{"k":"x","v":"s"}', '{"k":"y","v":1}'],
  ],
  not: [
    { type: ['string', 'integer'], not: { enum: ['no', 5] } },
    ['"yes"', '"n"', '"nob"', '4', '55'],
    ['"no"', '5', 'null'],
  ],
  'the opposite of listed arrays': [
    { enum: [[1], [3, 4], [5]], not: { enum: [[1], [3, 4]] } },
    ['[5]'],
    ['[1]', '[3,4]'],
  ],
  'recursion by $ref': [
    {
      $defs: { tree: { type: 'array', items: { $ref: '#/$defs/tree' }, maxItems: 2 } },
      $ref: '#/$defs/tree',
    },
    ['[]', '[[],[[],[]]]'],
    ['[[],[],[]]', '[1]'],
  ],
  'recursion of the whole, anchors and ids': [
    {
      $id: 'https://example.com/list.json',
      type: 'object',
      properties: { value: { $ref: '#number' }, next: { $ref: 'list.json' } },
      required: ['value'],
      additionalProperties: false,
      $defs: { number: { $anchor: 'number', type: 'integer' } },
    },
    ['{"value":1}', '{"value":1,"next":{"value":2}}'],
    ['{"value":1,"next":{}}', '{"value":"a"}'],
  ],
  nullable: [{ type: 'integer', nullable: true }, ['1', 'null'], ['"a"']],
};

describe('a schema', () => {
  test.each(Object.entries(CASES))('%s', (_, [schema, yes, no]) => {
    const start = startOf(grammarOf(schema));
    for (const text of yes) expect(admits(start, text), text).toBe(true);
    for (const text of no) expect(admits(start, text), text).toBe(false);
  });

  test('keeps the order of keys that look like numbers', () => {
    const schema = '{"type":"object","properties":{"b":{},"1":{}},"required":["b","1"]}';
    const start = startOf(schemaGrammar(readJsonValue(schema)));
    expect(admits(start, '{"b":0,"1":0}')).toBe(true);
    expect(admits(start, '{"1":0,"b":0}')).toBe(false);
  });

  test('keeps numbers that no double holds', () => {
    const start = startOf(
      schemaGrammar(readJsonValue('{"type":"integer","minimum":9007199254740993}')),
    );
    expect(admits(start, '9007199254740993')).toBe(true);
    expect(admits(start, '9007199254740992')).toBe(false);
  });

  test('may leave the order of properties free', () => {
    const schema = {
      type: 'object',
      properties: { a: { const: 1 }, b: { const: 2 }, c: { const: 3 } },
      required: ['a', 'c'],
    };
    const start = startOf(grammarOf(schema, { order: 'free' }));
    for (const text of [
      '{"c":3,"a":1}',
      '{"c":3,"x":0,"b":2,"a":1}',
      '{"x":0,"a":1,"c":3,"y":0}',
    ]) {
      expect(admits(start, text), text).toBe(true);
    }
    for (const text of ['{"c":3}', '{"a":1,"c":3,"a":1}', '{}']) {
      expect(admits(start, text), text).toBe(false);
    }
  });

  test('may be written in lines', () => {
    const schema = { type: 'object', properties: { a: { items: { type: 'null' } }, b: {} } };
    const start = startOf(grammarOf(schema, { whitespace: 'lines' }));
    const value = { a: [null, null], b: { c: [1, { d: 2 }], e: {} } };
    for (const indent of [undefined, 1, 2, 4, '\t']) {
      expect(admits(start, JSON.stringify(value, undefined, indent)), String(indent)).toBe(true);
    }
    expect(admits(start, `{\n${' '.repeat(33)}"a":[]}`)).toBe(false);
    expect(admits(start, '{\n\n"a":[]}')).toBe(false);
  });

  test('may be any object', () => {
    const start = startOf(jsonObjectGrammar());
    for (const text of ['{}', '{"a": [1, "b", {"c": null}]}']) {
      expect(admits(start, text), text).toBe(true);
    }
    for (const text of ['[]', '1', '{"a"}', '{} ']) expect(admits(start, text), text).toBe(false);
  });
});

describe('a schema is refused, with the keyword and its place', () => {
  const at = (keyword: string) => expect.stringContaining(keyword) as unknown as string;

  test.each([
    [
      { allOf: [{ properties: { a: true } }], unevaluatedProperties: false },
      'unsupported',
      '(at #/unevaluatedProperties)',
    ],
    [{ not: { unevaluatedProperties: false } }, 'unsupported', 'unevaluatedProperties)'],
    [
      { properties: { a: { $dynamicRef: '#x' } } },
      'unsupported',
      '(at #/properties/a/$dynamicRef)',
    ],
    [{ $ref: 'https://example.com/other' }, 'unsupported', '(at #/$ref)'],
    [{ minProperties: 2 }, 'unsupported', 'minProperties'],
    [{ items: { uniqueItems: true } }, 'unsupported', '(at #/items/uniqueItems)'],
    [{ type: 'integer', multipleOf: 17 }, 'unsupported', 'multipleOf'],
    [{ format: 'regex' }, 'unsupported', '(at #/format)'],
    [{ pattern: '(?=a)b' }, 'unsupported', '(at #/pattern)'],
    [{ type: 'strnig' }, 'syntax', '(at #/type)'],
    [{ properties: [] }, 'syntax', '(at #/properties)'],
    [{ required: true }, 'syntax', '(at #/required)'],
    [{ maxLength: -1 }, 'syntax', '(at #/maxLength)'],
    [{ properties: { 'a/b': 3 } }, 'syntax', '(at #/properties/a~1b)'],
    [3, 'syntax', '(at #)'],
    [false, 'contradiction', '(at #)'],
    [{ type: 'string', minLength: 3, maxLength: 2 }, 'contradiction', '(at #)'],
    [{ type: 'integer', minimum: 3, exclusiveMaximum: 4, not: { const: 3 } }, 'empty', ''],
    [{ enum: [1, 'a'], type: 'null' }, 'contradiction', ''],
    [
      { type: 'object', properties: { a: { const: 1, type: 'string' } }, required: ['a'] },
      'contradiction',
      '(at #/properties/a)',
    ],
    [
      {
        $defs: { a: { items: { $ref: '#/$defs/a' }, minItems: 1, type: 'array' } },
        $ref: '#/$defs/a',
      },
      'empty',
      '',
    ],
    [{ type: 'string', minLength: 1e6, pattern: '^(a|b|cd)*$' }, 'too-large', ''],
  ])('%j', (schema, code, place) => {
    expect(refusalOf(schema)).toEqual(at(code));
    expect(refusalOf(schema)).toEqual(at(place));
  });

  test('that is too deep, too long, or has too many alternatives', () => {
    let deep: unknown = {};
    for (let depth = 0; depth < 130; depth++) deep = { not: deep };
    expect(refusalOf(deep)).toContain('too-large');
    const either = { anyOf: Array.from({ length: 8 }, (_, at) => ({ required: [`a${at}`] })) };
    expect(refusalOf({ allOf: Array.from({ length: 8 }, () => ({ ...either })) })).toContain(
      'too-large',
    );
    expect(refusalOf({ enum: Array.from({ length: 200_001 }, () => 0) })).toContain('too-large');
  });

  test('whose references lead nowhere but to themselves', () => {
    expect(refusalOf({ $ref: '#' })).toBe('none');
    expect(
      refusalOf({ $defs: { a: { not: { $ref: '#/$defs/a' } } }, $ref: '#/$defs/a' }),
    ).toContain('contradiction');
  });

  test('with more properties than can be in any order', () => {
    const properties = Object.fromEntries('abcdefghi'.split('').map((name) => [name, {}]));
    expect(refusalOf({ type: 'object', properties }, { order: 'free' })).toContain('unsupported');
  });
});

const ajv = new Ajv({
  strict: false,
  logger: false,
  multipleOfPrecision: 6,
  validateSchema: false,
  allowUnionTypes: true,
});
formats.default(ajv, [...FORMATS]);

describe('formats', () => {
  test.each(FORMATS)('every sample of %s has it', (format) => {
    const grammar = grammarOf({ type: 'string', format });
    const validate = ajv.compile({ type: 'string', format });
    const start = startOf(grammar);
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat(999)), (numbers) => {
        const bytes = sampleBytes(grammar, { random: () => numbers.next().value / 1000 });
        const text = new TextDecoder().decode(bytes);
        expect(validate(JSON.parse(text)), text).toBe(true);
        expect(admits(start, text), text).toBe(true);
      }),
      { numRuns: 15 },
    );
  });

  test.each([
    ['date', '2024-02-29', '2023-02-29'],
    ['date', '2000-02-29', '1900-02-29'],
    ['time', '23:59:59.123+01:00', '24:00:00Z'],
    ['date-time', '2024-12-31T00:00:00Z', '2024-12-31 00:00'],
    ['duration', 'P1Y2M3DT4H5M6S', 'P'],
    ['email', 'a.b+c@example.co.uk', 'a@b@c.de'],
    ['hostname', 'a-b.example.com', '-a.com'],
    ['ipv4', '255.0.10.199', '256.1.1.1'],
    ['ipv6', '::ffff:1.2.3.4', '1::2::3'],
    ['uri', 'https://user@host:80/a/b?c=d#e', 'no spaces'],
    ['uri-reference', '../a?b', 'a b'],
    ['uuid', '123e4567-e89b-12d3-a456-426614174000', '123e4567'],
    ['json-pointer', '/a~1b/0', 'a'],
  ])('%s: %s, and not %s', (format, yes, no) => {
    const start = startOf(grammarOf({ type: 'string', format }));
    expect(admits(start, JSON.stringify(yes))).toBe(true);
    expect(admits(start, JSON.stringify(no))).toBe(false);
  });

  test('that JSON Schema does not define say nothing', () => {
    const start = startOf(grammarOf({ type: 'string', format: 'int32' }));
    expect(admits(start, '"anything"')).toBe(true);
  });
});

const NAMES = ['a', 'b', 'ab'];
const scalar = fc.constantFrom<unknown>(
  null,
  true,
  false,
  0,
  1,
  2,
  -3,
  1.5,
  10,
  '',
  'a',
  'ab',
  'b',
);
const value = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    scalar,
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom(...NAMES, 'c'), tie('value'), {
      maxKeys: 3,
      noNullPrototype: true,
    }),
  ),
})).value;

/** Schemas over few names and numbers, so that their parts meet. */
const schemas = fc.letrec<{ schema: unknown; keywords: object }>((tie) => {
  const schema = tie('schema');
  const some = fc.array(schema, { minLength: 1, maxLength: 3 });
  const keyword = (name: string, values: fc.Arbitrary<unknown>) =>
    values.map((of) => ({ [name]: of }));
  const type = fc.constantFrom('null', 'boolean', 'integer', 'number', 'string', 'array', 'object');
  const count = fc.nat(3);
  const number = fc.constantFrom(-3, 0, 1, 1.5, 2, 10);
  const names = fc.uniqueArray(fc.constantFrom(...NAMES), { maxLength: 2 });
  const byName = fc.dictionary(fc.constantFrom(...NAMES), schema, { maxKeys: 3 });
  const pattern = fc.constantFrom('^a', 'b$', '^[ab]{1,2}$');
  const leaf = fc.oneof(
    keyword('type', fc.oneof(type, fc.uniqueArray(type, { minLength: 1, maxLength: 3 }))),
    keyword('enum', fc.array(fc.oneof(scalar, value), { minLength: 1, maxLength: 4 })),
    keyword('const', fc.oneof(scalar, value)),
    ...['minLength', 'maxLength', 'minItems', 'maxItems', 'minProperties', 'maxProperties'].map(
      (name) => keyword(name, count),
    ),
    ...['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'].map((name) =>
      keyword(name, number),
    ),
    keyword('multipleOf', fc.constantFrom(0.5, 1, 2, 3)),
    keyword('pattern', pattern),
    keyword('required', names),
  );
  const branch = fc.oneof(
    keyword('properties', byName),
    keyword('additionalProperties', schema),
    keyword('patternProperties', fc.dictionary(pattern, schema, { maxKeys: 2 })),
    keyword('propertyNames', schema),
    keyword('items', schema),
    keyword('contains', schema),
    ...['anyOf', 'oneOf', 'allOf'].map((name) => keyword(name, some)),
    keyword('not', schema),
    keyword('if', schema),
    ...['then', 'else'].map((name) => keyword(name, schema)),
    keyword(
      'dependencies',
      fc.dictionary(fc.constantFrom(...NAMES), fc.oneof(schema, names), { maxKeys: 2 }),
    ),
    keyword('$ref', fc.constantFrom('#', '#/definitions/d')),
  );
  return {
    keywords: fc
      .array(fc.oneof({ weight: 3, arbitrary: leaf }, { weight: 2, arbitrary: branch }), {
        maxLength: 4,
      })
      .map((all) => Object.assign({}, ...all)),
    schema: fc.oneof({ depthSize: 'small', maxDepth: 3 }, fc.boolean(), leaf, tie('keywords')),
  };
});

const documents = fc
  .tuple(schemas.keywords, schemas.schema)
  .map(([root, d]) => ({ ...root, definitions: { d } }));

/** The text of a value in every order of the properties of its objects. */
function* textsOf(of: unknown): Iterable<string> {
  if (of === null || typeof of !== 'object') {
    yield JSON.stringify(of);
  } else if (Array.isArray(of)) {
    for (const items of products(of)) yield `[${items.join()}]`;
  } else {
    for (const entries of permutations(Object.entries(of))) {
      for (const values of products(entries.map(([, inner]) => inner))) {
        yield `{${entries.map(([name], at) => `${JSON.stringify(name)}:${values[at]}`).join()}}`;
      }
    }
  }
}

function* products(values: readonly unknown[]): Iterable<readonly string[]> {
  const [first, ...rest] = values;
  if (values.length === 0) yield [];
  else for (const text of textsOf(first)) for (const more of products(rest)) yield [text, ...more];
}

function* permutations<T>(items: readonly T[]): Iterable<readonly T[]> {
  if (items.length === 0) yield [];
  for (const [at, item] of items.entries()) {
    for (const rest of permutations(items.toSpliced(at, 1))) yield [item, ...rest];
  }
}

/** Compiled, or why it was refused. ajv reads it too, or is not asked. */
function compiled(schema: object): { grammar: Grammar; start: TableWalk } | string {
  try {
    const grammar = grammarOf(schema);
    return { grammar, start: startOf(grammar) };
  } catch (error) {
    if (error instanceof GrammarError) return error.code;
    throw error;
  }
}

/** Undefined where ajv follows a reference without end. */
function judge(schema: object, instance: unknown): boolean | undefined {
  try {
    return ajv.validate(schema, instance);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

const RUNS = Number(process.env.SCHEMA_RUNS ?? 60);

describe('against ajv', () => {
  test('a value is admitted, in some order of its properties, if and only if it is valid', () => {
    fc.assert(
      fc.property(documents, fc.array(value, { minLength: 3, maxLength: 6 }), (schema, values) => {
        const ours = compiled(schema);
        const isNothing = ours === 'contradiction' || ours === 'empty';
        if (typeof ours === 'string' && !isNothing) return;
        for (const instance of values) {
          const isValid = judge(schema, instance);
          if (isValid === undefined) return;
          const isAdmitted =
            typeof ours !== 'string' &&
            [...textsOf(instance)].some((text) => admits(ours.start, text));
          expect(isAdmitted, JSON.stringify(instance)).toBe(isValid);
        }
      }),
      { numRuns: RUNS },
    );
  });

  test('every text that is sampled is valid', () => {
    fc.assert(
      fc.property(documents, fc.infiniteStream(fc.nat(999)), (schema, numbers) => {
        const ours = compiled(schema);
        if (typeof ours === 'string') return;
        for (let sample = 0; sample < 3; sample++) {
          const random = () => numbers.next().value / 1000;
          const text = new TextDecoder().decode(sampleBytes(ours.grammar, { random }));
          expect(admits(ours.start, text), text).toBe(true);
          expect(judge(schema, JSON.parse(text)) ?? true, text).toBe(true);
        }
      }),
      { numRuns: RUNS },
    );
  });
});
