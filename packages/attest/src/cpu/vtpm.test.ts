import { beforeAll, describe, expect, test } from 'vitest';
import type { Claim } from '../claims/claim.ts';
import { type Bytes, concatBytes, toHex, utf8 } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';
import { BUILT_IN_POLICIES } from '../policy/built-in.ts';
import {
  type IntelAuthority,
  makeIntelAuthority,
  makeTdxCollateral,
} from '../testing/quote-authority.ts';
import { makeTdxQuote } from '../testing/quote-report.ts';
import { type AmdAuthority, makeAmdAuthority, makeSnpReport } from '../testing/snp-authority.ts';
import { tdxContext } from '../testing/tdx-appraisal.ts';
import {
  azureDocument,
  makeHclReport,
  makeTpmQuote,
  makeVtpm,
  type TestTpmQuote,
  type TestVtpm,
} from '../testing/vtpm.ts';
import { verifyEvidence } from '../verify/verify.ts';
import { readHclReport, readTpmQuote, readVtpmEvidence } from './vtpm.ts';

const NONCE = new Uint8Array(32).fill(0x5a);
const VTPM_KINDS = ['cpu.vtpmKey', 'cpu.vtpmQuote', 'cpu.vtpmNonce', 'cpu.pcrs'];

let intel: IntelAuthority;
let amd: AmdAuthority;
let vtpm: TestVtpm;
let quote: TestTpmQuote;
let snpReport: Bytes;

beforeAll(async () => {
  [intel, amd, vtpm] = await Promise.all([makeIntelAuthority(), makeAmdAuthority(), makeVtpm()]);
  quote = await makeTpmQuote(vtpm, NONCE);
  snpReport = await makeSnpReport(amd, { reportData: vtpm.reportData });
});

const snpDocument = (changes: Partial<TestTpmQuote> = {}, report = snpReport, data = vtpm.data) =>
  azureDocument({ ...quote, ...changes }, makeHclReport(data, report), { vcek: amd.key.der });

async function verify(document: string, nonce: Bytes | null = NONCE) {
  const files: Record<string, Bytes> = {
    'azure.json': utf8(document),
    'ask.der': amd.ask.der,
    'ark.der': amd.ark.der,
    'collateral.json': utf8(await makeTdxCollateral(intel)),
  };
  const { anchors, ...context } = tdxContext(intel);
  const result = await verifyEvidence({
    input: 'test',
    files: Object.entries(files).map(([name, bytes]) => ({ name, bytes, isNamed: true })),
    policy: BUILT_IN_POLICIES.get('evidence')!,
    context: {
      ...context,
      anchors: { ...anchors, amdArk: new Set([amd.arkSha256]) },
      nonce,
      collateral: null,
      tokenKeys: null,
    },
  });
  expect(result.unreadable).toEqual([]);
  return result;
}

const vtpmClaims = (claims: readonly Claim[]) =>
  Object.fromEntries(
    claims
      .filter(({ kind }) => VTPM_KINDS.includes(kind))
      .map(({ kind, status, code }) => [kind, code ?? status]),
  );

describe('a guest on Azure', () => {
  const all = Object.fromEntries(VTPM_KINDS.map((kind) => [kind, 'verified']));

  test('with SEV-SNP is proven by what the CPU says of its vTPM', async () => {
    const { claims, verdict } = await verify(snpDocument());
    expect(verdict.reasons).toEqual([]);
    expect(vtpmClaims(claims)).toEqual(all);
    const pcrs = claims.find(({ kind }) => kind === 'cpu.pcrs')!.value as string[];
    expect(pcrs).toHaveLength(24);
    expect(pcrs[4]).toBe(`pcr4=${'05'.repeat(32)}`);
  });

  test('with TDX, too', async () => {
    const tdQuote = await makeTdxQuote(intel, { reportData: vtpm.reportData });
    const hcl = makeHclReport(vtpm.data, new Uint8Array(1024), 4);
    const { claims, verdict } = await verify(azureDocument(quote, hcl, { td_quote: tdQuote }));
    expect(verdict.reasons).toEqual([]);
    expect(vtpmClaims(claims)).toEqual(all);
  });

  test('in the form of version 0, with numbers for bytes', async () => {
    const { message, signature, values } = quote;
    const list = (bytes: Bytes) => [...bytes];
    const text = Buffer.from(amd.key.der).toString('base64');
    const vcek = `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`;
    const { claims } = await verify(
      JSON.stringify({
        quote: { message: list(message), signature: list(signature), pcrs: values.map(list) },
        report: list(makeHclReport(vtpm.data, snpReport)),
        vcek,
      }),
    );
    expect(vtpmClaims(claims)).toEqual(all);
  });

  test('that was asked without a nonce, or with another one', async () => {
    expect(vtpmClaims((await verify(snpDocument(), null)).claims)['cpu.vtpmNonce']).toBe(
      'unverified',
    );
    const { claims, verdict } = await verify(snpDocument(), new Uint8Array(32));
    expect(vtpmClaims(claims)).toEqual({ ...all, 'cpu.vtpmNonce': 'nonce-mismatch' });
    expect(verdict.result).toBe('refused');
  });

  test('whose CPU speaks of another vTPM is refused, and nothing of it is proven', async () => {
    const other = await makeSnpReport(amd);
    const { claims, verdict } = await verify(snpDocument({}, other));
    expect(vtpmClaims(claims)).toEqual({
      'cpu.vtpmKey': 'binding-mismatch',
      'cpu.vtpmQuote': 'unverified',
      'cpu.vtpmNonce': 'unverified',
      'cpu.pcrs': 'unverified',
    });
    expect(verdict.result).toBe('refused');
  });

  test('whose vTPM did not sign, or signed other registers, is refused', async () => {
    const forged = await makeTpmQuote(await makeVtpm(), NONCE);
    const { claims } = await verify(snpDocument({ signature: forged.signature }));
    expect(vtpmClaims(claims)).toEqual({
      'cpu.vtpmKey': 'verified',
      'cpu.vtpmQuote': 'signature-invalid',
      'cpu.vtpmNonce': 'unverified',
      'cpu.pcrs': 'unverified',
    });
    const values = [new Uint8Array(32), ...quote.values.slice(1)];
    const shown = await verify(snpDocument({ values }));
    expect(vtpmClaims(shown.claims)).toEqual({ ...all, 'cpu.pcrs': 'measurement-mismatch' });
  });

  test('in debug mode proves nothing: its host can make up the vTPM', async () => {
    const report = await makeSnpReport(amd, { reportData: vtpm.reportData, policy: 0xb_0000n });
    const { claims } = await verify(snpDocument({}, report));
    expect(new Set(Object.values(vtpmClaims(claims)))).toEqual(new Set(['unverified']));
  });
});

