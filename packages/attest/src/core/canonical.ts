import canonicalize from 'canonicalize';
import { type Bytes, utf8 } from './bytes.ts';
import { invariant } from './invariant.ts';

// The package is CommonJS whose types say otherwise: what is imported is the function itself.
const serialize = canonicalize as unknown as (value: unknown) => string | undefined;

/** The JSON Canonicalization Scheme (RFC 8785) of plain data, as UTF-8. */
export function canonicalBytes(value: unknown): Bytes {
  const text = serialize(value);
  invariant(text !== undefined, 'only plain data has a canonical form');
  return utf8(text);
}
