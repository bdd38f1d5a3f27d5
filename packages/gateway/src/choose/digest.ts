import { createHmac } from 'node:crypto';

/** By what a request finds its replica: says nothing of the text to those without the key. */
export interface RouteDigest {
  readonly high: number;
  readonly low: number;
  /** For counting requests of one prefix. */
  readonly name: string;
}

/**
 * The digest of a prefix under the fleet's key, salted by the tenant: equal prompts of two tenants
 * have nothing in common, and nobody without the key can aim prompts at one replica.
 */
export function routeDigest(
  prefixKey: string,
  tenantSalt: string,
  ...parts: readonly (string | Uint8Array)[]
): RouteDigest {
  const hmac = createHmac('sha256', Buffer.from(prefixKey, 'base64url'));
  for (const part of [tenantSalt, ...parts]) {
    // With their lengths, so that no two lists of parts are one text.
    const bytes = typeof part === 'string' ? Buffer.from(part) : part;
    hmac.update(`${bytes.length}:`).update(bytes);
  }
  const digest = hmac.digest();
  return {
    high: digest.readUInt32LE(0),
    low: digest.readUInt32LE(4),
    name: digest.toString('base64', 8, 20),
  };
}
