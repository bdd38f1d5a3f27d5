import { CompactSign, exportJWK } from 'jose';
import { type Bytes, utf8 } from '../core/bytes.ts';
import { sha256Hex } from '../core/digest.ts';
import { NRAS_ISSUER } from '../nras/appraise.ts';
import { generateKeys } from './certificates.ts';

type Json = Readonly<Record<string, unknown>>;

/** What a test token says; whatever is left out is as in a good one. */
export interface TestToken {
  readonly nonce: string;
  /** Of each device, by name: what differs from a good device's claims. */
  readonly devices: Readonly<Record<string, Json>>;
  /** What differs from good claims over all. */
  readonly overall?: Json;
  /** In seconds since 1970. */
  readonly issuedAt?: number;
}

/** A service that signs detached EATs as NVIDIA's does. */
export interface TokenService {
  /** Its key set, JSON. */
  readonly keys: Bytes;
  /** The token, JSON. */
  issue(token: TestToken): Promise<Bytes>;
}

export async function makeTokenService(): Promise<TokenService> {
  const pair = await generateKeys('P-384');
  const kid = 'test-key';
  const keys = utf8(JSON.stringify({ keys: [{ ...(await exportJWK(pair.publicKey)), kid }] }));
  const sign = (claims: Json) =>
    new CompactSign(utf8(JSON.stringify(claims)))
      .setProtectedHeader({ alg: 'ES384', kid })
      .sign(pair.privateKey);
  return { keys, issue: (token) => issue(token, sign) };
}

async function issue(
  { nonce, devices, overall = {}, issuedAt = 1_780_000_000 }: TestToken,
  sign: (claims: Json) => Promise<string>,
): Promise<Bytes> {
  const common = { iss: NRAS_ISSUER, eat_nonce: nonce, nbf: issuedAt, exp: issuedAt + 3600 };
  const good = { ...common, measres: 'success', secboot: true, dbgstat: 'disabled' };
  const parts: Record<string, string> = {};
  const submods: Record<string, unknown> = {};
  for (const [name, changes] of Object.entries(devices)) {
    const text = await sign({ ...good, ...changes });
    parts[name] = text;
    submods[name] = ['DIGEST', ['SHA-256', await sha256Hex(utf8(text))]];
  }
  const whole = { ...common, 'x-nvidia-overall-att-result': true, submods, ...overall };
  return utf8(JSON.stringify([['JWT', await sign(whole)], parts]));
}
