import { beforeAll, describe, expect, it } from 'vitest';
import type { Claim } from '../claims/claim.ts';
import { fromHex, toHex, utf8 } from '../core/bytes.ts';
import { sha256Hex } from '../core/digest.ts';
import { AttestError } from '../core/errors.ts';
import type { ReceiptSigner } from '../receipts/seal.ts';
import { inFull, wordless } from '../testing/appraisal.ts';
import { QUOTE_NOW_MS } from '../testing/quote-authority.ts';
import { makeReceiptSigner } from '../testing/receipts.ts';
import { makePayload, makeReportParts, makeStatement } from '../testing/reports.ts';
import { appraiseServerReport, type ReportContext, SERVER_CLAIMS } from './appraise.ts';
import { expectedReportData, readServerReport, type ServerReport } from './report.ts';
import type { ReportBinding, ReportStatement } from './statement.ts';
import { type ReportEvidence, reportDocument } from './write.ts';

let signer: ReceiptSigner;
beforeAll(async () => {
  signer = await makeReceiptSigner();
});

const NONCE = 'ab'.repeat(32);
const TLS = 'cd'.repeat(32);

interface Wishes {
  readonly statement?: Partial<ReportStatement>;
  readonly evidence?: Partial<ReportEvidence>;
  readonly binding?: ReportBinding;
}

async function textOf(wishes: Wishes = {}): Promise<string> {
  const nvidiaPayload = makePayload(NONCE);
  const gpuEvidenceSha256 = await sha256Hex(utf8(nvidiaPayload));
  const statement = await makeStatement(signer, { gpuEvidenceSha256, ...wishes.statement });
  const changes = { nvidiaPayload, ...wishes.evidence };
  const binding = wishes.binding ?? 'statement';
  const { prepared, evidence } = await makeReportParts(statement, binding, signer, changes);
  return JSON.stringify(reportDocument(prepared, evidence));
}

/** A report whose quote, were it one, would carry the right report data. */
async function appraise(
  report: ServerReport,
  context: Partial<ReportContext> = {},
): Promise<ReadonlyMap<string, Claim>> {
  const reportData = await expectedReportData(report);
  const claims = await appraiseServerReport(report, {
    nowMs: QUOTE_NOW_MS,
    nonce: fromHex(NONCE, 'nonce'),
    connectionSpkiSha256: TLS,
    quote: { reportData, isVerified: true },
    ...context,
  });
  for (const { kind } of claims) expect(SERVER_CLAIMS).toContain(kind);
  return new Map(claims.map((claim) => [claim.kind, claim]));
}

const states = (claims: ReadonlyMap<string, Claim>) =>
  Object.fromEntries([...claims].map(([kind, { status, code }]) => [kind, code ?? status]));

