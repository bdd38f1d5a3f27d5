import { beforeAll, describe, expect, test } from 'vitest';
import type { Claim } from '../claims/claim.ts';
import { type Bytes, toBase64, toHex, utf8 } from '../core/bytes.ts';
import { parseCertificate } from '../core/certificate.ts';
import { ChainCache } from '../core/chain.ts';
import { AttestError } from '../core/errors.ts';
import type { TrustAnchors } from '../core/trust.ts';
import { readRevocationList } from '../cpu/revocation-list.ts';
import { readTokenKeys } from '../nras/keys.ts';
import { BUILT_IN_POLICIES } from '../policy/built-in.ts';
import { pinPolicy } from '../policy/pin.ts';
import type { Policy } from '../policy/policy.ts';
import { writeOcspRequest } from '../revocation/ocsp.ts';
import type { CollateralSource } from '../services/collateral.ts';
import { toPem } from '../testing/certificates.ts';
import {
  type DeviceAuthority,
  makeDevice,
  makeDeviceAuthority,
  type TestDevice,
} from '../testing/device-authority.ts';
import { makeEvidenceItem, makeReport } from '../testing/device-reports.ts';
import { makeRegisters, makeRuntimeEvent } from '../testing/event-log.ts';
import { answerOcsp } from '../testing/ocsp-responder.ts';
import { makeIntelAuthority, makeTdxCollateral, QUOTE_NOW_MS } from '../testing/quote-authority.ts';
import { makeTdxQuote } from '../testing/quote-report.ts';
import {
  makeAmdAuthority,
  makeAmdRevocationList,
  makeCertificateTable,
  makeSnpReport,
} from '../testing/snp-authority.ts';
import { makeTokenService } from '../testing/token-service.ts';
import type { VerifyContext } from './appraise.ts';
import { verifyEvidence } from './verify.ts';

const EVIDENCE = BUILT_IN_POLICIES.get('evidence')!;
const SERVICE = BUILT_IN_POLICIES.get('service')!;
const TOKEN = BUILT_IN_POLICIES.get('token')!;

const NONCE = new Uint8Array(32).fill(0xab);

let anchors: TrustAnchors;
let files: Record<string, Bytes>;

beforeAll(async () => {
  const [devices, intel, amd, tokens] = await Promise.all([
    makeDeviceAuthority(),
    makeIntelAuthority(),
    makeAmdAuthority(),
    makeTokenService(),
  ]);
  anchors = {
    nvidiaDevice: devices.rootSha256,
    nvidiaRim: new Set(),
    intelSgx: new Set([intel.rootSha256]),
    amdArk: new Set([amd.arkSha256]),
  };
  const gpu = await makeDevice(devices, { arch: 'hopper', pdi: 'b000000000000001' });
  const report = await makeReport(gpu, { nonce: NONCE });
  const item = makeEvidenceItem(gpu, report);
  const events: [string, Bytes][] = [
    ['app-id', new Uint8Array(20)],
    ['compose-hash', new Uint8Array(32)],
    ['instance-id', new Uint8Array(20)],
    ['key-provider', utf8('{"name":"kms","id":"00"}')],
    ['system-ready', new Uint8Array(0)],
  ];
  const log = await Promise.all(events.map(([name, payload]) => makeRuntimeEvent(name, payload)));
  const rtmrs = await makeRegisters(log);
  const quote = await makeTdxQuote(intel, { rtmrs });
  const token = { nonce: toHex(NONCE), devices: { 'GPU-0': {} }, issuedAt: QUOTE_NOW_MS / 1000 };
  const json = (value: unknown) => utf8(JSON.stringify(value));
  files = {
    'list.json': json([item]),
    'request.json': json({ nonce: item.nonce, arch: item.arch, evidence_list: [item] }),
    'gpu-report.txt': utf8(`${toHex(report)}\n`),
    'gpu-chain.pem': utf8(toPem(gpu.chain)),
    'quote.bin': quote,
    'quote.b64': utf8(toBase64(quote)),
    'collateral.json': utf8(await makeTdxCollateral(intel)),
    'dstack.json': json({ quote: toHex(quote), event_log: JSON.stringify(log) }),
    'snp.bin': await makeSnpReport(amd),
    'snp-vmpl.bin': await makeSnpReport(amd, { vmpl: 1 }),
    'snp-cxl.bin': await makeSnpReport(amd, { policy: 0x23_0000n }),
    'snp.pem': utf8(toPem([amd.key, amd.ask, amd.ark])),
    'vcek.der': amd.key.der,
    'cert_chain.pem': utf8(toPem([amd.ask, amd.ark])),
    'ask.der': amd.ask.der,
    'ark.der': amd.ark.der,
    'certs.bin': makeCertificateTable(amd),
    'amd.crl': await makeAmdRevocationList(amd, false),
    'revoked.crl': await makeAmdRevocationList(amd, true),
    ...(await ocspAnswers(devices, gpu)),
    'token.json': await tokens.issue(token),
    'jwks.json': tokens.keys,
  };
});

