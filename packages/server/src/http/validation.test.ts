import { z } from '@hono/zod-openapi';
import { expect, test } from 'vitest';
import { ApiError } from './errors.ts';
import { validate } from './validation.ts';

const Part = z.object({ type: z.literal('text'), text: z.string() });
const Schema = z.object({
  whole: z.int().min(1).max(9).nullish(),
  real: z.number().nullish(),
  on: z.boolean().nullish(),
  name: z.string().min(2).max(3).nullish(),
  list: z.array(z.int()).min(1).max(2).nullish(),
  map: z.record(z.string(), z.number()).nullish(),
  inner: z.object({ a: z.string() }).nullish(),
  word: z.enum(['x', 'y']).nullish(),
  form: z.string().regex(/^\d+$/, 'must be digits').nullish(),
  link: z.url().nullish(),
  own: z
    .string()
    .refine((text) => text !== 'no', 'must not be no')
    .nullish(),
  content: z
    .union([z.string(), z.array(z.union([Part, z.object({ type: z.literal('b') })]))])
    .nullish(),
  keys: z.strictObject({}).nullish(),
  day: z.date().nullish(),
});

const refusal = (body: unknown, schema: z.ZodType = Schema): ApiError => {
  try {
    validate(schema, body);
  } catch (error) {
    if (error instanceof ApiError) return error;
  }
  throw new Error('it was accepted');
};

test('a body that fits comes back', () => {
  const body = { whole: 1, name: 'ab', content: [{ type: 'text', text: 'x' }] };
  expect(validate(Schema, body)).toEqual(body);
});

test.each([
  [{ whole: 1.5 }, 'whole', 'whole must be an integer.'],
  [{ whole: 'one' }, 'whole', 'whole must be a number.'],
  [{ whole: 0 }, 'whole', 'whole must be at least 1.'],
  [{ whole: 10 }, 'whole', 'whole must be at most 9.'],
  [{ real: 'one' }, 'real', 'real must be a number.'],
  [{ on: 1 }, 'on', 'on must be true or false.'],
  [{ name: 1 }, 'name', 'name must be a string.'],
  [{ name: 'a' }, 'name', 'name must have at least 2 characters.'],
  [{ name: 'abcd' }, 'name', 'name must have at most 3 characters.'],
  [{ list: 1 }, 'list', 'list must be an array.'],
  [{ list: [] }, 'list', 'list must have at least 1 entries.'],
  [{ list: [1, 2, 3] }, 'list', 'list must have at most 2 entries.'],
  [{ list: [1, 'x'] }, 'list.1', 'list.1 must be a number.'],
  [{ map: 1 }, 'map', 'map must be an object.'],
  [{ inner: 1 }, 'inner', 'inner must be an object.'],
  [{ inner: {} }, 'inner.a', 'inner.a is required.'],
  [{ inner: { a: null } }, 'inner.a', 'inner.a must be a string.'],
  [{ word: 'z' }, 'word', 'word must be one of "x", "y".'],
  [{ form: 'x' }, 'form', 'form must be digits.'],
  [{ link: 'x' }, 'link', 'link does not have an accepted form.'],
  [{ own: 'no' }, 'own', 'own must not be no.'],
  [{ day: 1 }, 'day', 'day must be date.'],
  [{ whole: 'undefined' }, 'whole', 'whole must be a number.'],
  [{ keys: { extra: 1 } }, 'keys', 'keys does not have an accepted form.'],
])('%o is refused by name: %s', (body, param, message) => {
  expect(refusal(body)).toMatchObject({ code: 'invalid_value', param, message });
});

test('the first fault is named, and never what came', () => {
  const error = refusal({ whole: 'my secret', real: 'another' });
  expect(error.param).toBe('whole');
  expect(error.message).toBe('whole must be a number; real must be a number.');
  expect(error.message).not.toContain('secret');
  expect(refusal('my secret')).toMatchObject({ message: 'The body must be an object.', param: '' });
});

test('of several forms, the one that got furthest says what is wrong', () => {
  const text = refusal({ content: [{ type: 'text', text: 7 }] });
  expect(text).toMatchObject({
    param: 'content.0.text',
    message: 'content.0.text must be a string.',
  });
  const second = refusal({ content: [{ type: 'b' }, { type: 'text' }] });
  expect(second.param).toBe('content.1.text');
  // Neither got anywhere.
  const none = refusal({ content: 7 });
  expect(none).toMatchObject({
    param: 'content',
    message: 'content does not have an accepted form.',
  });
});

test('of many faults a few are told, and how many more there are', () => {
  const body = { map: Object.fromEntries(Array.from({ length: 5000 }, (_, at) => [at, 'x'])) };
  const each = [0, 1, 2].map((at) => `map.${at} must be a number; `).join('');
  expect(refusal(body).message).toBe(`${each}and 4997 more.`);
});
