import { expect, test } from 'vitest';
import { tenantOfKey } from './auth.ts';
import { ApiError } from './errors.ts';
import type { KeyLimits } from './key-file.ts';
import { type Admission, Quotas } from './quotas.ts';

const NONE: KeyLimits = {
  weight: 1,
  maxRunning: undefined,
  maxWaiting: undefined,
  tokensPerMinute: undefined,
};

const ROOM = { maxRows: 4, maxWaiting: 12 };

function quotasOf(limits: Partial<KeyLimits>, others: KeyLimits = NONE) {
  const clock = { now: 0, nowNs: () => clock.now };
  const own = new Map([[tenantOfKey('k'), { ...NONE, ...limits }]]);
  const quotas = new Quotas(own, others, ROOM, clock);
  return { quotas, clock, tenant: tenantOfKey('k') };
}

function refusal(action: () => unknown): ApiError {
  try {
    action();
  } catch (error) {
    if (error instanceof ApiError) return error;
  }
  throw new Error('it was let in');
}

test('what a key has open is what may run and what may wait', () => {
  const { quotas, tenant } = quotasOf({ maxRunning: 2, maxWaiting: 1 });
  const first = quotas.admit(tenant, 1, 10);
  quotas.admit(tenant, 2, 10);
  const error = refusal(() => quotas.admit(tenant, 1, 10));
  expect(error).toMatchObject({
    code: 'rate_limited',
    status: 429,
    headers: { 'Retry-After': '1' },
  });
  expect(error.message).toContain('3 requests open');
  quotas.admit('another', 100, 10);
  first.close(5);
  quotas.admit(tenant, 1, 10);
  expect(quotas.shareOf(tenant)).toStrictEqual({ owner: tenant, weight: 1, maxRows: 2 });
  // Without a limit of its own, it may have every row.
  const all = quotasOf({ maxWaiting: 0, weight: 3 });
  all.quotas.admit(all.tenant, 4, 1);
  expect(refusal(() => all.quotas.admit(all.tenant, 1, 1)).code).toBe('rate_limited');
  expect(all.quotas.shareOf(all.tenant)).toStrictEqual({ owner: all.tenant, weight: 3 });
});

test('tokens come evenly, and what an answer took too much is waited for', () => {
  const { quotas, clock, tenant } = quotasOf({ tokensPerMinute: 600 });
  quotas.admit(tenant, 1, 500).close(160);
  // 60 too many, and one to have: 61 tokens at 10 a second.
  const error = refusal(() => quotas.admit(tenant, 1, 1));
  expect(error.headers).toEqual({ 'Retry-After': '7' });
  expect(error.message).toBe('This key has used its 600 tokens a minute.');
  clock.now = 6.05e9;
  expect(refusal(() => quotas.admit(tenant, 1, 1)).code).toBe('rate_limited');
  clock.now = 6.15e9;
  quotas.admit(tenant, 1, 1).close(0);
  // Not more than a minute's worth is saved up.
  clock.now = 3600e9;
  quotas.admit(tenant, 1, 601);
  expect(refusal(() => quotas.admit(tenant, 1, 1)).code).toBe('rate_limited');
});

test('requests come evenly, up to a minute’s worth', () => {
  const { quotas, clock, tenant } = quotasOf({ requestsPerMinute: 2 });
  for (let count = 0; count < 2; count++) quotas.admit(tenant, 1, 1e6).close(1e6);
  const error = refusal(() => quotas.admit(tenant, 1, 1));
  expect(error.headers).toEqual({ 'Retry-After': '30' });
  expect(error.message).toBe('This key has used its 2 requests a minute.');
  clock.now = 30e9;
  quotas.admit(tenant, 1, 1);
  expect(refusal(() => quotas.admit(tenant, 1, 1)).code).toBe('rate_limited');
});

test('who has no key has the limits of the flags', () => {
  const { quotas } = quotasOf({}, { ...NONE, maxWaiting: 0 });
  quotas.admit('default', 4, 1);
  expect(refusal(() => quotas.admit('default', 1, 1)).code).toBe('rate_limited');
});

