import { describe, expect, test } from 'vitest';
import { ChainCache } from '../core/chain.ts';
import { BUILT_IN_POLICIES } from '../policy/built-in.ts';
import { pinSoftware } from '../policy/pin.ts';
import type { Policy } from '../policy/policy.ts';
import { readPolicy } from '../policy/read.ts';
import { makeService, type ServiceChanges, type TestService } from '../testing/service.ts';
import type { VerifyContext } from './appraise.ts';
import { verifyEvidence } from './verify.ts';

const TLS = 'cd'.repeat(32);

const EVIDENCE = BUILT_IN_POLICIES.get('evidence')!;
const SERVICE = BUILT_IN_POLICIES.get('service')!;
interface Question {
  readonly policy?: Policy;
  readonly names?: (name: string) => boolean;
  readonly context?: Partial<VerifyContext>;
}

async function verify(service: TestService, { policy, names, context }: Question = {}) {
  const files = [...service.files]
    .filter(([name]) => names?.(name) ?? true)
    .map(([name, bytes]) => ({ name, bytes, isNamed: true }));
  return verifyEvidence({
    input: 'test',
    files,
    policy: policy ?? (await pinned),
    context: {
      nowMs: service.nowMs,
      anchors: service.anchors,
      chains: new ChainCache(),
      nonce: service.nonce,
      references: null,
      revocation: { status: async () => 'good' },
      tokenKeys: null,
      collateral: null,
      connectionSpkiSha256: TLS,
      ...context,
    },
  });
}

const codes = ({ claims }: Awaited<ReturnType<typeof verify>>) =>
  claims.flatMap(({ kind, code }) => (code === undefined ? [] : [`${kind} ${code}`]));

const good = makeService();
/** All services of our own run the same software. */
const pinned: Promise<Policy> = good
  .then((service) => verify(service, { policy: SERVICE }))
  .then(({ claims }) => pinSoftware(SERVICE, claims)!);

describe('a good service', () => {
  test('is verified, all but what only its software says', async () => {
    const result = await verify(await good);
    expect(result.verdict).toMatchObject({ result: 'verified', reasons: [], tolerated: [] });
    const unverified = result.claims.filter(({ status }) => status !== 'verified');
    expect([...new Set(unverified.map(({ kind }) => kind))]).toEqual([
      'server.software',
      'server.model',
      'server.configuration',
      'gpu.nvlink-encryption',
      'switch.firmware',
    ]);
    const chain = result.claims.find(({ kind }) => kind === 'receipt.chain');
    expect(chain!.statement).toContain('up to number 2, when the report was made');
    const families = new Set(result.claims.map(({ kind }) => kind.split('.')[0]));
    expect([...families].sort()).toEqual(
      ['cpu', 'devices', 'gpu', 'hgx', 'receipt', 'rim', 'server', 'switch'].sort(),
    );
  });

  test('is refused for its software alone, until that is expected', async () => {
    const { verdict, claims } = await verify(await good, { policy: SERVICE });
    expect(verdict.reasons.map(({ kind }) => kind)).toEqual(['cpu.launch', 'cpu.measurements']);
    expect((await pinned).require.cpu!['cpu.measurements']!.includes).toHaveLength(9);
    expect(readPolicy(JSON.stringify(await pinned), 'the policy')).toEqual(await pinned);
    const unproven = claims.map((claim) => ({ ...claim, status: 'unverified' as const }));
    expect(pinSoftware(SERVICE, unproven)).toBeNull();
  });

  test.each<[string, Question, string]>([
    ['under another nonce', { context: { nonce: new Uint8Array(32) } }, 'nonce-mismatch'],
    ['behind a relay', { context: { connectionSpkiSha256: 'ee'.repeat(32) } }, 'binding-mismatch'],
    ['a month later', { context: { nowMs: Date.UTC(2026, 2, 1) } }, 'collateral-expired'],
    [
      'with a revoked device',
      { context: { revocation: { status: async () => 'revoked' } } },
      'certificate-revoked',
    ],
    ['without references', { names: (name) => !name.endsWith('.xml') }, ''],
    ['without collateral', { names: (name) => name !== 'collateral.json' }, ''],
    ['without asking for revocation', { context: { revocation: null } }, ''],
    ['without a nonce', { context: { nonce: null } }, ''],
    ['over plain HTTP', { context: { connectionSpkiSha256: null } }, 'binding-mismatch'],
  ])('is refused %s', async (_, question, code) => {
    const result = await verify(await good, question);
    expect(result.verdict.result).toBe('refused');
    if (code === '') expect(codes(result)).toEqual([]);
    else expect(codes(result).map((one) => one.split(' ')[1])).toContain(code);
  });

  test('of which a part is left out is judged by its parts', async () => {
    const noReport = {
      policy: EVIDENCE,
      names: (name: string) => name.endsWith('.xml'),
    };
    const references = await verify(await good, noReport);
    expect(references.verdict.result).toBe('verified');
    expect(references.claims.map(({ subject }) => subject)).toContain('RIM-2');
    const receipts = {
      policy: EVIDENCE,
      names: (name: string) => name.startsWith('rec'),
    };
    expect((await verify(await good, receipts)).verdict.result).toBe('refused');
    const names = (name: string) => ['links.json', 'collateral.json'].includes(name);
    const { notes, verdict } = await verify(await good, { policy: EVIDENCE, names });
    const unused = (name: string) => `${name} was not used: what it is about was not given`;
    expect(notes).toEqual(['collateral.json', 'links.json'].map(unused));
    expect(verdict.result).toBe('refused');
  });
});

