import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Claim, claim } from '../claims/claim.ts';
import { AttestError } from '../core/errors.ts';
import { BUILT_IN_POLICIES } from './built-in.ts';
import { requireEncryption } from './encryption.ts';
import { judge } from './judge.ts';
import { policySchema, TOLERABLE_CODES } from './policy.ts';
import { readPolicy } from './read.ts';

const signed = (kind: string, more: Partial<Claim> = {}): Claim =>
  claim({
    kind,
    subject: 'GPU-0',
    status: 'verified',
    voucher: 'device-signed',
    statement: `${kind} holds`,
    evidence: ['test'],
    ...more,
  });
const refused = (kind: string, code: Claim['code'], more: Partial<Claim> = {}) =>
  signed(kind, { status: 'refused', code: code!, ...more });
const open = (kind: string, voucher: Claim['voucher'], more: Partial<Claim> = {}) =>
  signed(kind, { status: 'unverified', voucher, why: 'nobody signed it', ...more });
const policyOf = (fields: object) => policySchema.parse({ version: 1, name: 'test', ...fields });
const rules = (claims: readonly Claim[], fields: object) =>
  judge(claims, policyOf(fields)).reasons.map(({ rule }) => rule);

describe('a verdict', () => {
  test('refuses an empty list, and one without anything verified', () => {
    expect(judge([], policyOf({})).result).toBe('refused');
    expect(rules([open('server.model', 'operator-asserted')], {})).toEqual(['always']);
  });

  test('refuses for any refused claim, with its code', () => {
    const verdict = judge([signed('a.b'), refused('a.c', 'nonce-mismatch')], policyOf({}));
    expect(verdict).toMatchObject({
      result: 'refused',
      reasons: [{ kind: 'a.c', code: 'nonce-mismatch', subject: 'GPU-0' }],
    });
  });

  test('says what refused the whole, and about whom', () => {
    const claims = [
      open('gpu.nonce', 'device-signed', { why: 'No nonce was given' }),
      refused('gpu.mode', 'mode-refused', { statement: 'the modes differ', subject: 'GPU-1' }),
    ];
    const require = { gpu: { 'gpu.nonce': {}, 'gpu.mode': {} } };
    const present = { switch: { atLeast: 4, atMost: 4 }, gpu: { atLeast: 3, atMost: 8 } };
    expect(judge(claims, policyOf({ require, present })).reasons).toEqual([
      {
        rule: 'tolerate',
        subject: 'GPU-1',
        kind: 'gpu.mode',
        text: 'the modes differ',
        code: 'mode-refused',
      },
      {
        rule: 'present.switch',
        subject: 'SWITCH',
        kind: 'any',
        text: 'there is no evidence of one, the policy wants 4',
      },
      {
        rule: 'present.gpu',
        subject: 'GPU',
        kind: 'any',
        text: 'there is evidence of 2, the policy wants 3 to 8',
      },
      {
        rule: 'require.gpu["gpu.nonce"]',
        subject: 'GPU-0',
        kind: 'gpu.nonce',
        text: 'is required, and is not verified: No nonce was given',
      },
      {
        rule: 'require.gpu["gpu.mode"]',
        subject: 'GPU-0',
        kind: 'gpu.mode',
        text: 'is required, and the evidence says nothing of it',
      },
      {
        rule: 'require.gpu["gpu.nonce"]',
        subject: 'GPU-1',
        kind: 'gpu.nonce',
        text: 'is required, and the evidence says nothing of it',
      },
      {
        rule: 'always',
        subject: 'ALL',
        kind: 'any',
        text: 'nothing in the evidence could be verified',
      },
    ]);
  });

  test('knows the family of a subject by how its name begins', () => {
    const require = { require: { gpu: { 'gpu.nonce': {} } } };
    for (const subject of ['0-GPU', '', 'XGPU-0']) {
      expect(rules([signed('gpu.chain', { subject })], require)).toEqual([]);
    }
    for (const subject of ['GPU-12', 'gpu']) {
      expect(rules([signed('gpu.chain', { subject })], require)).toHaveLength(1);
    }
  });

  test('takes any of the codes, values and vouchers that a rule names', () => {
    const late = refused('cpu.tcb', 'collateral-expired', { value: 'b' });
    const tolerate = [
      { kind: 'cpu.x', codes: ['tcb-refused'], because: 'another' },
      {
        kind: 'cpu.tcb',
        codes: ['tcb-refused', 'collateral-expired'],
        values: ['a', 'b'],
        because: 'as agreed',
      },
    ];
    expect(judge([signed('a.b'), late], policyOf({ tolerate })).tolerated).toMatchObject([
      { rule: 'tolerate[1]', because: 'as agreed' },
    ]);
    const claims = [signed('a.b'), open('gpu.fabric', 'guest-observed')];
    const believe = ['operator-asserted', 'guest-observed'];
    const require = { gpu: { 'gpu.fabric': { believe } } };
    expect(judge(claims, policyOf({ require })).believed).toMatchObject([
      {
        rule: 'require.gpu["gpu.fabric"]',
        because: 'the policy believes what is guest-observed; no signature vouches for it',
      },
    ]);
  });

  test('tolerates what the policy names by kind, code and value, and says so', () => {
    const claims = [signed('a.b'), refused('cpu.tcb', 'tcb-refused', { value: 'OutOfDate' })];
    const tolerate = (values?: string[]) => ({
      tolerate: [{ kind: 'cpu.tcb', codes: ['tcb-refused'], because: 'as agreed', values }],
    });
    expect(judge(claims, policyOf(tolerate()))).toMatchObject({
      result: 'verified',
      tolerated: [{ rule: 'tolerate[0]', because: 'as agreed' }],
    });
    expect(judge(claims, policyOf(tolerate(['OutOfDate']))).result).toBe('verified');
    expect(judge(claims, policyOf(tolerate(['Revoked']))).result).toBe('refused');
    const other = [signed('a.b'), refused('cpu.tcb', 'collateral-expired')];
    expect(judge(other, policyOf(tolerate())).result).toBe('refused');
  });

  test('a requirement holds for each subject of its family, and only for those', () => {
    const require = { require: { gpu: { 'gpu.nonce': {} } } };
    const nonce = signed('gpu.nonce');
    expect(rules([nonce, signed('switch.nonce', { subject: 'SWITCH-0' })], require)).toEqual([]);
    expect(rules([nonce, signed('gpu.chain', { subject: 'GPU-1' })], require)).toEqual([
      'require.gpu["gpu.nonce"]',
    ]);
    expect(rules([nonce, open('gpu.nonce', 'device-signed')], require)).toHaveLength(1);
  });

  test('unsigned claims meet a requirement only where their voucher is named', () => {
    const claims = [signed('a.b'), open('gpu.fabric', 'guest-observed', { value: 'healthy' })];
    const believing = (...believe: string[]) => ({
      require: { gpu: { 'gpu.fabric': { believe, oneOf: ['healthy'] } } },
    });
    expect(judge(claims, policyOf(believing('guest-observed')))).toMatchObject({
      result: 'verified',
      believed: [{ claim: { status: 'unverified' } }],
    });
    expect(judge(claims, policyOf(believing('operator-asserted'))).result).toBe('refused');
    const plain = { require: { gpu: { 'gpu.fabric': {} } } };
    expect(judge(claims, policyOf(plain)).result).toBe('refused');
  });

  test('counts subjects', () => {
    const claims = [signed('a.b'), signed('a.b', { subject: 'GPU-1' })];
    expect(rules(claims, { present: { gpu: { atLeast: 2 } } })).toEqual([]);
    expect(rules(claims, { present: { gpu: { atLeast: 8, atMost: 8 }, switch: {} } })).toEqual([
      'present.gpu',
    ]);
    expect(rules(claims, { present: { gpu: { atMost: 1 } } })).toEqual(['present.gpu']);
  });

  test.each([
    [{ oneOf: ['a', 1] }, 1, true],
    [{ oneOf: ['1'] }, 1, false],
    [{ oneOf: ['a'] }, undefined, false],
    [{ oneOf: [] }, 'a', false],
    [{ includes: [] }, ['a'], false],
    [{ includes: ['x', 'y'] }, ['y', 'z', 'x'], true],
    [{ includes: ['x', 'y'] }, ['x'], false],
    [{ includes: ['x'] }, 'x', false],
    [{ atLeast: 3 }, 3, true],
    [{ atLeast: 3 }, '3', false],
    [{ atLeast: '580.95.05' }, '580.105', true],
    [{ atLeast: '580.95.05' }, '580.9', false],
    [{ atLeast: '96.00.61.00.01' }, '96.00.5E.00.01', false],
    [{ atLeast: '96.00.5E.00.01' }, '96.00.A5.00.01', true],
    [{ atLeast: '1.2' }, '1.two', false],
    [{ atLeast: '1.2' }, null, false],
  ])('compares values: %j with %j', (requirement, value, holds) => {
    const claims = [signed('gpu.x', value === undefined ? {} : { value })];
    const met = rules(claims, { require: { gpu: { 'gpu.x': requirement } } }).length === 0;
    expect(met).toBe(holds);
  });

  test('a tolerated claim still needs the required value', () => {
    const claims = [signed('a.b'), refused('gpu.mode', 'mode-refused', { value: 'single' })];
    const tolerate = [{ kind: 'gpu.mode', codes: ['mode-refused'], because: 'x' }];
    const wanting = (mode: string) => ({
      tolerate,
      require: { gpu: { 'gpu.mode': { oneOf: [mode] } } },
    });
    expect(judge(claims, policyOf(wanting('single'))).result).toBe('verified');
    expect(judge(claims, policyOf(wanting('multi'))).result).toBe('refused');
  });

  test('a refused claim is one reason, whatever was required of its value', () => {
    const claims = [signed('a.b'), refused('gpu.mode', 'mode-refused', { value: 'single' })];
    const require = { require: { gpu: { 'gpu.mode': { oneOf: ['multi'] } } } };
    expect(rules(claims, require)).toEqual(['tolerate']);
  });

  test('never grows kinder by one more refusal', () => {
    const codes = fc.constantFrom('signature-invalid', 'tcb-refused', 'nonce-mismatch' as const);
    fc.assert(
      fc.property(fc.array(codes, { minLength: 1 }), codes, (some, more) => {
        const all = some.map((code, i) => refused(`gpu.k${i}`, code as Claim['code']));
        const tolerate = some.map((_, i) => ({
          kind: `gpu.k${i}`,
          codes: ['tcb-refused'],
          because: 'x',
        }));
        const policy = policyOf({ tolerate });
        const before = judge([signed('a.b'), ...all], policy);
        const extra = refused('gpu.new', more as Claim['code']);
        const after = judge([signed('a.b'), ...all, extra], policy);
        expect(before.result).toBe(
          some.every((code) => code === 'tcb-refused') ? 'verified' : 'refused',
        );
        expect(after.result).toBe('refused');
        expect(after.reasons.length).toBe(before.reasons.length + 1);
      }),
      { numRuns: 50 },
    );
  });
});

