import { createHash } from 'node:crypto';

/**
 * The key of a page's content: a SHA-256 chain over tenant and tokens, so that equal keys mean
 * equal prefixes of the same tenant. The tenant is hashed into the first link: no key of one tenant
 * can be reached from another's request.
 */
export function rootKey(tenant: string): string {
  return createHash('sha256').update('tenant\0').update(tenant).digest('binary');
}

/** The key of the page that holds `tokens` after the prefix with key `parent`. */
export function pageKey(parent: string, tokens: Uint32Array): string {
  return createHash('sha256')
    .update(parent, 'latin1')
    .update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength))
    .digest('binary');
}
