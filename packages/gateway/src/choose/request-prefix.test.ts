import { describe, expect, it, test } from 'vitest';
import { readBodyFacts } from './request-prefix.ts';

const factsOf = (body: unknown) => readBodyFacts(Buffer.from(JSON.stringify(body)));
const user = (content: string) => ({ role: 'user', content });
const system = { role: 'system', content: 'You tell stories.' };

describe('the prefix of a request', () => {
  it('stays the same while a conversation grows', () => {
    const first = factsOf({ messages: [system, user('Once')] });
    const answer = { role: 'assistant', content: 'upon a time' };
    const later = factsOf({ messages: [system, user('Once'), answer, user('And then?')] });
    expect(later.prefix).toBe(first.prefix);
    expect(first.prefix).toContain('Once');
  });

  it('is another with other tools, other instructions or another beginning', () => {
    const bodies = [
      { messages: [user('a')] },
      { messages: [system, user('a')] },
      { messages: [user('a')], tools: [{ type: 'function', function: { name: 'f' } }] },
      { messages: [user('b')] },
      { system: 'x', messages: [user('a')] },
      { input: 'a' },
      { prompt: 'ab' },
      { prompt: [1, 2, 3] },
    ];
    const prefixes = bodies.map((body) => factsOf(body).prefix);
    expect(prefixes).not.toContain(null);
    expect(new Set(prefixes).size).toBe(bodies.length);
  });

  it('is bounded', () => {
    expect(factsOf({ prompt: 'x'.repeat(1e6) }).prefix).toHaveLength(4096);
    expect(factsOf({ messages: [user('x'.repeat(1e5))] }).prefix).toHaveLength(4096);
  });
});

test('what is no object of JSON is refused, without a word of it', () => {
  for (const text of ['', 'secret', '[1]', '"secret"', '{"a":', 'null']) {
    expect(() => readBodyFacts(Buffer.from(text))).toThrow(/^The body (?:is not valid|must be)/);
  }
});

test('fields of other types are not there', () => {
  const facts = factsOf({ model: 3, stream: 'true', prompt_cache_key: '', cache_salt: null });
  expect(facts).toEqual({
    model: null,
    isStream: false,
    prefix: null,
    cacheKey: null,
    cacheSalt: null,
    previousResponse: null,
  });
});
