import { z } from 'zod';
import { type Bytes, fromUtf8 } from '../core/bytes.ts';
import { demand } from '../core/errors.ts';
import { parseJson, readShape } from '../core/json-shape.ts';

const KEYS_BYTES_MAX = 256 * 1024;
const WHAT = 'the key set';

const coordinate = z.string().regex(/^[A-Za-z0-9_-]{1,128}$/);
const jwk = z.looseObject({ kty: z.string(), kid: z.string().optional() });
const keySet = z.looseObject({ keys: z.array(jwk).min(1).max(256) });
const p384 = z.looseObject({
  kty: z.literal('EC'),
  crv: z.literal('P-384'),
  x: coordinate,
  y: coordinate,
});

/** A public key of a token service: a point on P-384. */
export interface TokenKey {
  readonly kty: 'EC';
  readonly crv: 'P-384';
  readonly x: string;
  readonly y: string;
}

/** The keys that can sign tokens, by their id. */
export type TokenKeys = ReadonlyMap<string, TokenKey>;

/**
 * Reads a JSON Web Key Set; keys of other kinds than P-384 are left out. Throws AttestError
 * 'malformed' (an id twice, too) or 'too-large'.
 */
export function readTokenKeys(bytes: Bytes): TokenKeys {
  const json = parseJson(fromUtf8(bytes, WHAT), KEYS_BYTES_MAX, WHAT);
  const found = new Map<string, TokenKey>();
  for (const key of readShape(keySet, json, WHAT).keys) {
    const fits = p384.safeParse(key);
    if (!fits.success || key.kid === undefined) continue;
    demand(!found.has(key.kid), 'malformed', `${WHAT} has the key ${key.kid} twice`);
    const { kty, crv, x, y } = fits.data;
    found.set(key.kid, { kty, crv, x, y });
  }
  return found;
}
