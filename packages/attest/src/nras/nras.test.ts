import { beforeAll, describe, expect, it } from 'vitest';
import type { Claim } from '../claims/claim.ts';
import { type Bytes, fromHex, fromUtf8, utf8 } from '../core/bytes.ts';
import { AttestError } from '../core/errors.ts';
import { inFull, makeContext, wordless } from '../testing/appraisal.ts';
import { makeTokenService, type TestToken, type TokenService } from '../testing/token-service.ts';
import { hasVectors, readVector } from '../testing/vectors.ts';
import {
  appraiseToken,
  NRAS_ISSUER,
  TOKEN_CLAIM_KINDS,
  type TokenExpectation,
} from './appraise.ts';
import { readDetachedEat } from './detached-eat.ts';
import { readTokenKeys } from './keys.ts';

const NONCE = 'ab'.repeat(32);
const ISSUED_AT = 1_780_000_000;

let service: TokenService;
beforeAll(async () => {
  service = await makeTokenService();
});

const issue = (changes: Partial<TestToken> = {}) =>
  service.issue({ nonce: NONCE, devices: { 'GPU-0': {}, 'GPU-1': {} }, ...changes });

interface Circumstances extends Partial<TokenExpectation> {
  readonly nonce?: string | null;
  readonly nowMs?: number;
}

async function appraise(token: Bytes, circumstances: Circumstances = {}): Promise<Claim[]> {
  const { nonce = NONCE, nowMs = (ISSUED_AT + 1) * 1000, ...changes } = circumstances;
  const wanted = nonce === null ? null : fromHex(nonce, 'the nonce');
  const context = makeContext({ nowMs, nonce: wanted });
  const keys = readTokenKeys(service.keys);
  const keysFrom = 'service' as const;
  const expected = { keys, keysFrom, issuer: NRAS_ISSUER, deviceCount: 2, ...changes };
  return appraiseToken(readDetachedEat(token), expected, context);
}

/** Kinds that are not verified, with why. */
const faults = (claims: readonly Claim[]) =>
  Object.fromEntries(
    claims
      .filter(({ status }) => status !== 'verified')
      .map(({ kind, status, code }) => [kind, code ?? status]),
  );