describe('another service is refused', () => {
  test.each<[string, ServiceChanges, string]>([
    ['in debug mode', { quote: { attributes: '0100001000000000' } }, 'cpu.debug debug-enabled'],
    [
      'with a quote for something else',
      { quote: { reportData: new Uint8Array(64) } },
      'server.binding binding-mismatch',
    ],
    [
      'that shows other GPU evidence than it quoted',
      { statement: { gpuEvidenceSha256: '00'.repeat(32) } },
      'server.gpuEvidence binding-mismatch',
    ],
    [
      'with GPU evidence of another time',
      { gpuNonce: '11'.repeat(32) },
      'server.gpuEvidence nonce-mismatch',
    ],
    ['that hides its TEE', { statement: { tee: 'none' } }, 'server.tee binding-mismatch'],
  ])('%s', async (_, changes, code) => {
    const result = await verify(await makeService(changes));
    expect(result.verdict.result).toBe('refused');
    expect(codes(result)).toContain(code);
  });

  test('that shows another history of its receipts than it had quoted', async () => {
    const chainOf = async (hash: string, sequence: number) => {
      const service = await makeService({ statement: { receiptChain: { sequence, hash } } });
      const { claims } = await verify(service);
      return claims.find(({ kind }) => kind === 'receipt.chain');
    };
    expect(await chainOf('11'.repeat(32), 2)).toMatchObject({ code: 'receipt-broken' });
    const later = await chainOf('11'.repeat(32), 3);
    expect(later).toMatchObject({ status: 'verified' });
    expect(later!.statement).not.toContain('up to number');
  });

  test('that runs other software', async () => {
    const rtmrs = [0, 1, 2, 3].map((i) => new Uint8Array(48).fill(i));
    for (const quote of [{ mrTd: '99'.repeat(48) }, { rtmrs }]) {
      const { verdict } = await verify(await makeService({ quote }));
      expect(verdict.result).toBe('refused');
      expect(verdict.reasons.map(({ kind }) => kind)).toContain('cpu.measurements');
    }
  });

  test('signed by other vendors, wherever the roots are not theirs', async () => {
    const other = await makeService();
    const { anchors } = await good;
    for (const root of ['nvidiaDevice', 'nvidiaRim', 'intelSgx'] as const) {
      const mixed = { ...other.anchors, [root]: anchors[root] };
      const result = await verify(other, { context: { anchors: mixed } });
      expect(result.verdict.result).toBe('refused');
      expect(codes(result).join()).toContain('root-not-pinned');
    }
  });
});

describe('what cannot be read is an error', () => {
  const reading = async (files: Record<string, string | Uint8Array>) => {
    const { nowMs, anchors } = await good;
    const encode = (text: string | Uint8Array) =>
      typeof text === 'string' ? new TextEncoder().encode(text) : new Uint8Array(text);
    return verifyEvidence({
      input: 'test',
      files: Object.entries(files).map(([name, text]) => {
        return { name, bytes: encode(text), isNamed: !name.startsWith('in-folder') };
      }),
      policy: EVIDENCE,
      context: {
        nowMs,
        anchors,
        chains: new ChainCache(),
        nonce: null,
        references: null,
        revocation: null,
        tokenKeys: null,
        collateral: null,
      },
    });
  };

  test('and names the file', async () => {
    const { files } = await good;
    const collateral = files.get('collateral.json')!;
    const report = files.get('report.json')!;
    const spdm = `11e0${'00'.repeat(100)}`;
    const pem = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
    const failing = async (given: Record<string, string | Uint8Array>, message: RegExp) =>
      expect(reading(given)).rejects.toThrow(message);
    await failing({ 'a.txt': 'prose' }, /a\.txt is no evidence/);
    await failing({ 'in-folder': 'prose' }, /no evidence among/);
    await failing({ 'a.json': '{"quote":"zz","event_log":"[]"}' }, /a\.json: .*hexadecimal/);
    await failing({ 'a.bin': spdm }, /a\.bin comes without its chain/);
    await failing({ 'a.bin': spdm, 'b.pem': pem }, /certificate 0 of a\.bin/);
    await failing({ a: report, b: report }, /a and b: one server-report/);
    await failing({ a: `0400020081000000${'00'.repeat(600)}` }, /^a: /);
    await failing({ a: report, b: `{"tcb_info":"","qe_identity":"","pck_crl":""}` }, /^b: /);
    await failing({ a: collateral.subarray(0, 900) }, /^a is not JSON/);
  });

  test('but files beside evidence in a folder are only noted', async () => {
    const [name, rim] = [...(await good).files].find(([one]) => one.endsWith('.xml'))!;
    const result = await reading({ [name]: rim, 'in-folder.md': 'prose' });
    expect(result.notes).toEqual(['in-folder.md is no evidence of a kind that is known here']);
    expect(result.verdict.result).toBe('verified');
  });
});