describe('a report under a verified quote', () => {
  it.each<ReportBinding>(['statement', 'signing-address', 'signing-address-tls'])(
    'is verified as far as hardware can tell (%s)',
    async (binding) => {
      const report = readServerReport(await textOf({ binding }));
      expect(states(await appraise(report))).toEqual({
        'server.tee': 'verified',
        'server.binding': 'verified',
        'server.signature': 'verified',
        'server.nonce': 'verified',
        'server.issuedAt': 'unverified',
        'server.tls': 'verified',
        'server.receiptKey': 'verified',
        'server.gpus': 'unverified',
        'server.gpuEvidence': 'verified',
        'server.software': 'unverified',
        'server.model': 'unverified',
        'server.configuration': 'unverified',
      });
    },
  );

  it('says what each claim rests on, who vouches for it and its value', async () => {
    const payload = await sha256Hex(utf8(makePayload(NONCE)));
    const { configurationSha256 } = await makeStatement(signer);
    const report = readServerReport(await textOf());
    const claims = [...(await appraise(report)).values()];
    const shown = (value: unknown) => (value == null ? '' : `: ${JSON.stringify(value)}`);
    const said = (kind: string, by: string, value?: string | number | null) =>
      `SERVER server.${kind} ${by}${shown(value)} [server report]`;
    const proven = 'verified by cpu-signed';
    const own = 'unverified by guest-observed';
    expect(claims.map(inFull)).toEqual([
      said('tee', proven, 'tdx'),
      said('binding', proven, 'statement'),
      said('nonce', proven),
      said('signature', proven),
      said('issuedAt', own, 0),
      said('tls', proven, TLS),
      said('receiptKey', proven, signer.key),
      said('gpus', own, 0),
      said('gpuEvidence', proven, payload),
      said('software', own, 'ef'.repeat(32)),
      said('model', own, '01'.repeat(32)),
      said('configuration', own, configurationSha256),
    ]);
    expect(wordless(claims)).toEqual([]);
    // Why it matters is said where something does not hold, and there alone.
    expect(claims.filter(({ why }) => why !== undefined).map(({ kind }) => kind)).toEqual([
      'server.issuedAt',
      'server.gpus',
      'server.software',
      'server.model',
      'server.configuration',
    ]);
  });

  it('is told in words that fit', async () => {
    const words = async (wishes: Wishes, context: Partial<ReportContext> = {}) => {
      const claims = await appraise(readServerReport(await textOf(wishes)), context);
      return (kind: string) => claims.get(`server.${kind}`)?.statement;
    };
    const good = await words({});
    expect(good('binding')).toBe('the quote binds this report (statement)');
    expect(good('signature')).toBe('the report is signed by its own receipt key');
    expect(good('receiptKey')).toBe('answers are signed with this key');
    expect(good('configuration')).toBe('the configuration is as shown');
    expect(good('model')).toBe(
      'the model is storyteller, with a digest of its headers, not its weights',
    );
    const modelOf = async (covers: 'manifest' | null) => {
      const model = { name: 'm', sha256: covers && '02'.repeat(32), covers };
      return (await words({ statement: { model } }))('model');
    };
    expect(await modelOf('manifest')).toBe('the model is m, with a digest of all its bytes');
    expect(await modelOf(null)).toBe('the model is m, with no digest');
    const reportData = new Uint8Array(64);
    const other = await words({}, { quote: { reportData, isVerified: true } });
    expect(other('binding')).toBe('the quote was made for another report (statement)');
    const shown = await words({ evidence: { configuration: { law: 'other' } } });
    expect(shown('configuration')).toBe('the configuration shown is another');
  });

  it('leaves out what its server does not have', async () => {
    const bare = {
      receiptKey: null,
      receiptChain: null,
      model: null,
      configurationSha256: null,
      gpuEvidenceSha256: null,
      tlsSpkiSha256: null,
    };
    const statement = await makeStatement(null, bare);
    const { prepared, evidence } = await makeReportParts(statement, 'statement', null, {
      configuration: null,
    });
    const report = readServerReport(JSON.stringify(reportDocument(prepared, evidence)));
    expect(states(await appraise(report))).toEqual({
      'server.tee': 'verified',
      'server.binding': 'verified',
      'server.nonce': 'verified',
      'server.issuedAt': 'unverified',
      'server.tls': 'unverified',
      'server.gpus': 'unverified',
      'server.software': 'unverified',
    });
  });

  it('is of SEV-SNP where its evidence is', async () => {
    const report = readServerReport(await textOf({ statement: { tee: 'sev-snp' } }));
    const claims = await appraise(report);
    expect(claims.get('server.tee')).toMatchObject({ status: 'verified', value: 'sev-snp' });
  });

  it('passes on what the driver told the guest, unverified', async () => {
    const observed = {
      driverVersion: '580.1',
      confidential: null,
      areGpusReady: true,
      keyRotationThreshold: null,
      gpus: [],
      gaps: [],
    };
    const claims = await appraise(readServerReport(await textOf({ statement: { observed } })));
    const facts = JSON.stringify(['driver 580.1', 'GPUs ready']);
    expect(inFull(claims.get('server.observation')!)).toBe(
      `SERVER server.observation unverified by guest-observed: ${facts} [server report]`,
    );
    expect(wordless([...claims.values()])).toEqual([]);
  });

  it('names its bundle before its files', async () => {
    const { software } = await makeStatement(signer);
    const bundled = { software: { ...software, bundleSha256: '0b'.repeat(32) } };
    const claims = await appraise(readServerReport(await textOf({ statement: bundled })));
    expect(claims.get('server.software')?.value).toBe('0b'.repeat(32));
  });

  it('that came as a file leaves open where its connection ends', async () => {
    const report = readServerReport(await textOf());
    const quote = { reportData: await expectedReportData(report), isVerified: true };
    const nonce = fromHex(NONCE, 'nonce');
    const claims = await appraiseServerReport(report, { nowMs: QUOTE_NOW_MS, nonce, quote });
    const tls = claims.find(({ kind }) => kind === 'server.tls')!;
    expect(inFull(tls)).toBe(
      `SERVER server.tls unverified by guest-observed: "${TLS}" [server report]`,
    );
  });

  it('has the report data that other services compare', async () => {
    const byAddress = readServerReport(await textOf({ binding: 'signing-address' }));
    const data = toHex(await expectedReportData(byAddress));
    expect(data).toBe(signer.key + NONCE);
    const byTls = readServerReport(await textOf({ binding: 'signing-address-tls' }));
    const bound = await sha256Hex(fromHex(signer.key + TLS, 'bound'));
    expect(toHex(await expectedReportData(byTls))).toBe(bound + NONCE);
  });

  it('proves nothing while the quote is not verified, and says so', async () => {
    const report = readServerReport(await textOf());
    const reportData = await expectedReportData(report);
    const claims = await appraise(report, { quote: { reportData, isVerified: false } });
    for (const { status, voucher } of claims.values()) {
      expect(`${status} ${voucher}`).toBe('unverified operator-asserted');
    }
  });

  it('is refused with the quote of another report', async () => {
    const report = readServerReport(await textOf());
    const other = readServerReport(await textOf({ statement: { issuedAt: 5 } }));
    const reportData = await expectedReportData(other);
    const claims = await appraise(report, { quote: { reportData, isVerified: true } });
    expect(claims.get('server.binding')).toMatchObject({ code: 'binding-mismatch' });
    expect(claims.get('server.receiptKey')).toMatchObject({ status: 'unverified' });
  });
});

