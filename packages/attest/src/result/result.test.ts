import { exportPKCS8, exportSPKI, generateKeyPair, importSPKI, jwtVerify } from 'jose';
import { describe, expect, test } from 'vitest';
import type { Claim } from '../claims/claim.ts';
import { fromHex } from '../core/bytes.ts';
import { judge } from '../policy/judge.ts';
import { policySchema } from '../policy/policy.ts';
import { readSigningKey, signResult } from './attestation-token.ts';
import { verifyDocument } from './document.ts';
import type { VerifyResult } from './result.ts';
import { resultLines } from './tree.ts';

const AT_MS = Date.UTC(2026, 8, 1);
const NONCE = fromHex('ab'.repeat(32), 'the nonce');

const about = (subject: string, kind: string, more: Partial<Claim> = {}): Claim => ({
  kind,
  subject,
  status: 'verified',
  voucher: 'device-signed',
  statement: `${kind} holds`,
  evidence: [`${subject} report`],
  ...more,
});
const CLAIMS: readonly Claim[] = [
  about('GPU-0', 'gpu.chain'),
  about('GPU-1', 'gpu.chain'),
  about('GPU-0', 'gpu.signature'),
  about('GPU-1', 'gpu.signature', {
    status: 'refused',
    code: 'signature-invalid',
    statement: 'the signature does not hold',
    why: 'anybody could have written it',
  }),
  about('GPU-0', 'gpu.measurements'),
  about('GPU-0', 'gpu.revocation', { status: 'unverified', why: 'a stolen key would not show' }),
  about('GPU-1', 'gpu.mode', { status: 'refused', code: 'mode-refused', value: 'single' }),
  about('SERVER', 'server.model', {
    status: 'unverified',
    voucher: 'operator-asserted',
    value: 'storyteller',
    why: 'the operator alone says so',
  }),
];

function resultOf(claims: readonly Claim[]): VerifyResult {
  const policy = policySchema.parse({
    version: 1,
    name: 'house',
    tolerate: [{ kind: 'gpu.mode', codes: ['mode-refused'], because: 'one GPU is enough' }],
  });
  const notes = ['README.md is no evidence'];
  const verdict = judge(claims, policy);
  return {
    input: 'evidence.json',
    atMs: AT_MS,
    nonce: NONCE,
    claims,
    verdict,
    notes,
    unreadable: [],
  };
}

describe('the tree', () => {
  const text = resultLines(resultOf(CLAIMS), false).join('\n');

  test('counts what devices share, and names each refusal with code and meaning', () => {
    expect(text).toMatch(/^GPU-0 to GPU-1 \(2\)$/m);
    expect(text).toMatch(/^ {2}ok +gpu\.chain: 2 of 2: gpu\.chain holds$/m);
    expect(text).toMatch(/^ {2}ok +gpu\.signature: 1 of 2: /m);
    expect(text).toMatch(/^ {2}REFUSED +gpu\.signature: GPU-1: .* \[signature-invalid\]$/m);
    expect(text).toMatch(/^ +means: anybody could have written it$/m);
  });

  test('says what was not verified, why that matters and whose word it is', () => {
    expect(text).toMatch(/^Not verified, and why it matters$/m);
    expect(text).toContain('a stolen key would not show');
    expect(text).toContain('server.model (SERVER; it is operator-asserted)');
    expect(text).not.toMatch(/ok +server\.model/);
  });

  test('shows what the policy lets pass, and ends with the verdict and its reasons', () => {
    expect(text).toContain('one GPU is enough');
    expect(text).toContain(
      'REFUSED under the policy "house": 4 claims verified, 2 refused, 2 not verified',
    );
    expect(text).toMatch(/- GPU-1: gpu\.signature: .* \[signature-invalid\]$/);
  });

  test('has colours only when asked, and no control characters of strangers', () => {
    expect(text).not.toContain('\x1b');
    expect(resultLines(resultOf(CLAIMS), true).join('')).toContain('\x1b[91mREFUSED');
    const hostile = about('GPU-0', 'gpu.driver', { statement: 'driver \x1b[2J\u202e5\x07' });
    expect(resultLines(resultOf([hostile]), false).join('\n')).toContain('driver ?[2J?5?');
  });

  test('keeps to its width', () => {
    const long = about('GPU-0', 'gpu.driver', { statement: 'word '.repeat(100).trim() });
    const widths = resultLines(resultOf([long]), false).map(({ length }) => length);
    expect(Math.max(...widths)).toBeLessThanOrEqual(96);
  });
});

describe('the document', () => {
  test('has the shape of a suite, the claims and a vector for each subject', () => {
    const document = verifyDocument(resultOf(CLAIMS), 12);
    expect(document.runs[0]).toMatchObject({
      parameters: { input: 'evidence.json', policy: 'house', at: '2026-09-01T00:00:00.000Z' },
      metrics: {
        verdict: 'refused',
        claimsVerified: 4,
        claimsRefused: 2,
        claimsUnverified: 2,
        elapsedMs: 12,
      },
    });
    expect(document.claims).toHaveLength(CLAIMS.length);
    expect(document.appraisals).toEqual({
      'GPU-0': { status: 'warning', vector: { 'instance-identity': 32, executables: 2 } },
      'GPU-1': {
        status: 'contraindicated',
        vector: { 'instance-identity': 96, configuration: 32 },
      },
      SERVER: { status: 'none', vector: { 'instance-identity': 0 } },
    });
  });
});

describe('the signed token', () => {
  const signer = async (alg: string) => {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
    const keyPem = await exportPKCS8(privateKey);
    return { keyPem, publicPem: await exportSPKI(publicKey) };
  };
  const made = { build: 'test 1', issuedAtMs: AT_MS + 5000 };

  test('is an EAT that verifies with ES384 and says the same', async () => {
    const { keyPem, publicPem } = await signer('ES384');
    const token = await signResult(resultOf(CLAIMS), await readSigningKey(keyPem), made);
    const key = await importSPKI(publicPem, 'ES384');
    const { payload, protectedHeader } = await jwtVerify(token, key, { algorithms: ['ES384'] });
    expect(protectedHeader).toEqual({ alg: 'ES384', typ: 'eat+jwt' });
    expect(payload).toMatchObject({
      eat_profile: 'tag:github.com,2023:veraison/ear',
      eat_nonce: 'ab'.repeat(32),
      iat: AT_MS / 1000 + 5,
      'bridgekeeper.judged-as-of': AT_MS / 1000,
      submods: {
        'GPU-1': { 'ear.status': 'contraindicated', 'ear.appraisal-policy-id': 'house' },
        VERDICT: { 'ear.status': 'contraindicated' },
      },
    });
    const other = await importSPKI((await signer('ES384')).publicPem, 'ES384');
    await expect(jwtVerify(token, other)).rejects.toThrow();
  });

  test('needs a P-384 key', async () => {
    const unsupported = { code: 'unsupported-algorithm' };
    const { keyPem } = await signer('ES256');
    for (const pem of [keyPem, 'no key']) {
      await expect(readSigningKey(pem)).rejects.toMatchObject(unsupported);
    }
  });
});
