import { createHash, createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { authorizationOf, KeyRing, saltedTenant, TENANT_HEADER } from './auth.ts';
import { ApiError } from './errors.ts';

const start = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 16);

const refusal = (ring: KeyRing, authorization: string | undefined, named?: string): ApiError => {
  try {
    ring.tenantOf(authorization, named);
  } catch (error) {
    if (error instanceof ApiError) return error;
  }
  throw new Error('it was let in');
};

describe('a ring of keys', () => {
  const ring = new KeyRing(['one', 'two', 'three']);

  test('knows each of its keys, and names the tenant by the start of its digest', () => {
    for (const key of ['one', 'two', 'three']) {
      expect(ring.tenantOf(`Bearer ${key}`)).toBe(start(key));
      expect(ring.tenantOf(`bearer ${key}`)).toBe(start(key));
    }
  });

  test('refuses what it does not know, and says whether a key came at all', () => {
    const missing = 'This server needs an API key: send "Authorization: Bearer <key>".';
    for (const none of [undefined, '', 'one', 'Basic one', 'x Bearer one', 'Bearer ']) {
      expect(refusal(ring, none)).toMatchObject({ code: 'invalid_api_key', message: missing });
    }
    for (const wrong of ['Bearer four', 'Bearer one ', 'Bearer one two']) {
      const message = 'The API key is not known here.';
      expect(refusal(ring, wrong)).toMatchObject({ code: 'invalid_api_key', message });
    }
  });

  test('an empty key would be no key: nothing without a token is let in', () => {
    expect(refusal(new KeyRing(['']), undefined).code).toBe('invalid_api_key');
  });

  test('without keys lets everybody in, as one tenant', () => {
    const open = new KeyRing([]);
    expect(open.tenantOf(undefined)).toBe('default');
    expect(open.tenantOf('Bearer x')).toBe('default');
  });
});

describe("a gateway's key", () => {
  const ring = new KeyRing(['one'], [], ['g']);

  test('is believed whose request it is', () => {
    const tenant = ring.tenantOf('Bearer g', 'team-7');
    expect(tenant).toBe(start("a gateway's tenant: team-7"));
    expect(ring.tenantOf('Bearer g', 'a'.repeat(63))).not.toBe(tenant);
    // Another key is its own tenant, whoever is named.
    expect(ring.tenantOf('Bearer one', 'team-7')).toBe(start('one'));
  });

  test('comes with a name, and with what is one', () => {
    expect(TENANT_HEADER).toBe('x-bridgekeeper-tenant');
    const message =
      "A gateway's key comes with the header x-bridgekeeper-tenant: whom it asks for.";
    for (const named of [undefined, '', 'Team', 'team_7', ' team', 'team\n', 'a'.repeat(64)]) {
      const refused = refusal(ring, 'Bearer g', named);
      expect(refused).toMatchObject({ code: 'invalid_api_key', message });
    }
  });

  test('is told from all others', () => {
    for (const [given, isOne] of [
      ['Bearer g', true],
      ['Bearer one', false],
      ['g', false],
      ['', false],
    ] as const) {
      expect([given, ring.isGateway(given)]).toEqual([given, isOne]);
    }
    expect(new KeyRing([], [], ['']).isGateway('')).toBe(false);
  });
});

test("a key comes in OpenAI's header, or else in Anthropic's", () => {
  const of = (headers: Record<string, string>) => authorizationOf((name) => headers[name]);
  expect(of({})).toBeUndefined();
  expect(of({ 'x-api-key': 'k' })).toBe('Bearer k');
  expect(of({ authorization: 'Bearer a', 'x-api-key': 'k' })).toBe('Bearer a');
});

describe('what tells of all tenants', () => {
  const code = (ring: KeyRing, authorization?: string) => {
    try {
      ring.requireOperator(authorization);
    } catch (error) {
      return (error as ApiError).code;
    }
    return 'read';
  };

  test('is read without keys, and by the only one', () => {
    expect(code(new KeyRing([]))).toBe('read');
    expect(code(new KeyRing(['a']), 'Bearer a')).toBe('read');
  });

  test('is read by none of several keys', () => {
    expect(code(new KeyRing(['a', 'b']), 'Bearer a')).toBe('operator_only');
  });

  test('is read by an operator key alone where there is one', () => {
    for (const keys of [[], ['a'], ['a', 'b']]) {
      const ring = new KeyRing(keys, ['o', 'p']);
      for (const key of ['o', 'p']) expect(code(ring, `Bearer ${key}`)).toBe('read');
      for (const other of ['Bearer a', 'Bearer ', 'o', undefined]) {
        expect([other, code(ring, other)]).toEqual([other, 'operator_only']);
      }
    }
  });

  test('says what to do where nobody may read it, and who may where somebody may', () => {
    const refused = (ring: KeyRing) => () => ring.requireOperator('Bearer a');
    expect(refused(new KeyRing(['a', 'b']))).toThrow(
      'This tells of all keys: start the server with --operator-key to read it.',
    );
    expect(refused(new KeyRing(['a', 'b'], ['o']))).toThrow(
      'This tells of all keys: only an operator key reads it.',
    );
  });

  test('is not read without a key, were an operator key empty', () => {
    expect(new KeyRing([], ['']).isOperator(undefined)).toBe(false);
  });

  test('an operator is a tenant of its own', () => {
    expect(new KeyRing(['a'], ['o']).tenantOf('Bearer o')).toBe(start('o'));
    expect(new KeyRing([], ['o']).tenantOf(undefined)).toBe('default');
  });
});

test('a salt narrows a tenant', () => {
  expect(saltedTenant('t', undefined)).toBe('t');
  expect(saltedTenant('t', null)).toBe('t');
  expect(saltedTenant('t', 'x')).toBe(`t-${start('x')}`);
});

describe('a proof of a key', () => {
  const ring = new KeyRing(['one', 'two']);
  const nonce = 'ab'.repeat(32);
  const prove = (key: string, of = nonce) => {
    const message = `bridgekeeper.report.v1 ${of}`;
    const digest = createHash('sha256').update(key).digest();
    return `Bridgekeeper-Proof ${createHmac('sha256', digest).update(message).digest('hex')}`;
  };

  test('is good for its own nonce, whichever key it is of', () => {
    expect(ring.provesKey(prove('one'), nonce)).toBe(true);
    expect(ring.provesKey(prove('two'), nonce)).toBe(true);
    expect(ring.provesKey(prove('one'), 'cd'.repeat(32))).toBe(false);
  });

  test('is none of an unknown key, without a nonce, cut or spelt otherwise', () => {
    for (const given of [prove('three'), prove('one').slice(0, -1), 'Bearer one', undefined]) {
      expect(ring.provesKey(given, nonce)).toBe(false);
    }
    expect(ring.provesKey(prove('one'), undefined)).toBe(false);
    expect(ring.provesKey(prove('one', 'undefined'), undefined)).toBe(false);
    expect(new KeyRing([]).provesKey(prove(''), nonce)).toBe(false);
  });

  test('is no key for any other route', () => {
    expect(refusal(ring, prove('one'))).toMatchObject({ code: 'invalid_api_key' });
  });
});