describe('a report without a TEE', () => {
  it('says so plainly, and nothing in it is verified', async () => {
    const report = readServerReport(await textOf({ statement: { tee: 'none' } }));
    const claims = await appraise(report, { quote: null });
    expect(claims.get('server.tee')).toMatchObject({
      statement: 'the server runs in no TEE',
      value: 'none',
      voucher: 'operator-asserted',
    });
    expect([...claims.values()].filter(({ status }) => status === 'verified')).toEqual([]);
  });

  it('is refused where it claims one', async () => {
    const report = readServerReport(await textOf({ evidence: { tdxQuote: null } }));
    const claims = await appraise(report, { quote: null });
    expect(claims.get('server.tee')).toMatchObject({ code: 'binding-mismatch' });
  });
});

describe('refusals', () => {
  const edit = async (change: (own: Record<string, object>) => object, wishes: Wishes = {}) => {
    const whole = JSON.parse(await textOf(wishes));
    return readServerReport(JSON.stringify({ ...whole, ...change(whole) }));
  };

  it('another nonce than was asked with, or none', async () => {
    const report = readServerReport(await textOf());
    const other = await appraise(report, { nonce: fromHex('00'.repeat(32), 'nonce') });
    expect(other.get('server.nonce')).toMatchObject({ code: 'nonce-mismatch' });
    const none = await appraise(report, { nonce: null });
    expect(none.get('server.nonce')).toMatchObject({ status: 'unverified' });
    const two = await edit(() => ({ request_nonce: '11'.repeat(32) }));
    for (const nonce of [NONCE, '11'.repeat(32)]) {
      const claims = await appraise(two, { nonce: fromHex(nonce, 'nonce') });
      expect(claims.get('server.nonce')).toMatchObject({ code: 'nonce-mismatch' });
    }
  });

  it('a connection that ends elsewhere', async () => {
    const report = readServerReport(await textOf());
    for (const connectionSpkiSha256 of ['ee'.repeat(32), null]) {
      const claims = await appraise(report, { connectionSpkiSha256 });
      expect(claims.get('server.tls')).toMatchObject({ code: 'binding-mismatch' });
    }
    const plain = readServerReport(await textOf({ statement: { tlsSpkiSha256: null } }));
    expect((await appraise(plain)).get('server.tls')).toMatchObject({ status: 'unverified' });
  });

  it('GPU evidence that is another, of another nonce, or left out', async () => {
    const swapped = await edit(() => ({ nvidia_payload: makePayload('22'.repeat(32)) }));
    expect((await appraise(swapped)).get('server.gpuEvidence')).toMatchObject({
      code: 'binding-mismatch',
    });
    const payload = makePayload('22'.repeat(32));
    const gpuEvidenceSha256 = await sha256Hex(utf8(payload));
    const wishes = { statement: { gpuEvidenceSha256 }, evidence: { nvidiaPayload: payload } };
    const stale = readServerReport(await textOf(wishes));
    expect((await appraise(stale)).get('server.gpuEvidence')).toMatchObject({
      code: 'nonce-mismatch',
    });
    const without = readServerReport(await textOf({ evidence: { nvidiaPayload: null } }));
    expect((await appraise(without)).get('server.gpuEvidence')).toMatchObject({
      code: 'binding-mismatch',
    });
  });

  it('a statement that its key did not sign', async () => {
    const report = await edit(
      ({ bridgekeeper }) => ({ bridgekeeper: { ...bridgekeeper, signature: 'ab'.repeat(64) } }),
      { binding: 'signing-address' },
    );
    const claims = await appraise(report);
    expect(claims.get('server.signature')).toMatchObject({ code: 'signature-invalid' });
    expect(claims.get('server.receiptKey')).toMatchObject({ status: 'unverified' });
  });

  it('a statement that its key did not sign, though the quote binds it', async () => {
    const report = await edit(({ bridgekeeper }) => ({
      bridgekeeper: { ...bridgekeeper, signature: 'ab'.repeat(64) },
    }));
    const claims = await appraise(report);
    expect(claims.get('server.signature')).toMatchObject({
      code: 'signature-invalid',
      statement: 'the report is not signed by its own receipt key',
    });
    expect(claims.get('server.receiptKey')).toMatchObject({ status: 'verified' });
    const unsigned = await edit(({ bridgekeeper }) => ({
      bridgekeeper: { ...bridgekeeper, signature: null },
    }));
    const without = (await appraise(unsigned)).get('server.signature');
    expect(without).toMatchObject({ code: 'signature-invalid' });
  });

  it('a signature by a key that the statement does not name', async () => {
    const report = await edit(
      ({ bridgekeeper }) => {
        const own = bridgekeeper as { statement?: object };
        return { bridgekeeper: { ...own, statement: { ...own.statement, receiptKey: null } } };
      },
      { binding: 'signing-address' },
    );
    const claims = await appraise(report);
    expect(claims.get('server.signature')).toMatchObject({ code: 'signature-invalid' });
    expect(claims.get('server.nonce')).toMatchObject({ status: 'unverified' });
  });

  it('to believe a statement that neither the quote nor a key binds', async () => {
    const report = await edit(
      ({ bridgekeeper }) => {
        const own = bridgekeeper as { statement?: object };
        const statement = { ...own.statement, receiptKey: null };
        return { bridgekeeper: { ...own, statement, signature: null } };
      },
      { binding: 'signing-address' },
    );
    // The quote is for an address and the nonce: anyone can have written the statement beside it.
    expect(states(await appraise(report))).toEqual({
      'server.tee': 'verified',
      'server.binding': 'verified',
      'server.nonce': 'unverified',
      'server.issuedAt': 'unverified',
      'server.tls': 'unverified',
      'server.gpus': 'unverified',
      'server.gpuEvidence': 'unverified',
      'server.software': 'unverified',
      'server.model': 'unverified',
      'server.configuration': 'unverified',
    });
  });

  it('a report that lacks a part of what is bound', async () => {
    const quote = { reportData: new Uint8Array(64), isVerified: true };
    for (const change of [{ request_nonce: null }, { request_nonce: undefined }]) {
      const report = await edit(() => change);
      const claims = await appraiseServerReport(report, {
        nowMs: QUOTE_NOW_MS,
        nonce: null,
        quote,
      });
      const found = new Map(claims.map((claim) => [claim.kind, claim]));
      expect(found.get('server.binding')).toMatchObject({
        code: 'binding-mismatch',
        statement: 'the report lacks a part of its binding (statement)',
      });
      expect(found.get('server.nonce')).toMatchObject({ code: 'nonce-mismatch' });
      expect(found.get('server.gpuEvidence')).toMatchObject({ code: 'nonce-mismatch' });
      expect(claims.filter(({ status }) => status === 'verified')).toEqual([]);
    }
  });

  it('a TEE that the quote of another report would vouch for', async () => {
    const report = readServerReport(await textOf());
    const quote = { reportData: new Uint8Array(64), isVerified: true };
    const claims = await appraise(report, { quote });
    expect(claims.get('server.tee')).toMatchObject({ status: 'unverified' });
    const none = await appraise(report, { quote: null });
    expect(none.get('server.tee')).toMatchObject({ status: 'unverified' });
  });

  it('a configuration that is shown without a digest, or left out', async () => {
    const cases: Wishes[] = [
      { statement: { configurationSha256: null } },
      { evidence: { configuration: null } },
    ];
    for (const wishes of cases) {
      const claims = await appraise(readServerReport(await textOf(wishes)));
      expect(claims.get('server.configuration')).toMatchObject({ code: 'binding-mismatch' });
    }
  });

  it('a configuration that is not the one of the digest, and two keys', async () => {
    const shown = readServerReport(await textOf({ evidence: { configuration: { law: 'other' } } }));
    expect((await appraise(shown)).get('server.configuration')).toMatchObject({
      code: 'binding-mismatch',
    });
    const twoKeys = await edit(() => ({ signing_address: '33'.repeat(32) }));
    expect((await appraise(twoKeys)).get('server.receiptKey')).toMatchObject({
      code: 'binding-mismatch',
      statement: 'the report names two keys that sign its answers',
      value: signer.key,
    });
    const one = await edit(() => ({ signing_address: null }));
    expect((await appraise(one)).get('server.receiptKey')).toMatchObject({ status: 'verified' });
  });
});