/** A token's parts, to be put together otherwise. */
function open(token: Bytes): [[string, string], Record<string, string>] {
  return JSON.parse(fromUtf8(token, 'the token'));
}
const close = (parts: unknown): Bytes => utf8(JSON.stringify(parts));
const base64url = (json: unknown) =>
  btoa(JSON.stringify(json)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

describe('a token', () => {
  it('is verified in every respect, each a claim', async () => {
    const claims = await appraise(await issue());
    expect(faults(claims)).toEqual({});
    expect(claims.map(({ kind }) => kind)).toEqual(TOKEN_CLAIM_KINDS);
  });

  it('says what each claim rests on and its value', async () => {
    const claims = await appraise(await issue());
    const said = (kind: string, value = '') =>
      `TOKEN token.${kind} verified by vendor-signed${value && `: ${value}`} [token]`;
    expect(claims.map(inFull)).toEqual([
      said('signature'),
      said('issuer', '"https://nras.attestation.nvidia.com"'),
      said('parts'),
      said('nonce', `"${NONCE}"`),
      said('expiry'),
      said('devices', '2'),
      said('debug'),
      said('result'),
    ]);
    const open = await appraise(await issue(), { keys: null, nonce: null, deviceCount: null });
    expect(wordless([...claims, ...open])).toEqual([]);
    const why = (kind: string) => open.find((one) => one.kind === kind)!.why;
    expect(why('token.nonce')).toMatch(/^No nonce was asked for\./);
    expect(why('token.devices')).toMatch(/^No number of devices was asked for\./);
    expect(why('token.parts')).toMatch(/^The signature was not verified\./);
  });

  it('is valid from its beginning to its end, however its parts say it', async () => {
    const at = async (seconds: number, changes: Partial<TestToken> = {}) => {
      const nowMs = (ISSUED_AT + seconds) * 1000;
      return faults(await appraise(await issue(changes), { nowMs }))['token.expiry'] ?? 'verified';
    };
    // Clocks may differ by a minute, in one direction.
    expect(await at(-60)).toBe('verified');
    expect(await at(-60.001)).toBe('collateral-expired');
    expect(await at(3599.999)).toBe('verified');
    expect(await at(3600)).toBe('collateral-expired');
    const later = { devices: { 'GPU-0': { nbf: ISSUED_AT + 100 }, 'GPU-1': {} } };
    expect(await at(1, later)).toBe('collateral-expired');
    expect(await at(100, later)).toBe('verified');
    const unsaid = { nbf: undefined };
    const open = { devices: { 'GPU-0': unsaid, 'GPU-1': unsaid }, overall: unsaid };
    expect(await at(-3600, open)).toBe('verified');
  });

  it('carries the nonce in either case of letters', async () => {
    const upper = NONCE.toUpperCase();
    expect(faults(await appraise(await issue({ nonce: upper })))).toEqual({});
    const mixed = { devices: { 'GPU-0': { eat_nonce: upper }, 'GPU-1': {} } };
    const other = { nonce: upper, devices: { 'GPU-0': { eat_nonce: NONCE }, 'GPU-1': {} } };
    for (const changes of [mixed, other]) {
      expect(faults(await appraise(await issue(changes), { nonce: null }))).toEqual({
        'token.nonce': 'unverified',
      });
    }
  });

  it('whose signature does not hold names the key; a part without one is refused', async () => {
    const [[, overall], parts] = open(await issue());
    const [head, body] = overall.split('.');
    const forged = close([['JWT', `${head}.${body}.${'A'.repeat(128)}`], parts]);
    const [claim] = await appraise(forged);
    expect(claim).toMatchObject({
      code: 'signature-invalid',
      statement: 'a signature by "test-key" does not hold',
    });
    const nameless = close([['JWT', `${base64url({ alg: 'ES384' })}.${body}.AAAA`], parts]);
    const [unnamed] = await appraise(nameless);
    expect(unnamed).toMatchObject({
      code: 'signature-invalid',
      statement: 'the service has no key "null"',
    });
  });

  it('proves nothing without the keys of the service', async () => {
    const claims = await appraise(await issue(), { keys: null });
    expect(claims.map(({ status }) => status)).toEqual(claims.map(() => 'unverified'));
  });

  it('of another key is refused, and nothing else in it is verified', async () => {
    const other = await makeTokenService();
    const claims = await appraise(await issue(), { keys: readTokenKeys(other.keys) });
    expect(claims[0]!.code).toBe('signature-invalid');
    expect(claims.some(({ status }) => status === 'verified')).toBe(false);
  });

  it('of an unknown key is refused', async () => {
    const keys = new Map([['another', readTokenKeys(service.keys).get('test-key')!]]);
    expect(faults(await appraise(await issue(), { keys }))['token.signature']).toBe(
      'signature-invalid',
    );
  });

  it('is refused where the key of that name is no point of its curve', async () => {
    const key = readTokenKeys(service.keys).get('test-key')!;
    const keys = new Map([['test-key', { ...key, x: key.y! }]]);
    const claims = await appraise(await issue(), { keys });
    expect(claims[0]!.code).toBe('signature-invalid');
    expect(claims.some(({ status }) => status === 'verified')).toBe(false);
  });

  it.each(['none', 'HS256', 'ES256'])('signed with %s is refused, keys or no keys', async (alg) => {
    const [[, overall], parts] = open(await issue());
    const [, body] = overall.split('.');
    const unsigned = close([['JWT', `${base64url({ alg, kid: 'test-key' })}.${body}.`], parts]);
    for (const keys of [null, readTokenKeys(service.keys)]) {
      const claims = await appraise(unsigned, { keys });
      expect(claims[0]!.code).toBe('unsupported-algorithm');
      expect(claims.some(({ status }) => status === 'verified')).toBe(false);
    }
  });

  it('with one part of another token is refused', async () => {
    const [whole, parts] = open(await issue());
    const [, others] = open(await issue());
    const mixed = close([whole, { ...parts, 'GPU-1': others['GPU-1'] }]);
    expect(faults(await appraise(mixed))).toEqual({ 'token.parts': 'binding-mismatch' });
    const swapped = close([whole, { 'GPU-0': parts['GPU-1'], 'GPU-1': parts['GPU-0'] }]);
    expect(faults(await appraise(swapped))).toEqual({ 'token.parts': 'binding-mismatch' });
  });

  it('with a part too few or too many is refused', async () => {
    const [whole, parts] = open(await issue());
    const fewer = close([whole, { 'GPU-0': parts['GPU-0'] }]);
    expect(faults(await appraise(fewer))).toEqual({
      'token.parts': 'set-incomplete',
      'token.devices': 'set-incomplete',
    });
    const more = close([whole, { ...parts, 'GPU-2': parts['GPU-0'] }]);
    expect(faults(await appraise(more, { deviceCount: 3 }))).toEqual({
      'token.parts': 'binding-mismatch',
    });
  });

  it.each<[string, Partial<TestToken>, Circumstances, Record<string, string>]>([
    ['another nonce', {}, { nonce: 'cd'.repeat(32) }, { 'token.nonce': 'nonce-mismatch' }],
    [
      'another nonce in one part',
      { devices: { 'GPU-0': {}, 'GPU-1': { eat_nonce: 'cd'.repeat(32) } } },
      {},
      { 'token.nonce': 'nonce-mismatch' },
    ],
    ['no nonce asked for', {}, { nonce: null }, { 'token.nonce': 'unverified' }],
    [
      'mixed nonces, none asked for',
      { devices: { 'GPU-0': {}, 'GPU-1': { eat_nonce: 'cd'.repeat(32) } } },
      { nonce: null },
      { 'token.nonce': 'nonce-mismatch' },
    ],
    [
      'another issuer',
      { overall: { iss: 'NVAT-LOCAL-VERIFIER' } },
      {},
      { 'token.issuer': 'identity-mismatch' },
    ],
    [
      'another issuer of one part',
      { devices: { 'GPU-0': { iss: 'https://example.org' }, 'GPU-1': {} } },
      {},
      { 'token.issuer': 'identity-mismatch' },
    ],
    [
      'a time that is over',
      {},
      { nowMs: (ISSUED_AT + 3600) * 1000 },
      { 'token.expiry': 'collateral-expired' },
    ],
    [
      'a time that is to come',
      {},
      { nowMs: (ISSUED_AT - 61) * 1000 },
      { 'token.expiry': 'collateral-expired' },
    ],
    [
      'one part whose time is over',
      { devices: { 'GPU-0': { exp: ISSUED_AT }, 'GPU-1': {} } },
      {},
      { 'token.expiry': 'collateral-expired' },
    ],
    ['another number of devices', {}, { deviceCount: 8 }, { 'token.devices': 'set-incomplete' }],
    [
      'a bad result over all',
      { overall: { 'x-nvidia-overall-att-result': false } },
      {},
      { 'token.result': 'token-refused' },
    ],
    [
      'a bad result of one device',
      { devices: { 'GPU-0': {}, 'GPU-1': { measres: 'fail' } } },
      {},
      { 'token.result': 'token-refused' },
    ],
    [
      'a device that did not boot securely',
      { devices: { 'GPU-0': {}, 'GPU-1': { secboot: false } } },
      {},
      { 'token.result': 'token-refused' },
    ],
    [
      'a device that does not say whether it can be debugged',
      { devices: { 'GPU-0': { dbgstat: null }, 'GPU-1': {} } },
      {},
      { 'token.debug': 'debug-enabled' },
    ],
    [
      'no number of devices asked for',
      {},
      { deviceCount: null },
      { 'token.devices': 'unverified' },
    ],
    [
      'a device in debug mode',
      { devices: { 'GPU-0': {}, 'GPU-1': { dbgstat: 'enabled' } } },
      {},
      { 'token.debug': 'debug-enabled' },
    ],
  ])('with %s', async (_, changes, circumstances, expected) => {
    expect(faults(await appraise(await issue(changes), circumstances))).toEqual(expected);
  });

  it.each([
    ['no JSON', '{'],
    ['an object', '{}'],
    ['no parts', '[["JWT","a.b.c"],{}]'],
    ['a part that is no JWT', '[["JWT","a.b"],{"GPU-0":"a.b.c"}]'],
    ['a part that is no base64', '[["JWT","a.b.c"],{"GPU-0":"a.b.c"}]'],
    ['a name that is none', '[["JWT","a.b.c"],{"__proto__":"a.b.c"}]'],
  ])('is not read from %s', async (_, text) => {
    let code = 'read';
    try {
      readDetachedEat(utf8(text));
    } catch (error) {
      code = (error as AttestError).code;
    }
    expect(code).toBe('malformed');
  });
});

describe('a key set', () => {
  it('leaves keys of other kinds out, and has no key twice', () => {
    const key = { kty: 'EC', crv: 'P-384', x: 'AA', y: 'AA', kid: 'a' };
    const others = [
      { kty: 'RSA', kid: 'b' },
      { ...key, crv: 'P-256', kid: 'c' },
    ];
    const keysOf = (keys: unknown[]) => readTokenKeys(utf8(JSON.stringify({ keys })));
    expect([...keysOf([key, ...others]).keys()]).toEqual(['a']);
    expect(() => keysOf([key, key])).toThrow(AttestError);
  });
});

const isAtHand = hasVectors('a real token');

describe('a real token', () => {
  it('is whole in itself; its signer is not known here, so nothing is verified', async () => {
    if (!isAtHand) return;
    const token = readVector('nvidia/hopperClaimsv3_detached_eat.json');
    const nonce = '931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb';
    const nowMs = 1_749_601_859_000;
    const claims = await appraise(token, { keys: null, nonce, nowMs, deviceCount: 1 });
    expect(claims.map(({ status }) => status)).toEqual(claims.map(() => 'unverified'));
    const late = await appraise(token, { keys: null, nonce, deviceCount: 2 });
    expect(late.flatMap(({ code }) => code ?? [])).toEqual([
      'collateral-expired',
      'set-incomplete',
    ]);
  });
});
