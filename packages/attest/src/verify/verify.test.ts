import { describe, expect, test } from 'vitest';
import type { Claim } from '../claims/claim.ts';
import { concatBytes, toHex } from '../core/bytes.ts';
import { ChainCache } from '../core/chain.ts';
import { AttestError } from '../core/errors.ts';
import { readTdxCollateral } from '../cpu/tdx-collateral.ts';
import { BUILT_IN_POLICIES } from '../policy/built-in.ts';
import { CLAIM_KINDS } from '../policy/kinds.ts';
import { pinPolicy } from '../policy/pin.ts';
import type { Policy } from '../policy/policy.ts';
import { readPolicy } from '../policy/read.ts';
import { brief, inFull } from '../testing/appraisal.ts';
import { makeService, type ServiceChanges, type TestService } from '../testing/service.ts';
import type { VerifyContext } from './appraise.ts';
import { verifyEvidence } from './verify.ts';

const TLS = 'cd'.repeat(32);

const EVIDENCE = BUILT_IN_POLICIES.get('evidence')!;
const REFERENCE = BUILT_IN_POLICIES.get('reference')!;
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
  .then(({ claims }) => pinPolicy(SERVICE, claims)!);

describe('a good service', () => {
  test('is verified, all but what only its software says', async () => {
    const result = await verify(await good);
    expect(result.verdict).toMatchObject({ result: 'verified', reasons: [], tolerated: [] });
    const unverified = result.claims.filter(({ status }) => status !== 'verified');
    expect([...new Set(unverified.map(({ kind }) => kind))]).toEqual([
      'server.issuedAt',
      'server.gpus',
      'server.software',
      'server.model',
      'server.configuration',
      'server.observation',
      'gpu.nvlink-encryption',
      'switch.firmware',
      'devices.confidential',
      'devices.devtools',
    ]);
    // What the pinned software says of itself is believed, by name; nothing else is.
    const believed = result.verdict.believed.map(({ claim }) => claim.kind);
    expect(believed).toEqual([
      'server.issuedAt',
      'server.gpus',
      'server.software',
      'server.model',
      'server.configuration',
      'devices.confidential',
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
    expect(pinPolicy(SERVICE, unproven)).toBeNull();
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
      policy: REFERENCE,
      names: (name: string) => name.endsWith('.xml'),
      context: { nonce: null },
    };
    const references = await verify(await good, noReport);
    expect(references.verdict.result).toBe('verified');
    const asMachine = await verify(await good, { ...noReport, policy: EVIDENCE });
    expect(asMachine.verdict.reasons.map(({ rule }) => rule)).toEqual(['minimum']);
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

  test('in debug mode, and then nothing that it says of itself is verified', async () => {
    const service = await makeService({ quote: { attributes: '0100001000000000' } });
    const { claims } = await verify(service);
    // The quote itself is genuine: it is the guest that its host can make say anything.
    expect(claims.map(brief)).toContain('CPU cpu.quote verified');
    const own = claims.filter(({ subject }) => /^(SERVER|RECEIPT)/.test(subject));
    expect(own.length).toBeGreaterThan(10);
    for (const claim of own) {
      expect(`${brief(claim)} by ${claim.voucher}`).toMatch(/ unverified by operator-asserted$/);
    }
  });

  test('whose quote does not hold, and then nothing it says of itself is verified', async () => {
    const { intelSgx: _, ...anchors } = (await good).anchors;
    const context = { anchors: { ...anchors, intelSgx: new Set<string>() } };
    const { claims } = await verify(await good, { context });
    const own = claims.filter(({ subject }) => /^(SERVER|RECEIPT)/.test(subject));
    expect(own.map(brief).filter((text) => / verified/.test(text))).toEqual([]);
  });

  test('on an ordinary machine, and then nothing it says of itself is verified', async () => {
    const { files, ...service } = await makeService({ statement: { tee: 'none' } });
    const whole = JSON.parse(new TextDecoder().decode(files.get('report.json')));
    const report = new TextEncoder().encode(JSON.stringify({ ...whole, intel_quote: null }));
    const without = { ...service, files: new Map([...files, ['report.json', report]]) };
    const { claims, verdict } = await verify(without);
    expect(verdict.result).toBe('refused');
    expect(claims.map(({ statement }) => statement)).toContain('no quote binds this report');
    const own = claims.filter(({ subject }) => /^(SERVER|RECEIPT|CPU)/.test(subject));
    expect(own.filter(({ status }) => status !== 'unverified')).toEqual([]);
    expect(own.length).toBeGreaterThan(10);
  });

  test('whose GPUs sign another mode than its driver tells', async () => {
    const confidential = {
      environment: 'production',
      isOn: true,
      isDevTools: true,
      multiGpuMode: 'none',
    } as const;
    const observed = {
      driverVersion: null,
      confidential,
      areGpusReady: null,
      keyRotationThreshold: null,
      gpus: [],
      gaps: [],
    };
    const result = await verify(await makeService({ statement: { observed } }));
    expect(codes(result)).toEqual([
      'devices.confidential mode-refused',
      'devices.devtools devtools-enabled',
    ]);
    expect(result.claims.map(brief)).toContain('SERVER server.observation unverified');
    const untold = await makeService({
      statement: { observed: { ...observed, confidential: null } },
    });
    const { claims } = await verify(untold);
    expect(claims.filter(({ kind }) => kind === 'devices.devtools')).toEqual([]);
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

describe('receipts', () => {
  const chainOf = async (
    service: TestService,
    names?: (name: string) => boolean,
  ): Promise<Claim | undefined> => {
    const { claims } = await verify(service, { policy: EVIDENCE, ...(names && { names }) });
    return claims.find(({ kind }) => kind === 'receipt.chain');
  };
  const receipt = (name: string) => name.startsWith('receipt-');

  test('stand in one chain, up to the report that names its end', async () => {
    const chain = await chainOf(await good);
    const both = 'receipt rcpt_00000001, receipt rcpt_00000002';
    expect(inFull(chain!)).toBe(`RECEIPTS receipt.chain verified by cpu-signed [${both}]`);
    const end = 'up to number 2, when the report was made';
    expect(chain!.statement).toBe(
      `2 receipts stand in one chain, none is missing between them, ${end}`,
    );
    expect(CLAIM_KINDS).toContain('receipt.chain');
    const none = await chainOf(await good, (name) => !receipt(name));
    expect(none).toMatchObject({ status: 'verified', evidence: [] });
    expect(await chainOf(await good, (name) => name !== 'links.json')).toBeUndefined();
  });

  test('of a report that names no end hold between them; without any, nothing does', async () => {
    const service = await makeService({ statement: { receiptChain: null } });
    const chain = await chainOf(service);
    expect(chain!.status).toBe('verified');
    expect(chain!.statement).toMatch(/none is missing between them$/);
    const none = await chainOf(service, (name) => !receipt(name));
    expect(none).toMatchObject({ status: 'unverified', voucher: 'operator-asserted' });
    expect(none!.why).toMatch(/^Neither a receipt nor the report has a place in this piece/);
  });

  test('by themselves, or beside a report that names no key, are as good as theirs', async () => {
    const alone = await chainOf(await good, (name) => /receipt-|links/.test(name));
    expect(alone).toMatchObject({ status: 'unverified' });
    expect(alone!.why).toMatch(/^It holds, and is only as good as its key/);
    const { files, ...service } = await good;
    const text = new TextDecoder().decode(files.get('report.json'));
    const { bridgekeeper: _, ...foreign } = JSON.parse(text);
    const report = new TextEncoder().encode(JSON.stringify(foreign));
    const other = { ...service, files: new Map([...files, ['report.json', report]]) };
    const beside = await chainOf(other);
    expect(beside).toMatchObject({ status: 'unverified' });
    const unkeyed = (name: string) => !receipt(name);
    expect(await chainOf(other, unkeyed)).toBeUndefined();
  });

  test('one is enough, and needs no other beside it', async () => {
    const one = (name: string) => name !== 'receipt-2.json';
    const service = await makeService({ statement: { receiptChain: null } });
    expect(await chainOf(service, one)).toMatchObject({ status: 'verified' });
    const alone = (name: string) => name === 'receipt-1.json';
    const context = { nonce: null };
    const { claims } = await verify(await good, { policy: EVIDENCE, names: alone, context });
    expect(claims.map(brief)).toEqual(['RECEIPT-1 receipt.signature unverified']);
  });

  test('beside a foreign report, whose quote holds an address, are as good as theirs', async () => {
    const nonce = new Uint8Array(32).fill(0xab);
    const address = new Uint8Array(20).fill(0x1a);
    const reportData = concatBytes(address, new Uint8Array(12), nonce);
    const { files, ...service } = await makeService({ quote: { reportData } });
    const text = new TextDecoder().decode(files.get('report.json'));
    const { bridgekeeper: _own, tls_cert_fingerprint: _tls, ...shared } = JSON.parse(text);
    const foreign = { ...shared, signing_address: toHex(address), signing_algo: 'ecdsa' };
    const report = new TextEncoder().encode(JSON.stringify(foreign));
    const other = { ...service, files: new Map([...files, ['report.json', report]]) };
    const { claims } = await verify(other, { policy: EVIDENCE });
    expect(claims.map(brief)).toContain('SERVER server.receiptKey verified');
    expect(claims.filter(({ kind }) => kind.startsWith('receipt.')).map(brief)).toEqual([
      'RECEIPT-1 receipt.signature unverified',
      'RECEIPT-2 receipt.signature unverified',
      'RECEIPTS receipt.chain unverified',
    ]);
  });

  test('of another key than the report names are refused', async () => {
    const { files, ...service } = await good;
    const other = await makeService();
    const own = [...other.files].filter(([name]) => receipt(name) || name === 'links.json');
    const { claims } = await verify({ ...service, files: new Map([...files, ...own]) });
    expect(claims.filter(({ kind }) => kind.startsWith('receipt.')).map(brief)).toEqual([
      'RECEIPT-1 receipt.signature refused signature-invalid',
      'RECEIPT-2 receipt.signature refused signature-invalid',
      'RECEIPTS receipt.chain refused receipt-broken',
    ]);
  });
});

describe('what was not given is asked for', () => {
  const without = (left: RegExp) => (name: string) => !left.test(name);
  const of = (claims: readonly Claim[], kind: string) => [
    ...new Set(claims.filter((one) => one.kind === kind).map(({ status }) => status)),
  ];
  const never = () => Promise.reject(new Error('it was given, and need not be asked for'));

  test('collateral of the service that has it, and of nobody where it was given', async () => {
    const { files } = await good;
    const text = new TextDecoder().decode(files.get('collateral.json'));
    const quotes: unknown[] = [];
    const has = async (quote: unknown) => {
      quotes.push(quote);
      return readTdxCollateral(text);
    };
    const source = { collateral: has, snpRevocationList: never, snpCertificates: never };
    const names = without(/collateral/);
    const asked = await verify(await good, { names, context: { collateral: source } });
    expect(asked.verdict).toMatchObject({ result: 'verified' });
    expect(quotes).toHaveLength(1);
    const silent = { collateral: never, snpRevocationList: never, snpCertificates: never };
    const given = await verify(await good, { context: { collateral: silent } });
    expect(given.verdict).toMatchObject({ result: 'verified' });
  });

  test('collateral that a service has not leaves the quote unverified', async () => {
    const names = without(/collateral/);
    const failing = (error: Error) => {
      const collateral = () => Promise.reject(error);
      const source = {
        collateral,
        snpRevocationList: collateral,
        snpCertificates: collateral,
      };
      return good.then((service) => verify(service, { names, context: { collateral: source } }));
    };
    const { claims, verdict } = await failing(new AttestError('not-available', 'no answer'));
    expect(verdict.result).toBe('refused');
    expect(of(claims, 'cpu.quote')).toEqual(['unverified']);
    // A fault of our own is not taken for evidence that is missing.
    await expect(failing(new TypeError('a fault'))).rejects.toThrow('a fault');
  });

  test('references: those that were given first, the rest of the source', async () => {
    const { files } = await good;
    const kept = [...files.keys()].filter((name) => name.endsWith('.xml'));
    const asked: string[] = [];
    const references = {
      async rim(id: string) {
        asked.push(id);
        return files.get(`${id}.xml`) ?? null;
      },
    };
    const all = await verify(await good, { names: without(/xml$/), context: { references } });
    expect(all.verdict).toMatchObject({ result: 'verified' });
    expect(asked.map((id) => `${id}.xml`).sort()).toEqual([...kept].sort());
    asked.length = 0;
    const [first, ...rest] = kept;
    const names = (name: string) => !rest.includes(name);
    const mixed = await verify(await good, { names, context: { references } });
    expect(mixed.verdict).toMatchObject({ result: 'verified' });
    expect(asked.map((id) => `${id}.xml`)).not.toContain(first);
    expect(asked).toHaveLength(rest.length);
  });

  test('references that nobody has are missing, where any was given', async () => {
    const [first] = [...(await good).files.keys()].filter((name) => name.endsWith('.xml'));
    const names = (name: string) => name === first || !name.endsWith('.xml');
    const { claims } = await verify(await good, { names });
    const states = claims
      .filter(({ kind }) => kind.endsWith('.measurements'))
      .map(({ code, status }) => code ?? status);
    expect(new Set(states)).toEqual(new Set(['verified', 'reference-missing']));
  });

  test('references that no device needs are judged behind those that are', async () => {
    const { files, ...service } = await good;
    const [name, bytes] = [...files].find(([one]) => one.endsWith('.xml'))!;
    const spare = new Map([...files, ['spare.xml', bytes]]);
    const { claims } = await verify({ ...service, files: spare });
    const needed = [...files.keys()].filter((one) => one.endsWith('.xml')).length;
    const last = claims.filter(({ subject }) => subject === `RIM-${needed}`);
    expect(last.map(inFull)).toContain(
      `RIM-${needed} rim.signature verified by vendor-signed [RIM spare.xml]`,
    );
    expect(claims.some(({ subject }) => subject === `RIM-${needed + 1}`)).toBe(false);
    expect(name).not.toBe('spare.xml');
  });

  test('nothing of a connection where the report comes from a file', async () => {
    const { files, nowMs, anchors, nonce } = await good;
    const { claims } = await verifyEvidence({
      input: 'test',
      files: [...files].map(([name, bytes]) => ({ name, bytes, isNamed: true })),
      policy: EVIDENCE,
      context: {
        nowMs,
        anchors,
        nonce,
        chains: new ChainCache(),
        references: null,
        revocation: null,
        tokenKeys: null,
        collateral: null,
      },
    });
    expect(of(claims, 'server.tls')).toEqual(['unverified']);
    expect(of(claims, 'server.binding')).toEqual(['verified']);
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
      policy: REFERENCE,
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
    await failing({ a: collateral.subarray(0, 900) }, /^a is not JSON/);
  });

  test('unless something else can be: that is judged, and what was lost is reported', async () => {
    const service = await good;
    const report = service.files.get('report.json')!;
    const [name, rim] = [...service.files].find(([one]) => one.endsWith('.xml'))!;
    const broken = {
      'b.json': '{"tcb_info":"","qe_identity":"","pck_crl":""}',
      'c.json': '[{"evidence":',
      'd.txt': 'prose',
      'e.bin': `11e0${'00'.repeat(100)}`,
      'f.json': '{"receipt":{},"signature":"x"}',
      'g.json': '[{"evidence":"","certificate":""}]',
    };
    const result = await reading({ a: report, [name]: rim, ...broken });
    const { unreadable, claims, verdict } = result;
    const codes = Object.fromEntries(unreadable.map((one) => [one.name, one.code]));
    expect(codes).toEqual(Object.fromEntries(Object.keys(broken).map((one) => [one, 'malformed'])));
    for (const { name: lost, message } of unreadable) {
      expect(message.startsWith(lost)).toBe(true);
      expect(verdict.reasons.map(({ text }) => text)).toContain(message);
    }
    expect(claims.map(({ subject }) => subject)).toEqual(
      expect.arrayContaining(['CPU', 'SERVER', 'GPU-0']),
    );
    // What was lost could be what speaks against the machine.
    expect(verdict.result).toBe('refused');
    // A policy that needs what was lost does not get it from somewhere else.
    const files = new Map([...service.files, ['report.json', new TextEncoder().encode('{')]]);
    const without = await verify({ ...service, files });
    expect(without.unreadable.map((one) => one.name)).toEqual(['report.json']);
    expect(without.verdict.result).toBe('refused');
  });

  test('but files beside evidence in a folder are only noted', async () => {
    const [name, rim] = [...(await good).files].find(([one]) => one.endsWith('.xml'))!;
    const result = await reading({ [name]: rim, 'in-folder.md': 'prose' });
    expect(result.notes).toEqual(['in-folder.md is no evidence of a kind that is known here']);
    expect(result.verdict.result).toBe('verified');
  });
});