/** What the issuers of a GPU's certificates say of them, as files. */
async function ocspAnswers(devices: DeviceAuthority, gpu: TestDevice) {
  const certificates = await Promise.all(
    gpu.chain.map(({ der }) => parseCertificate(der, 'a certificate')),
  );
  const answers: Record<string, Bytes> = {};
  for (const i of certificates.keys()) {
    if (i === 0 || i === certificates.length - 1) continue;
    const nonce = new Uint8Array(32).fill(i);
    const [certificate, issuer] = [certificates[i]!, certificates[i + 1]!];
    const request = await writeOcspRequest(certificate, issuer, nonce, 'SHA-384');
    const by = gpu.chain[i + 1]!;
    answers[`ocsp-${i}.der`] = await answerOcsp(by, request);
    answers[`revoked-${i}.der`] = await answerOcsp(by, request, { status: 'revoked' });
  }
  expect(devices.rootSha256.has(certificates.at(-1)!.sha256)).toBe(true);
  return answers;
}

function verify(
  names: readonly string[],
  policy: Policy = EVIDENCE,
  context: Partial<VerifyContext> = {},
) {
  return verifyEvidence({
    input: 'test',
    files: names.map((name) => ({ name, bytes: files[name]!, isNamed: true })),
    policy,
    context: {
      nowMs: QUOTE_NOW_MS,
      anchors,
      chains: new ChainCache(),
      nonce: null,
      references: null,
      revocation: null,
      collateral: null,
      tokenKeys: null,
      ...context,
    },
  });
}

