import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ApiError } from './errors.ts';
import {
  CONVERSATION_BOUNDS,
  checkJsonBounds,
  type JsonBounds,
  memberText,
  tokenBounds,
} from './json-bounds.ts';

/** What a value is made of, by another way than its text. */
function madeOf(value: unknown): { depth: number; containers: number; keys: number; more: number } {
  if (typeof value !== 'object' || value === null) {
    return { depth: 0, containers: 0, keys: 0, more: 0 };
  }
  const inner = Object.values(value);
  const total = {
    depth: 1,
    containers: 1,
    keys: Array.isArray(value) ? 0 : inner.length,
    more: Math.max(0, inner.length - 1),
  };
  for (const each of inner.map(madeOf)) {
    total.depth = Math.max(total.depth, each.depth + 1);
    total.containers += each.containers;
    total.keys += each.keys;
    total.more += each.more;
  }
  return total;
}

const OPEN: JsonBounds = {
  maxDepth: 1000,
  maxContainers: 1000,
  maxKeys: 1000,
  maxValues: 1000,
};

function refusal(text: string, bounds: Partial<JsonBounds>): string | undefined {
  try {
    checkJsonBounds(new TextEncoder().encode(text), { ...OPEN, ...bounds });
  } catch (error) {
    expect(error).toBeInstanceOf(ApiError);
    expect((error as ApiError).code).toBe('invalid_value');
    return (error as ApiError).message;
  }
  return undefined;
}

test('whatever the value, and however it is written, each bound is exact', () => {
  const written = fc.tuple(fc.jsonValue({ maxDepth: 5 }), fc.constantFrom(undefined, 1, '\t'));
  fc.assert(
    fc.property(written, ([value, indent]) => {
      const text = JSON.stringify(value, undefined, indent);
      const { depth, containers, keys, more } = madeOf(JSON.parse(text));
      const exact = { maxDepth: depth, maxContainers: containers, maxKeys: keys, maxValues: more };
      expect(refusal(text, exact)).toBeUndefined();
      for (const [name, most] of Object.entries(exact)) {
        if (most > 0) expect(refusal(text, { [name]: most - 1 })).toBeDefined();
      }
    }),
    { numRuns: 300 },
  );
});

test('conversations and token ids are bounded as the page on HTTP says', () => {
  expect(CONVERSATION_BOUNDS).toEqual({
    maxDepth: 200,
    maxContainers: 32_768,
    maxKeys: 32_768,
    maxValues: 65_536,
  });
  const ids = tokenBounds(4096);
  expect(ids).toEqual({ ...CONVERSATION_BOUNDS, maxValues: 262_144 + 4096 });
  const list = (values: number) => `[${'1,'.repeat(values)}1]`;
  expect(refusal(list(65_536), CONVERSATION_BOUNDS)).toBeUndefined();
  expect(refusal(list(65_537), CONVERSATION_BOUNDS)).toContain('65536');
});

test('strings count for nothing, whatever is in them', () => {
  const none = { maxDepth: 0, maxContainers: 0, maxKeys: 0, maxValues: 0 };
  for (const text of ['[[{}]],:', '"', '\\', '\\"', '\\\\', '"\\', '\\\\\\",[', 'é[☃,😀']) {
    expect(refusal(JSON.stringify(text), none)).toBeUndefined();
  }
  expect(refusal('"never ended, [', none)).toBeUndefined();
});

test('the refusal says which bound it is, and ends the look', () => {
  expect(refusal('[1,2,3', { maxValues: 1 })).toContain('more than 1 values');
  expect(refusal('{"a":1,"b":2}', { maxKeys: 1 })).toContain('more than 1 keys');
  expect(refusal('[[],[]]', { maxContainers: 2 })).toContain('more than 2 arrays and objects');
  expect(refusal('[[[', { maxDepth: 2 })).toContain('nested deeper than 2 levels');
});

test('a member of a body is the one that a parser finds', () => {
  const of = (text: string) => memberText(new TextEncoder().encode(text), 'seed');
  const key = fc.constantFrom('"seed"', '"see"', '"s\\u0065ed"', '"\\"seed"', '"x,y:{"');
  const value = fc.json({ maxDepth: 3 });
  const nested = value.map((inner) => `{"seed": ${inner}, "a": [${inner}]}`);
  const member = fc.tuple(key, fc.oneof(value, nested, fc.constant('12345678901234567890')));
  fc.assert(
    fc.property(fc.array(member, { maxLength: 6 }), (members) => {
      const text = ` { ${members.map(([name, inner]) => `${name} : ${inner} `).join(',')} } `;
      const found = of(text);
      const parsed = (JSON.parse(text) as { seed?: unknown }).seed;
      expect(found === undefined ? undefined : JSON.parse(found)).toEqual(parsed);
    }),
  );
  expect(of('{"a": "\\\\", "seed": 12345678901234567890}')).toBe('12345678901234567890');
  expect(of('{"seed":1,"a":{"seed":2}}')).toBe('1');
  expect(of('{"seed":"a"}')).toBe('"a"');
});
