import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Claim, claim } from '../claims/claim.ts';
import { AttestError } from '../core/errors.ts';
import { BUILT_IN_POLICIES } from './built-in.ts';
import { requireEncryption } from './encryption.ts';
import { judge } from './judge.ts';
import { type Policy, PROOFS, policySchema, TOLERABLE_CODES } from './policy.ts';
import { readPolicy } from './read.ts';
import { settle } from './settle.ts';

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
/** A subject that proves something, so that the rest is judged by itself. */
const PROVEN = [
  signed('rim.chain', { subject: 'RIM-0', voucher: 'vendor-signed' }),
  signed('rim.signature', { subject: 'RIM-0', voucher: 'vendor-signed' }),
];
const HEAD = { version: 2, name: 'test', minimum: [{ rim: 1 }] };
const policyOf = (fields: object) => policySchema.parse({ ...HEAD, ...fields });
const judged = (claims: readonly Claim[], policy: Policy) => judge([...claims, ...PROVEN], policy);
const rules = (claims: readonly Claim[], fields: object) =>
  judged(claims, policyOf(fields)).reasons.map(({ rule }) => rule);

describe('a verdict', () => {
  test('refuses an empty list, and one without anything verified', () => {
    expect(judge([], policyOf({})).result).toBe('refused');
    const unsigned = [open('server.model', 'operator-asserted')];
    expect(judge(unsigned, policyOf({})).reasons).toEqual([
      {
        rule: 'minimum[0].rim',
        subject: 'RIM',
        kind: 'any',
        text: 'no rim is proven, the policy wants 1',
      },
    ]);
  });

  test('refuses for any refused claim, with its code', () => {
    const verdict = judged([signed('a.b'), refused('a.c', 'nonce-mismatch')], policyOf({}));
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
    const minimum = [{ switch: 4, rim: 2 }];
    const wanted = policyOf({ require, minimum, atMost: { gpu: 1 } });
    expect(judged(claims, wanted).reasons).toEqual([
      {
        rule: 'tolerate',
        subject: 'GPU-1',
        kind: 'gpu.mode',
        text: 'the modes differ',
        code: 'mode-refused',
      },
      {
        rule: 'minimum[0].switch',
        subject: 'SWITCH',
        kind: 'any',
        text: 'no switch is proven, the policy wants 4',
      },
      {
        rule: 'minimum[0].rim',
        subject: 'RIM',
        kind: 'any',
        text: 'proven of family rim: 1, the policy wants 2',
      },
      {
        rule: 'atMost.gpu',
        subject: 'GPU',
        kind: 'any',
        text: 'there is evidence of 2, the policy wants at most 1',
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
    expect(judged([signed('a.b'), late], policyOf({ tolerate })).tolerated).toMatchObject([
      { rule: 'tolerate[1]', because: 'as agreed' },
    ]);
    const claims = [signed('a.b'), open('gpu.fabric', 'guest-observed')];
    const believe = ['operator-asserted', 'guest-observed'];
    const require = { gpu: { 'gpu.fabric': { believe } } };
    expect(judged(claims, policyOf({ require })).believed).toMatchObject([
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
    expect(judged(claims, policyOf(tolerate()))).toMatchObject({
      result: 'verified',
      tolerated: [{ rule: 'tolerate[0]', because: 'as agreed' }],
    });
    expect(judged(claims, policyOf(tolerate(['OutOfDate']))).result).toBe('verified');
    expect(judged(claims, policyOf(tolerate(['Revoked']))).result).toBe('refused');
    const other = [signed('a.b'), refused('cpu.tcb', 'collateral-expired')];
    expect(judged(other, policyOf(tolerate())).result).toBe('refused');
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
    expect(judged(claims, policyOf(believing('guest-observed')))).toMatchObject({
      result: 'verified',
      believed: [{ claim: { status: 'unverified' } }],
    });
    expect(judged(claims, policyOf(believing('operator-asserted'))).result).toBe('refused');
    const plain = { require: { gpu: { 'gpu.fabric': {} } } };
    expect(judged(claims, policyOf(plain)).result).toBe('refused');
  });

  test('counts what is proven, of one of several sets', () => {
    const proven = (subject: string) =>
      ['chain', 'signature', 'identity'].map((check) => signed(`gpu.${check}`, { subject }));
    const sets = (minimum: object[], ...claims: Claim[]) =>
      judge(claims, policyOf({ minimum })).reasons.map(({ rule }) => rule);
    const two = ['GPU-0', 'GPU-1'].flatMap(proven);
    expect(sets([{ gpu: 2 }], ...two)).toEqual([]);
    expect(sets([{ gpu: 3 }], ...two)).toEqual(['minimum[0].gpu']);
    expect(sets([{ gpu: 2, cpu: 1 }], ...two)).toEqual(['minimum[0].cpu']);
    expect(sets([{ cpu: 1 }, { gpu: 1 }], ...two)).toEqual([]);
    expect(sets([{ cpu: 1 }, { switch: 1 }], ...two)).toEqual(['minimum']);
    // Every proof is needed; one that is refused, or open, is none.
    for (const left of [0, 1, 2]) {
      const less = proven('GPU-0').filter((_, i) => i !== left);
      expect(sets([{ gpu: 1 }], ...less), `without ${left}`).toEqual(['minimum[0].gpu']);
      const weak = proven('GPU-0').map((claim, i) =>
        i === left ? open(claim.kind, 'device-signed') : claim,
      );
      expect(sets([{ gpu: 1 }], ...weak), `open ${left}`).toEqual(['minimum[0].gpu']);
    }
  });

  test('takes for proven what is signed, whole, and not open to debugging', () => {
    expect(PROOFS).toEqual({
      gpu: ['gpu.chain', 'gpu.signature', 'gpu.identity'],
      switch: ['switch.chain', 'switch.signature', 'switch.identity'],
      cpu: ['cpu.chain', 'cpu.quote', 'cpu.debug'],
      app: ['app.identity', 'app.compose'],
      rim: ['rim.chain', 'rim.signature'],
      token: ['token.signature', 'token.parts', 'token.result'],
      server: ['server.binding'],
      receipt: ['receipt.signature'],
      receipts: ['receipt.chain'],
    });
  });

  test('tells of several sets what is there, and what there should be', () => {
    const { reasons } = judge(PROVEN, policyOf({ minimum: [{ cpu: 1, gpu: 8 }, { switch: 1 }] }));
    expect(reasons).toEqual([
      {
        rule: 'minimum',
        subject: 'ALL',
        kind: 'any',
        text: '1 rim is proven, the policy wants at least 1 cpu and 8 gpu, or 1 switch',
      },
    ]);
  });

  test('counts GPUs as the server says, and at least one where it does not say', () => {
    const said = (value: number | string | null) =>
      open('server.gpus', 'guest-observed', { subject: 'SERVER', value });
    const bound = signed('server.binding', { subject: 'SERVER' });
    const minimum = [{ server: 1, gpu: 'as-served' }];
    const wanting = (...claims: Claim[]) => rules([bound, ...claims], { minimum });
    const gpus = (count: number) =>
      Array.from({ length: count }, (_, i) =>
        ['chain', 'signature', 'identity'].map((check) =>
          signed(`gpu.${check}`, { subject: `GPU-${i}` }),
        ),
      ).flat();
    const missing = ['minimum[0].gpu'];
    expect(wanting(said(0))).toEqual([]);
    expect(wanting()).toEqual(missing);
    expect(wanting(said(null))).toEqual(missing);
    expect(wanting(said(null), ...gpus(1))).toEqual([]);
    expect(wanting(said(8), ...gpus(7))).toEqual(missing);
    expect(wanting(said(8), ...gpus(8))).toEqual([]);
    expect(wanting(said(0), said(2), ...gpus(1))).toEqual(missing);
  });

  test('limits how many of a family there may be', () => {
    const claims = [signed('a.b'), signed('a.b', { subject: 'GPU-1' })];
    expect(rules(claims, { atMost: { gpu: 2, switch: 0 } })).toEqual([]);
    expect(rules(claims, { atMost: { gpu: 1 } })).toEqual(['atMost.gpu']);
  });

  test('asks what is of one TEE of guests under that one, and of those that name none', () => {
    const require = { cpu: { 'cpu.vmpl': { tee: 'sev-snp', oneOf: [0] } } };
    const under = (value: string) => signed('cpu.tee', { subject: 'CPU', value });
    const level = (value: number) => signed('cpu.vmpl', { subject: 'CPU', value });
    const unmet = ['require.cpu["cpu.vmpl"]'];
    expect(rules([under('tdx')], { require })).toEqual([]);
    expect(rules([under('sev-snp')], { require })).toEqual(unmet);
    expect(rules([signed('cpu.chain', { subject: 'CPU' })], { require })).toEqual(unmet);
    expect(rules([under('sev-snp'), level(0)], { require })).toEqual([]);
    expect(rules([under('sev-snp'), level(1)], { require })).toEqual(unmet);
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
    [{ atLeast: { snp: 8, tee: 0 } }, ['snp=8', 'tee=1', 'fmc=0'], true],
    [{ atLeast: { snp: 8 } }, ['snp=7'], false],
    [{ atLeast: { snp: 8 } }, ['tee=9'], false],
    [{ atLeast: { snp: 8 } }, ['snp=8', 'snp=9'], false],
    [{ atLeast: { snp: 8 } }, ['snp=9x'], false],
    [{ atLeast: { snp: 8 } }, ['snp='], false],
    [{ atLeast: { snp: 8 } }, 'snp=8', false],
    [{ atMost: 3 }, 3, true],
    [{ atMost: 3 }, 4, false],
    [{ atMost: 3 }, '3', false],
    [{ atMost: 3 }, undefined, false],
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
    expect(judged(claims, policyOf(wanting('single'))).result).toBe('verified');
    expect(judged(claims, policyOf(wanting('multi'))).result).toBe('refused');
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
        const before = judged([signed('a.b'), ...all], policy);
        const extra = refused('gpu.new', more as Claim['code']);
        const after = judged([signed('a.b'), ...all, extra], policy);
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

describe('what a policy expects', () => {
  const system = ['mrtd=aa', 'rtmr0=bb'];
  const measured = open('cpu.system', 'cpu-signed', { subject: 'CPU', value: system });
  const app = signed('app.compose', {
    subject: 'APP',
    voucher: 'cpu-signed',
    status: 'depends-on',
    dependsOn: ['cpu.system'],
    why: 'any system can measure any app',
  });
  const expecting = (requirement: object, ...claims: Claim[]) =>
    settle(claims, policyOf({ require: { cpu: { 'cpu.system': requirement } } })).map(
      ({ status }) => status,
    );

  test('verifies what is signed and was compared with nothing, and what depends on it', () => {
    expect(expecting({ includes: system }, app, measured)).toEqual(['verified', 'verified']);
    const claims = settle(
      [measured],
      policyOf({ require: { cpu: { 'cpu.system': { includes: system } } } }),
    );
    expect(claims[0]).not.toHaveProperty('why');
  });

  test('leaves open what depends on several claims until all of them hold', () => {
    const both = { ...app, dependsOn: ['cpu.system', 'cpu.launch'] };
    const launch = signed('cpu.launch', { subject: 'CPU' });
    expect(expecting({ includes: system }, both, measured)[0]).toBe('depends-on');
    expect(expecting({ includes: system }, both, measured, launch)[0]).toBe('verified');
  });

  test('leaves open what it does not expect, or only a part of', () => {
    const stays = ['depends-on', 'unverified'];
    expect(settle([app, measured], policyOf({})).map(({ status }) => status)).toEqual(stays);
    for (const requirement of [
      {},
      { includes: ['mrtd=aa'] },
      { includes: ['mrtd=ab', 'rtmr0=bb'] },
      { includes: [] },
      { believe: ['cpu-signed'] },
    ]) {
      expect(expecting(requirement, app, measured), JSON.stringify(requirement)).toEqual(stays);
    }
  });

  test('never verifies what nobody signed, or what was refused', () => {
    const said = open('cpu.system', 'operator-asserted', { subject: 'CPU', value: system });
    const wrong = refused('cpu.system', 'measurement-mismatch', { subject: 'CPU', value: system });
    expect(expecting({ includes: system }, app, said)).toEqual(['depends-on', 'unverified']);
    expect(expecting({ includes: system }, app, wrong)).toEqual(['depends-on', 'refused']);
  });

  test('may come from measurements that were recomputed: a claim that is verified serves', () => {
    const recomputed = signed('cpu.system', { subject: 'CPU', value: system });
    expect(settle([app, recomputed], policyOf({})).map(({ status }) => status)).toEqual([
      'verified',
      'verified',
    ]);
  });

  test('is a value, a list of which each entry is named, or the least', () => {
    const settled = (value: Claim['value'], requirement: object) => {
      const claim = open('cpu.x', 'cpu-signed', { subject: 'CPU', value: value! });
      const policy = policyOf({ require: { cpu: { 'cpu.x': requirement } } });
      return settle([claim], policy)[0]!.status;
    };
    expect(settled('a', { oneOf: ['a'] })).toBe('verified');
    expect(settled('a', { oneOf: ['b'] })).toBe('unverified');
    expect(settled(3, { atLeast: 3 })).toBe('verified');
    expect(settled(3, { atMost: 3 })).toBe('verified');
    expect(settled(['snp=8', 'tee=0'], { atLeast: { snp: 8, tee: 0 } })).toBe('verified');
    expect(settled(['snp=8', 'tee=0'], { atLeast: { snp: 8 } })).toBe('unverified');
    expect(settled(['snp=8', 'x'], { atLeast: { snp: 8 }, includes: ['x'] })).toBe('verified');
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
    const good = { ...HEAD, require: { gpu: { 'gpu.chain': {} } } };
    expect(readPolicy(JSON.stringify(good), 'p').require.gpu).toEqual({ 'gpu.chain': {} });
    expect(failure('{').code).toBe('malformed');
    expect(failure(null).code).toBe('malformed');
    expect(failure({ ...HEAD, version: 3 }).code).toBe('unsupported-version');
    expect(failure({ ...good, extra: 1 }).message).toContain('extra');
    expect(failure(`${' '.repeat(1_000_001)}{}`).code).toBe('too-large');
  });

  test('of the documentation is one', () => {
    const page = new URL('../../../../docs/verify.md', import.meta.url);
    const [, example] = /```json\n([^`]*)```/.exec(readFileSync(page, 'utf8'))!;
    expect(readPolicy(example!, 'the example').name).toBe('ours');
  });

  test('names a minimum that something can prove', () => {
    const { minimum: _, ...without } = HEAD;
    for (const minimum of [
      undefined,
      [],
      [{}],
      [{ gpu: 0 }],
      [{ machine: 1 }],
      [{ server: 1, cpu: 'as-served' }],
      // Who is not proven would say how much has to be: nothing.
      [{ gpu: 'as-served' }],
    ]) {
      expect(failure({ ...without, minimum }).message).toMatch(/minimum/);
    }
    const old = failure({ ...without, version: 1 });
    expect(old.code).toBe('unsupported-version');
    expect(old.message).toMatch(/version 1, this program reads version 2: .*pin again/);
  });

  test('names claims that exist', () => {
    const misspelt = { ...HEAD, require: { gpu: { 'gpu.nonse': {} } } };
    expect(failure(misspelt).message).toMatch(/no claim "gpu.nonse".*gpu\.chain.*gpu\.nonce/);
    const tolerate = [{ kind: 'gpu.x', codes: ['tcb-refused'], because: 'x' }];
    expect(failure({ ...HEAD, tolerate }).code).toBe('malformed');
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
      expect(failure({ ...HEAD, tolerate }).message).toContain('tolerate.0.codes.0');
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