describe("another service's report", () => {
  const foreign = (more: object) =>
    JSON.stringify({
      signing_address: `0x${'1a'.repeat(20)}`,
      signing_algo: 'ecdsa',
      request_nonce: NONCE,
      intel_quote: '00',
      nvidia_payload: makePayload(NONCE),
      info: { tcb_info: '{}' },
      ...more,
    });

  it('is read and judged by what it binds: an address and the nonce', async () => {
    const report = readServerReport(foreign({}));
    const data = toHex(await expectedReportData(report));
    expect(data).toBe('1a'.repeat(20) + '00'.repeat(12) + NONCE);
    expect(states(await appraise(report))).toEqual({
      'server.tee': 'verified',
      'server.binding': 'verified',
      'server.nonce': 'verified',
      'server.gpuEvidence': 'unverified',
      'server.receiptKey': 'verified',
    });
  });

  it('that shows no quote runs in no TEE, and its GPU evidence proves nothing of it', async () => {
    const report = readServerReport(foreign({ intel_quote: null }));
    const claims = await appraiseServerReport(report, {
      nowMs: QUOTE_NOW_MS,
      nonce: fromHex(NONCE, 'nonce'),
      quote: null,
    });
    expect(claims.map(inFull)).toContain(
      'SERVER server.tee unverified by operator-asserted: "none" [server report]',
    );
    expect(claims.find(({ kind }) => kind === 'server.receiptKey')?.value).toBe('1a'.repeat(20));
    expect(claims.filter(({ status }) => status === 'verified')).toEqual([]);
    expect(wordless(claims)).toEqual([]);
  });

  it('without a payload says nothing of GPUs; with one of another nonce is refused', async () => {
    const none = await appraise(readServerReport(foreign({ nvidia_payload: null })));
    expect(none.has('server.gpuEvidence')).toBe(false);
    for (const nonce of ['22'.repeat(32), '']) {
      const payload = JSON.stringify({ nonce, evidence_list: [] });
      const other = await appraise(readServerReport(foreign({ nvidia_payload: payload })));
      expect(other.get('server.gpuEvidence')).toMatchObject({ code: 'nonce-mismatch' });
    }
  });

  it('binds its TLS key where it names one', async () => {
    const report = readServerReport(foreign({ tls_cert_fingerprint: TLS }));
    expect(report.binding).toBe('signing-address-tls');
  });
});