describe('a policy file', () => {
  const failure = (document: unknown) => {
    const text = typeof document === 'string' ? document : JSON.stringify(document);
    try {
      readPolicy(text, 'the policy');
    } catch (error) {
      if (error instanceof AttestError) return error;
      throw error;
    }
    throw new Error('it was read');
  };

  test('is read strictly', () => {
    const good = { version: 1, name: 'x', require: { gpu: { 'gpu.chain': {} } } };
    expect(readPolicy(JSON.stringify(good), 'p').require.gpu).toEqual({ 'gpu.chain': {} });
    expect(failure('{').code).toBe('malformed');
    expect(failure(null).code).toBe('malformed');
    expect(failure({ version: 2, name: 'x' }).code).toBe('unsupported-version');
    expect(failure({ ...good, extra: 1 }).message).toContain('extra');
    expect(failure(`${' '.repeat(1_000_001)}{}`).code).toBe('too-large');
  });

  test('of the documentation is one', () => {
    const page = new URL('../../../../docs/verify.md', import.meta.url);
    const [, example] = /```json\n([^`]*)```/.exec(readFileSync(page, 'utf8'))!;
    expect(readPolicy(example!, 'the example').name).toBe('ours');
  });

  test('names claims that exist', () => {
    const misspelt = { version: 1, name: 'x', require: { gpu: { 'gpu.nonse': {} } } };
    expect(failure(misspelt).message).toMatch(/no claim "gpu.nonse".*gpu\.chain.*gpu\.nonce/);
    const tolerate = [{ kind: 'gpu.x', codes: ['tcb-refused'], because: 'x' }];
    expect(failure({ version: 1, name: 'x', tolerate }).code).toBe('malformed');
  });

  test('cannot tolerate what proves nothing', () => {
    for (const code of [
      'signature-invalid',
      'root-not-pinned',
      'debug-enabled',
      'nonce-mismatch',
    ]) {
      expect(TOLERABLE_CODES).not.toContain(code);
      const tolerate = [{ kind: 'gpu.chain', codes: [code], because: 'x' }];
      expect(failure({ version: 1, name: 'x', tolerate }).message).toContain('tolerate.0.codes.0');
    }
  });
});

test('a policy for encrypted requests asks for a key to encrypt to, not for that of TLS', () => {
  const service = BUILT_IN_POLICIES.get('service')!;
  const { server, ...others } = requireEncryption(service).require;
  const { server: before, ...same } = service.require;
  const { 'server.tls': tls, ...kept } = before!;
  expect(tls).toEqual({});
  expect(server).toEqual({ ...kept, 'server.encryption': {} });
  expect(others).toEqual(same);
  expect(requireEncryption(service).name).toBe('service, encrypted');
});
