import { describe, expect, test } from 'vitest';
import { CorsPolicy } from './cors.ts';

const HEADERS = {
  'Access-Control-Allow-Origin': 'https://a.example',
  'Access-Control-Expose-Headers': 'X-Request-Id, X-Receipt-Id, X-Receipt-Kept, X-Ignored-Fields',
  Vary: 'Origin',
};
const PREFLIGHT = {
  'Access-Control-Allow-Methods': 'GET, HEAD, POST',
  'Access-Control-Allow-Headers': 'Authorization, Content-Type, X-Request-Id',
  'Access-Control-Max-Age': '600',
};

describe('pages of other origins', () => {
  test('are let in where they are listed, each by its own name', () => {
    const policy = new CorsPolicy(['https://a.example', 'https://b.example']);
    expect(policy.headersFor('https://a.example')).toEqual(HEADERS);
    expect(policy.preflightFor('https://a.example')).toEqual({ ...HEADERS, ...PREFLIGHT });
    for (const other of ['https://c.example', undefined]) {
      expect(policy.headersFor(other)).toEqual({});
      expect(policy.preflightFor(other)).toBeUndefined();
    }
  });

  test('are all let in by a star, alike, so that caches need not tell them apart', () => {
    const policy = new CorsPolicy(['*']);
    const { Vary, ...shared } = { ...HEADERS, 'Access-Control-Allow-Origin': '*' };
    expect(policy.headersFor('https://any.example')).toEqual(shared);
    expect(policy.preflightFor('https://any.example')).toEqual({ ...shared, ...PREFLIGHT });
    expect(policy.headersFor(undefined)).toEqual({});
  });

  test('are kept out where none are listed', () => {
    expect(new CorsPolicy([]).headersFor('https://a.example')).toEqual({});
    expect(new CorsPolicy([]).preflightFor('https://a.example')).toBeUndefined();
  });
});
