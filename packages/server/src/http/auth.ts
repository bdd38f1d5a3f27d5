import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { ApiError } from './errors.ts';

/** Who may call, and whose KV a call may share. */
export class KeyRing {
  readonly #digests: readonly Buffer[];

  constructor(keys: readonly string[]) {
    this.#digests = keys.map(digest);
  }

  /**
   * The tenant of a request: a prefix of its key's digest, or 'default' where no keys are set.
   * Throws ApiError `invalid_api_key`. Every key is compared in constant time, so that timing tells
   * nothing of any.
   */
  tenantOf(authorization: string | undefined): string {
    if (this.#digests.length === 0) return 'default';
    const token = /^Bearer (.+)$/i.exec(authorization ?? '')?.[1];
    const given = digest(token ?? '');
    let known = false;
    for (const each of this.#digests) known = timingSafeEqual(each, given) || known;
    if (token === undefined || !known) {
      throw new ApiError(
        'invalid_api_key',
        token === undefined
          ? 'This server needs an API key: send "Authorization: Bearer <key>".'
          : 'The API key is not known here.',
      );
    }
    return tenantOfKey(token);
  }

  /**
   * Whether this proves one of the keys for a report with this nonce, without showing it: a client
   * does not yet know who answers. HMAC-SHA-256 under the key's SHA-256, in hex. Nobody else can
   * make it, and it is good for nothing but this report.
   */
  provesKey(authorization: string | undefined, nonceHex: string | undefined): boolean {
    const given = /^Bridgekeeper-Proof ([0-9a-f]{64})$/.exec(authorization ?? '')?.[1];
    if (given === undefined || nonceHex === undefined) return false;
    const proof = Buffer.from(given, 'hex');
    let known = false;
    for (const each of this.#digests) {
      const expected = createHmac('sha256', each).update(`bridgekeeper.report.v1 ${nonceHex}`);
      known = timingSafeEqual(expected.digest(), proof) || known;
    }
    return known;
  }
}

/** What a key's owner is called, in the engine, in receipts and in logs. */
export function tenantOfKey(key: string): string {
  return digest(key).toString('hex', 0, 8);
}

/** A `cache_salt` narrows a tenant: requests share KV only where both agree. */
export function saltedTenant(tenant: string, salt: string | null | undefined): string {
  return salt == null ? tenant : `${tenant}-${digest(salt).toString('hex', 0, 8)}`;
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