describe('reading', () => {
  it.each([
    ['no JSON', '{'],
    ['a list', '[]'],
    ['nothing known', '{"hello": 1}'],
    ['a quote that is not hexadecimal', '{"intel_quote": "xyz"}'],
    ['a nonce of another length', '{"intel_quote": "00", "request_nonce": "00"}'],
    ['a payload that is not JSON', '{"nvidia_payload": "{"}'],
    ['another field in our part', '{"intel_quote": "00", "bridgekeeper": {"x": 1}}'],
  ])('refuses %s', (_, text) => {
    expect(() => readServerReport(text)).toThrow(AttestError);
  });
});

describe('keys that requests can be encrypted to', () => {
  const keys = Uint8Array.of(0, 1, 2);
  const named = async (changes: Partial<ReportEvidence> = {}, of = keys) => {
    const statement = { encryptionKeysSha256: await sha256Hex(of) };
    const evidence = { encryptionKeys: keys, ...changes };
    return readServerReport(await textOf({ statement, evidence }));
  };

  it('are verified where the quote binds them, and the report shows them', async () => {
    const report = await named();
    expect(report.encryptionKeys).toEqual(keys);
    const value = await sha256Hex(keys);
    const claim = (await appraise(report)).get('server.encryption');
    expect(claim).toMatchObject({ status: 'verified', voucher: 'cpu-signed', value });
    const unproven = (await appraise(report, { quote: null })).get('server.encryption');
    expect(unproven).toMatchObject({ status: 'unverified', voucher: 'operator-asserted' });
  });

  it('are refused where others are shown, none, or some that nobody named', async () => {
    const swapped = await named({}, Uint8Array.of(9));
    const hidden = await named({ encryptionKeys: null });
    const added = readServerReport(await textOf({ evidence: { encryptionKeys: keys } }));
    for (const report of [swapped, hidden, added]) {
      const claim = (await appraise(report)).get('server.encryption');
      expect(claim).toMatchObject({ status: 'refused', code: 'binding-mismatch' });
    }
    expect((await appraise(readServerReport(await textOf()))).has('server.encryption')).toBe(false);
  });
});
