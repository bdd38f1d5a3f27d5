import { describe, expect, test } from 'vitest';
import { CorsPolicy } from './cors.ts';
import type { ApiError } from './errors.ts';

const HEADERS = {
  'Access-Control-Allow-Origin': 'https://a.example',
  'Access-Control-Expose-Headers':
    'X-Request-Id, X-Receipt-Id, X-Receipt-Kept, X-Ignored-Fields, X-Bridgekeeper-Replica',
  Vary: 'Origin',
};
const PREFLIGHT = {
  'Access-Control-Allow-Methods': 'GET, HEAD, POST, DELETE',
  'Access-Control-Allow-Headers':
    'accept, anthropic-beta, anthropic-dangerous-direct-browser-access, anthropic-version, ' +
    'authorization, content-type, idempotency-key, openai-beta, openai-organization, ' +
    'openai-project, user-agent, x-api-key, x-request-id',
  'Access-Control-Max-Age': '600',
};

describe('pages of other origins', () => {
  test('are let in where they are listed, each by its own name', () => {
    const policy = new CorsPolicy(['https://a.example', 'https://b.example']);
    expect(policy.headersFor('https://a.example')).toEqual(HEADERS);
    expect(policy.preflightFor('https://a.example', undefined)).toEqual({
      ...HEADERS,
      ...PREFLIGHT,
    });
    for (const other of ['https://c.example', undefined]) {
      expect(policy.headersFor(other)).toEqual({});
      expect(policy.preflightFor(other, undefined)).toBeUndefined();
    }
  });

  test('are all let in by a star, alike, so that caches need not tell them apart', () => {
    const policy = new CorsPolicy(['*']);
    const { Vary, ...shared } = { ...HEADERS, 'Access-Control-Allow-Origin': '*' };
    expect(policy.headersFor('https://any.example')).toEqual(shared);
    expect(policy.preflightFor('https://any.example', '')).toEqual({ ...shared, ...PREFLIGHT });
    expect(policy.headersFor(undefined)).toEqual({});
  });

  test("may send what OpenAI's library sends, and nothing else that they ask for", () => {
    const asked =
      'authorization, X-Stainless-Lang,x-stainless-retry-count, cookie, x-stainless-A1, ax-stainless-b';
    const allowed = new CorsPolicy(['*']).preflightFor('https://a.example', asked);
    const names = allowed!['Access-Control-Allow-Headers']!.split(', ');
    const known = PREFLIGHT['Access-Control-Allow-Headers'].split(', ');
    expect(names).toEqual([...known, 'x-stainless-lang', 'x-stainless-retry-count']);
  });

  test('are refused before any work, unless they are listed or of the server itself', () => {
    const code = (policy: CorsPolicy, origin: string | undefined, host = 'localhost:8000') => {
      try {
        policy.check(origin, host);
      } catch (error) {
        return (error as ApiError).code;
      }
      return 'passes';
    };
    const closed = new CorsPolicy([]);
    expect(code(closed, undefined)).toBe('passes');
    expect(code(closed, 'http://localhost:8000')).toBe('passes');
    expect(() => closed.check('http://localhost:8000', undefined)).toThrow('may not call');
    for (const other of ['https://a.example', 'null', 'http://localhost:9000', 'x', '']) {
      expect([other, code(closed, other)]).toEqual([other, 'origin_not_allowed']);
      expect(code(new CorsPolicy(['*']), other)).toBe('passes');
    }
    const listed = new CorsPolicy(['https://a.example', 'null']);
    expect(code(listed, 'https://a.example')).toBe('passes');
    expect(code(listed, 'null')).toBe('passes');
    expect(code(listed, 'https://b.example')).toBe('origin_not_allowed');
  });

  test('are kept out where none are listed', () => {
    expect(new CorsPolicy([]).headersFor('https://a.example')).toEqual({});
    expect(new CorsPolicy([]).preflightFor('https://a.example', '')).toBeUndefined();
  });

  test('embed nothing of what the server answers', () => {
    const code = (policy: CorsPolicy, site?: string, destination?: string) => {
      try {
        policy.checkFetch(site, destination);
      } catch (error) {
        return (error as ApiError).code;
      }
      return 'passes';
    };
    const closed = new CorsPolicy(['https://a.example']);
    for (const site of ['cross-site', 'same-site']) {
      for (const destination of ['image', 'script', 'iframe', 'empty', undefined]) {
        expect(code(closed, site, destination)).toBe('origin_not_allowed');
        expect(code(new CorsPolicy(['*']), site, destination)).toBe('passes');
      }
      expect(code(closed, site, 'document')).toBe('passes');
    }
    for (const site of ['same-origin', 'none', undefined]) {
      expect(code(closed, site, 'empty')).toBe('passes');
    }
  });
});
