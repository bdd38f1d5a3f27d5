import { Hono } from 'hono';
import { describe, expect, test } from 'vitest';
import { OnceLog } from '../logging/once-log.ts';
import type { AppEnv } from './context.ts';
import { FieldCheck, IGNORED_HEADER } from './field-check.ts';

/** A check of bodies whose route has the one field `own`, and what it logs. */
function opened() {
  const lines: string[] = [];
  const log = new OnceLog({ warn: (line: string) => lines.push(line) });
  const fields = new FieldCheck(log, ['own'], false);
  const app = new Hono<AppEnv>();
  app.post('/', async (c) => {
    c.set('commonHeaders', {});
    fields.check(c, await c.req.json());
    return c.json(c.get('commonHeaders'));
  });
  const post = async (body: unknown) => {
    const response = await app.request('/', { method: 'POST', body: JSON.stringify(body) });
    expect(await response.json()).toEqual(
      response.headers.has(IGNORED_HEADER)
        ? { [IGNORED_HEADER]: response.headers.get(IGNORED_HEADER) }
        : {},
    );
    return response.headers.get(IGNORED_HEADER);
  };
  return { lines, post };
}

describe('unknown fields', () => {
  test('are logged once for each name, without what might be text', async () => {
    const { lines, post } = opened();
    expect(await post({ own: 1, user: 'x' })).toBeNull();
    expect(await post({ other: 1, 'a secret': 2 })).toBe('other, and 1 more');
    expect(await post({ other: 1, next: null, third: 1 })).toBe('other, third');
    expect(lines).toHaveLength(2);
    expect(lines[0]).toContain('"other"');
    expect(lines.join()).not.toContain('secret');
  });

  test('are logged for a bounded number of names', async () => {
    const { lines, post } = opened();
    for (let at = 0; at < 150; at++) expect(await post({ [`f${at}`]: 1 })).toBe(`f${at}`);
    expect(lines).toHaveLength(100);
  });

  test('are not looked for in what is no object', async () => {
    const { lines, post } = opened();
    for (const body of [null, 7, 'suffix', [1]]) expect(await post(body)).toBeNull();
    expect(lines).toEqual([]);
  });
});