test('of several keys none fills the queue, whatever came before', () => {
  const clock = { nowNs: () => 0 };
  const names = ['a', 'b', 'c'];
  const limits = names.map((key) => [tenantOfKey(key), NONE] as const);
  const quotas = new Quotas(new Map(limits), NONE, { maxRows: 4, maxWaiting: 13 }, clock);
  const admitted = (key: string) => {
    const all: Admission[] = [];
    for (;;) {
      try {
        all.push(quotas.admit(tenantOfKey(key), 1, 1));
      } catch (error) {
        expect(error).toMatchObject({ code: 'rate_limited' });
        return all;
      }
    }
  };
  // All rows, and half of the queue.
  const first = admitted('a');
  expect(first).toHaveLength(4 + 7);
  const later = ['b', 'c'].map(admitted);
  for (const each of later) expect(each.length).toBeGreaterThanOrEqual(1);
  expect(admitted('a')).toEqual([]);
  // What has ended leaves its room to others.
  for (const each of [...first, ...later.flat()]) each.close(1);
  expect(admitted('b')).toHaveLength(4 + 7);
  // One key has nobody to leave room for: the engine's own bound is its bound.
  const alone = new Quotas(new Map(limits.slice(0, 1)), NONE, ROOM, clock);
  alone.admit(tenantOfKey('a'), 100, 1);
});

test('new limits hold for what comes, and for what is open', () => {
  const { quotas, clock, tenant } = quotasOf({});
  const open = quotas.admit(tenant, 2, 1e6);
  quotas.change(new Map([[tenant, { ...NONE, maxRunning: 1, maxWaiting: 2 }]]), ROOM);
  quotas.admit(tenant, 1, 1);
  expect(refusal(() => quotas.admit(tenant, 1, 1)).message).toContain('3 requests open');
  open.close(10);
  quotas.change(new Map([[tenant, { ...NONE, tokensPerMinute: 60 }]]), ROOM);
  quotas.admit(tenant, 1, 60);
  expect(refusal(() => quotas.admit(tenant, 1, 1)).headers).toEqual({ 'Retry-After': '1' });
  clock.now = 2e9;
  quotas.admit(tenant, 1, 1);
  // A tenant that is gone has the limits of all others.
  quotas.change(new Map(), { maxRows: 100, maxWaiting: 0 });
  quotas.admit(tenant, 50, 1e6);
});

test('new room holds for what comes', () => {
  const { quotas, tenant } = quotasOf({ maxWaiting: 0 });
  quotas.change(new Map([[tenant, { ...NONE, maxWaiting: 0 }]]), { maxRows: 6, maxWaiting: 0 });
  quotas.admit(tenant, 6, 1);
  expect(refusal(() => quotas.admit(tenant, 1, 1)).code).toBe('rate_limited');
});

test.each([
  ['tokens', { tokensPerMinute: 60 }],
  ['requests', { requestsPerMinute: 1 }],
])('%s that were used stay used when limits change, and nothing was before', (_, limit) => {
  const limits = new Map([[tenantOfKey('k'), { ...NONE, ...limit }]]);
  const { quotas, tenant } = quotasOf({});
  quotas.admit(tenant, 1, 60).close(0);
  quotas.change(limits, ROOM);
  quotas.admit(tenant, 1, 60).close(0);
  for (let changes = 0; changes < 2; changes++) {
    expect(refusal(() => quotas.admit(tenant, 1, 1)).code).toBe('rate_limited');
    quotas.change(limits, ROOM);
  }
});

test('a tenant that is gone is forgotten, unless something of it is open', () => {
  const others = { ...NONE, maxWaiting: 0, tokensPerMinute: 60 };
  const { quotas, tenant } = quotasOf({ tokensPerMinute: 60 }, others);
  const open = quotas.admit(tenant, 3, 60);
  quotas.change(new Map(), ROOM);
  const most = refusal(() => quotas.admit(tenant, 2, 1));
  expect(most.message).toContain('3 requests open');
  expect(refusal(() => quotas.admit(tenant, 1, 1)).message).toContain('60 tokens');
  open.close(0);
  expect(refusal(() => quotas.admit(tenant, 1, 1)).message).toContain('60 tokens');
  quotas.change(new Map(), ROOM);
  quotas.admit(tenant, 1, 60);
});