describe('each kind of evidence by itself', () => {
  test.each<[string[], string]>([
    [['list.json'], 'gpu.signature'],
    [['request.json'], 'gpu.signature'],
    [['gpu-report.txt', 'gpu-chain.pem'], 'gpu.signature'],
    [['quote.bin', 'collateral.json'], 'cpu.quote'],
    [['quote.b64', 'collateral.json'], 'cpu.tcb'],
    [['dstack.json', 'collateral.json'], 'cpu.eventLog'],
    [['snp.bin', 'snp.pem', 'amd.crl'], 'cpu.revocation'],
  ])('%j', async (names, kind) => {
    const { verdict, claims } = await verify(names);
    expect(verdict.reasons).toEqual([]);
    expect(claims.filter((claim) => claim.kind === kind)).toMatchObject([{ status: 'verified' }]);
  });

  test('takes OCSP answers as files, and says of which time they are', async () => {
    const outcome = async (...names: string[]) => {
      const { claims, notes } = await verify(['list.json', ...names]);
      const { status, code } = claims.find(({ kind }) => kind === 'gpu.revocation')!;
      return [code ?? status, notes] as const;
    };
    const said = (name: string) =>
      `${name} says who was revoked as of 2026-01-01T00:00:00.000Z, and answers no nonce of ours`;
    const all = ['ocsp-1.der', 'ocsp-2.der', 'ocsp-3.der'];
    expect(await outcome(...all)).toEqual(['verified', all.map(said)]);
    expect(await outcome()).toEqual(['unverified', []]);
    // Where one is missing, nobody knows; where one says so, it is revoked.
    expect((await outcome(...all.slice(1)))[0]).toBe('revocation-unknown');
    expect((await outcome(...all, 'revoked-2.der'))[0]).toBe('certificate-revoked');
    const { notes } = await verify(['quote.bin', 'collateral.json', 'ocsp-1.der']);
    expect(notes).toContain('ocsp-1.der was not used: what it is about was not given');
  });

  test('pairs reports and chains by their names', async () => {
    const names = ['gpu-report.txt', 'snp.bin', 'snp.pem', 'gpu-chain.pem', 'amd.crl'];
    expect((await verify(names)).verdict).toMatchObject({ result: 'verified' });
  });

  test('holds an SEV-SNP host to the least firmware that the policy names', async () => {
    const names = ['snp.bin', 'snp.pem'];
    const tcb = async (microcode: number) => {
      const snpMinimumTcb = { fmc: 0, bootloader: 3, tee: 0, snp: 8, microcode };
      const { claims } = await verify(names, { ...EVIDENCE, snpMinimumTcb });
      return claims.find(({ kind }) => kind === 'cpu.tcb')!;
    };
    expect(await tcb(0x73)).toMatchObject({ status: 'verified' });
    expect(await tcb(0x74)).toMatchObject({ status: 'refused', code: 'tcb-refused' });
  });

  test('holds each kind of guest to its own bounds of a service', async () => {
    const { 'cpu.launch': _, 'cpu.measurements': _all, ...cpu } = SERVICE.require.cpu!;
    const policy = { ...EVIDENCE, require: { cpu } };
    const unmet = async (...names: string[]) => {
      const reportData = new Uint8Array(64).fill(0x64);
      const { verdict } = await verify(names, policy, { reportData });
      return verdict.reasons.map(({ kind }) => kind);
    };
    const open = ['cpu.tcb', 'cpu.committedTcb', 'cpu.launchTcb'];
    const rest = ['snp.pem', 'amd.crl'];
    expect(await unmet('snp.bin', ...rest)).toEqual(open);
    expect(await unmet('snp-vmpl.bin', ...rest)).toEqual([...open, 'cpu.vmpl']);
    expect(await unmet('snp-cxl.bin', ...rest)).toEqual([...open, 'cpu.guestPolicy']);
    expect(await unmet('quote.bin', 'collateral.json')).toEqual([]);
  });

  test('compares a nonce with no report of a CPU by itself, and says so', async () => {
    for (const names of [
      ['snp.bin', 'snp.pem'],
      ['quote.bin', 'collateral.json'],
      ['dstack.json', 'collateral.json'],
    ]) {
      const { verdict } = await verify(names, EVIDENCE, { nonce: NONCE });
      expect(verdict.reasons).toMatchObject([{ kind: 'request.nonce', code: 'not-compared' }]);
      const reportData = new Uint8Array(64).fill(0x64);
      const both = await verify(names, EVIDENCE, { nonce: NONCE, reportData });
      expect(both.verdict.reasons).toMatchObject([{ text: expect.stringMatching(/alone/) }]);
      const known = await verify(names, EVIDENCE, { nonce: null, reportData });
      expect(known.verdict).toMatchObject({ result: 'verified', reasons: [] });
    }
  });

  test('verifies an app once its system is pinned, and misses it from then on', async () => {
    const names = ['dstack.json', 'collateral.json'];
    const first = await verify(names);
    const statusOf = (claims: readonly Claim[], kind: string) =>
      claims.find((one) => one.kind === kind)?.status;
    expect(statusOf(first.claims, 'app.identity')).toBe('depends-on');
    const pin = pinPolicy(EVIDENCE, first.claims)!;
    const { claims, verdict } = await verify(names, pin);
    expect(verdict).toMatchObject({ result: 'verified', reasons: [] });
    expect(statusOf(claims, 'app.identity')).toBe('verified');
    expect(statusOf(claims, 'cpu.system')).toBe('verified');
    const without = await verify(['quote.bin', 'collateral.json'], pin);
    expect(without.verdict.reasons.map(({ rule }) => rule)).toEqual(['minimum[0].app']);
  });

  test('asks for the keys of a token that came without them', async () => {
    const token = async (tokenKeys: VerifyContext['tokenKeys']) => {
      const { claims } = await verify(['token.json'], EVIDENCE, { tokenKeys });
      return claims.map(({ kind, status }) => `${kind} ${status}`);
    };
    const keys = readTokenKeys(files['jwks.json']!);
    expect(await token(async () => keys)).toContain('token.signature verified');
    expect(await token(null)).toContain('token.signature unverified');
    const absent = () => Promise.reject(new AttestError('not-available', 'no answer'));
    expect(await token(absent)).toContain('token.signature unverified');
    // Nobody said how many devices there are: that stays open, and is all that does.
    const asked = { tokenKeys: async () => keys, nonce: NONCE };
    const { claims, verdict } = await verify(['token.json'], TOKEN, asked);
    expect(verdict).toMatchObject({ result: 'verified', reasons: [] });
    const open = claims.filter(({ status }) => status !== 'verified');
    expect(open.map(({ kind }) => kind)).toEqual(['token.devices']);
    const counting = (count: number) => {
      const token = { ...TOKEN.require.token, 'token.devices': { oneOf: [count] } };
      return verify(['token.json'], { ...TOKEN, require: { token } }, asked);
    };
    expect((await counting(1)).verdict.result).toBe('verified');
    expect((await counting(8)).verdict.result).toBe('refused');
  });

  test('never takes the keys that a token brings along for those of the service', async () => {
    const names = ['token.json', 'jwks.json'];
    for (const policy of [EVIDENCE, TOKEN]) {
      const { claims, verdict } = await verify(names, policy, { nonce: NONCE });
      expect(verdict.result).toBe('refused');
      expect(claims.filter(({ status }) => status === 'verified')).toEqual([]);
      const signature = claims.find(({ kind }) => kind === 'token.signature');
      expect(signature).toMatchObject({ status: 'unverified', voucher: 'operator-asserted' });
      expect(signature!.why).toMatch(/^The keys came with the token/);
    }
    const keys = readTokenKeys((await makeTokenService()).keys);
    const { claims } = await verify(names, TOKEN, { tokenKeys: async () => keys });
    const signature = claims.find(({ kind }) => kind === 'token.signature');
    expect(signature).toMatchObject({ status: 'refused', code: 'signature-invalid' });
  });

  test('asks for the list of revoked signers that was not given, and for no other', async () => {
    const absent = new AttestError('not-available', 'no answer');
    const list = async (name: string) => readRevocationList(files[name]!, name);
    const source = (name: string): CollateralSource => ({
      collateral: () => Promise.reject(new Error('there is no quote')),
      snpRevocationList: () => list(name),
      snpCertificates: () => Promise.reject(new Error('they were given')),
    });
    const revocation = async (names: readonly string[], collateral: CollateralSource | null) => {
      const { claims } = await verify(names, EVIDENCE, { collateral });
      const { code, status } = claims.find(({ kind }) => kind === 'cpu.revocation')!;
      return code ?? status;
    };
    const bare = ['snp.bin', 'snp.pem'];
    expect(await revocation(bare, null)).toBe('unverified');
    const silent = { ...source(''), snpRevocationList: () => Promise.reject(absent) };
    expect(await revocation(bare, silent)).toBe('revocation-unknown');
    expect(await revocation([...bare, 'amd.crl'], silent)).toBe('verified');
    expect((await verify(bare, EVIDENCE, { collateral: silent })).verdict.result).toBe('refused');
    expect(await revocation(bare, source('amd.crl'))).toBe('verified');
    expect(await revocation(bare, source('revoked.crl'))).toBe('certificate-revoked');
    expect(await revocation([...bare, 'amd.crl'], source('revoked.crl'))).toBe('verified');
  });

  test.each([
    [['vcek.der', 'cert_chain.pem']],
    [['ark.der', 'ask.der', 'vcek.der']],
    [['certs.bin']],
    [['snp.pem', 'vcek.der', 'certs.bin']],
  ])('takes certificates of AMD in each form: %j', async (names) => {
    const { verdict, claims, notes } = await verify(['snp.bin', ...names]);
    expect([verdict.reasons, notes]).toEqual([[], []]);
    const quote = claims.filter(({ kind }) => kind === 'cpu.quote');
    expect(quote).toMatchObject([{ status: 'verified' }]);
  });

  test('asks AMD for the certificates that were not given', async () => {
    const parse = (...names: string[]) =>
      Promise.all(names.map((name) => parseCertificate(files[name]!, name)));
    const asked: (string | null)[] = [];
    const collateral: CollateralSource = {
      collateral: () => Promise.reject(new Error('there is no quote')),
      snpRevocationList: async () => readRevocationList(files['amd.crl']!, 'the list'),
      snpCertificates: async (_, key) => {
        asked.push(key?.productName ?? null);
        return parse(...(key === null ? ['vcek.der'] : []), 'ask.der', 'ark.der');
      },
    };
    for (const names of [['snp.bin'], ['snp.bin', 'vcek.der'], ['snp.bin', 'ark.der']]) {
      const { claims } = await verify(names, EVIDENCE, { collateral });
      const open = claims.filter(({ status }) => status !== 'verified').map(({ kind }) => kind);
      const firmware = ['cpu.tcb', 'cpu.committedTcb', 'cpu.launchTcb'];
      expect(open).toEqual([...firmware, 'cpu.system', 'cpu.reportData']);
    }
    expect(asked).toEqual([null, 'Milan-B0', null]);
    const absent = () => Promise.reject(new AttestError('not-available', 'no answer'));
    const silent = { collateral: absent, snpRevocationList: absent, snpCertificates: absent };
    const { claims, verdict } = await verify(['snp.bin'], EVIDENCE, { collateral: silent });
    expect(claims.filter(({ status }) => status !== 'unverified')).toEqual([]);
    expect(verdict.result).toBe('refused');
  });

  test('refuses a revoked signer, and evidence of two CPUs at once', async () => {
    const { verdict } = await verify(['snp.bin', 'snp.pem', 'revoked.crl']);
    expect(verdict.reasons).toMatchObject([{ code: 'certificate-revoked' }]);
    const both = verify(['snp.bin', 'snp.pem', 'quote.bin']);
    await expect(both).rejects.toThrow('evidence of two CPUs');
  });
});
