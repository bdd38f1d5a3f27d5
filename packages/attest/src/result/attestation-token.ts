import type { webcrypto } from 'node:crypto';
import { toHex } from '../core/bytes.ts';
import { AttestError } from '../core/errors.ts';
import { countByStatus, type VerifyResult } from './result.ts';
import { appraisalsOf } from './trust-vector.ts';

const ALGORITHM = 'ES384';
/** The profile of draft-ietf-rats-ear, as its implementations (Veraison, Trustee) name it. */
const PROFILE = 'tag:github.com,2023:veraison/ear';

/** Who made a token and when; what it says is of the result's own moment. */
export interface TokenMaker {
  /** Of this program, as `ear.verifier-id` names it. */
  readonly build: string;
  /** In ms since 1970. */
  readonly issuedAtMs: number;
}

/** Reads a P-384 key (PKCS #8 PEM). Throws AttestError 'unsupported-algorithm' for another one. */
export async function readSigningKey(pem: string): Promise<webcrypto.CryptoKey> {
  const { importPKCS8 } = await import('jose');
  try {
    return await importPKCS8(pem, ALGORITHM);
  } catch (cause) {
    const need = 'the signing key must be an ECDSA P-384 key as PKCS #8 PEM';
    throw new AttestError('unsupported-algorithm', need, { cause });
  }
}

/**
 * The result as a signed token for relying parties that trust this verifier: an EAT attestation
 * result (EAR), JWT, ES384. Beside one submodule for each subject it has `VERDICT`, whose status is
 * that of the whole.
 */
export async function signResult(
  result: VerifyResult,
  key: webcrypto.CryptoKey,
  maker: TokenMaker,
): Promise<string> {
  const { SignJWT } = await import('jose');
  return new SignJWT(earPayload(result, maker))
    .setProtectedHeader({ alg: ALGORITHM, typ: 'eat+jwt' })
    .sign(key);
}

function earPayload(result: VerifyResult, { build, issuedAtMs }: TokenMaker) {
  const { atMs, verdict, claims, nonce } = result;
  const policyId = { 'ear.appraisal-policy-id': verdict.policy };
  const submods = Object.entries(appraisalsOf(result)).map(([subject, { status, vector }]) => [
    subject,
    { 'ear.status': status, 'ear.trustworthiness-vector': vector, ...policyId },
  ]);
  const isGood = verdict.result === 'verified';
  const whole = {
    'ear.status': isGood ? 'affirming' : 'contraindicated',
    ...policyId,
    'bridgekeeper.reasons': verdict.reasons.map(({ subject, kind }) => `${subject} ${kind}`),
    'bridgekeeper.claims': countByStatus(claims),
  };
  return {
    eat_profile: PROFILE,
    iat: Math.floor(issuedAtMs / 1000),
    'bridgekeeper.judged-as-of': Math.floor(atMs / 1000),
    'ear.verifier-id': { developer: 'bridgekeeper', build },
    ...(nonce !== null && { eat_nonce: toHex(nonce) }),
    submods: { ...Object.fromEntries(submods), VERDICT: whole },
  };
}