describe('reading', () => {
  const code = (wanted: string) => expect.objectContaining({ code: wanted });
  const hclOf = (data: Bytes, kind?: number) => makeHclReport(data, snpReport, kind);
  const edited = (at: number, byte: number) => {
    const report = hclOf(vtpm.data);
    report[at] = byte;
    return report;
  };
  const jwk = (changes: object) => {
    const { keys } = JSON.parse(new TextDecoder().decode(vtpm.data)) as { keys: object[] };
    return hclOf(utf8(JSON.stringify({ keys: [{ ...keys[0], ...changes }] })));
  };

  test.each<[string, () => Bytes, string]>([
    ['another magic', () => edited(0, 0x49), 'malformed'],
    ['another version', () => edited(4, 3), 'unsupported-version'],
    ['another version of its data', () => edited(1216 + 4, 2), 'unsupported-version'],
    ['other hardware', () => hclOf(vtpm.data, 3), 'unsupported-version'],
    ['another hash', () => edited(1216 + 12, 9), 'unsupported-algorithm'],
    ['another size', () => edited(1216, 0), 'malformed'],
    ['something behind its data', () => edited(hclOf(vtpm.data).length - 1, 1), 'malformed'],
    ['less than its data', () => hclOf(vtpm.data).subarray(0, 1300), 'malformed'],
    ['data that are no JSON', () => hclOf(utf8('{')), 'malformed'],
    ['no key of its name', () => jwk({ kid: 'HCLEkPub' }), 'malformed'],
    ['a key of another kind', () => jwk({ kty: 'EC' }), 'unsupported-algorithm'],
    ['a short key', () => jwk({ n: 'AQAB' }), 'unsupported-algorithm'],
    ['too much', () => new Uint8Array(70_000), 'too-large'],
  ])('an HCL report with %s', async (_, report, wanted) => {
    await expect(readHclReport(report())).rejects.toThrow(code(wanted));
  });

  test('the digest is that of the hash that the report names', async () => {
    const { reportData } = await readHclReport(edited(1216 + 12, 2));
    const sha384 = await digest('SHA-384', vtpm.data);
    expect(toHex(reportData)).toBe(`${toHex(sha384)}${'00'.repeat(16)}`);
  });

  const message = (at: number, byte: number) => {
    const changed = quote.message.slice();
    changed[at] = byte;
    return changed;
  };
  // Behind magic, type, the signer's name, the nonce, and clock and version.
  const bank = 6 + 36 + 34 + 25;
  test.each<[string, () => Bytes, string]>([
    ['another magic', () => message(0, 0), 'malformed'],
    ['another type', () => message(5, 0x17), 'malformed'],
    ['two banks', () => message(bank + 3, 2), 'malformed'],
    ['registers of SHA-1', () => message(bank + 5, 4), 'unsupported-algorithm'],
    ['other registers', () => message(bank + 7, 0), 'malformed'],
    ['a byte more', () => concatBytes(quote.message, Uint8Array.of(0)), 'trailing-bytes'],
    ['a byte less', () => quote.message.subarray(0, -1), 'malformed'],
    ['too much', () => new Uint8Array(5000), 'too-large'],
  ])('a quote of a TPM with %s', (_, bytes, wanted) => {
    expect(() => readTpmQuote(bytes(), quote.signature, quote.values)).toThrow(code(wanted));
  });

  test('a document that lacks a part, or has one that is not its own, is refused', async () => {
    const { hcl_report: _, ...partial } = JSON.parse(snpDocument());
    const whole = JSON.parse(snpDocument());
    for (const document of [
      partial,
      { ...whole, td_quote: 'AAAA' },
      { ...whole, version: '3' },
      { ...whole, other: 1 },
      { ...whole, hcl_report: '$' },
    ]) {
      const read = readVtpmEvidence(JSON.stringify(document));
      await expect(read).rejects.toThrow(code('malformed'));
    }
  });
});
