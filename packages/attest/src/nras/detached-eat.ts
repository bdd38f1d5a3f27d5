import { z } from 'zod';
import { type Bytes, fromUtf8 } from '../core/bytes.ts';
import { AttestError, demand } from '../core/errors.ts';
import { parseJson, readShape } from '../core/json-shape.ts';

const TOKEN_BYTES_MAX = 1024 * 1024;
const JWT_CHARACTERS_MAX = 64 * 1024;
const SUBMODULE_COUNT_MAX = 64;
const WHAT = 'the token';

const jwt = z.string().max(JWT_CHARACTERS_MAX);
const name = z.string().regex(/^[A-Za-z][A-Za-z0-9_-]{0,63}$/);
const detached = z.tuple([z.tuple([z.literal('JWT'), jwt]), z.record(name, jwt)]);
const header = z.looseObject({ alg: z.string(), kid: z.string().optional() });
const dates = { iss: z.string(), exp: z.number(), nbf: z.number().optional() };
const nonce = z.string().regex(/^[0-9a-fA-F]{16,128}$/, 'must be hexadecimal');
const digest = z.tuple([
  z.literal('DIGEST'),
  z.tuple([z.literal('SHA-256'), z.string().regex(/^[0-9a-fA-F]{64}$/)]),
]);
const overallClaims = z.looseObject({
  ...dates,
  eat_nonce: nonce,
  'x-nvidia-overall-att-result': z.boolean(),
  submods: z.record(name, digest),
});
const deviceClaims = z.looseObject({
  ...dates,
  eat_nonce: nonce,
  measres: z.string(),
  secboot: z.boolean().nullish(),
  dbgstat: z.string().nullish(),
  ueid: z.string().max(256).optional(),
  hwmodel: z.string().max(256).optional(),
});

/** A JWT taken apart; nothing of it is verified. */
export interface OpenJwt<C> {
  readonly text: string;
  readonly algorithm: string;
  readonly keyId: string | null;
  readonly claims: C;
}
export type OverallClaims = z.output<typeof overallClaims>;
export type DeviceClaims = z.output<typeof deviceClaims>;

/** A detached EAT: one token over all, and one for each device, by the device's name. */
export interface DetachedEat {
  readonly overall: OpenJwt<OverallClaims>;
  readonly devices: ReadonlyMap<string, OpenJwt<DeviceClaims>>;
}

/**
 * Reads what NVIDIA's remote attestation service returns: `[["JWT", overall], {name: JWT}]`.
 * Throws AttestError 'malformed' or 'too-large'.
 */
export function readDetachedEat(bytes: Bytes): DetachedEat {
  const json = parseJson(fromUtf8(bytes, WHAT), TOKEN_BYTES_MAX, WHAT);
  const [[, overall], devices] = readShape(detached, json, WHAT);
  const names = Object.keys(devices);
  demand(names.length > 0, 'malformed', `${WHAT} is about no device`);
  demand(names.length <= SUBMODULE_COUNT_MAX, 'too-large', `${WHAT} has ${names.length} parts`);
  return {
    overall: openJwt(overall, overallClaims, WHAT),
    devices: new Map(
      names.map((name) => [name, openJwt(devices[name]!, deviceClaims, `${WHAT} of ${name}`)]),
    ),
  };
}

function openJwt<S extends z.ZodType>(text: string, schema: S, what: string): OpenJwt<z.output<S>> {
  const parts = text.split('.');
  const isJwt = parts.length === 3 && parts.every((part) => /^[A-Za-z0-9_-]*$/.test(part));
  demand(isJwt, 'malformed', `${what} is no JWT`);
  const [head, body] = parts.slice(0, 2).map((part) => decodePart(part, what));
  const { alg, kid } = readShape(header, head, `the header of ${what}`);
  return {
    text,
    algorithm: alg,
    keyId: kid ?? null,
    claims: readShape(schema, body, what),
  };
}

function decodePart(part: string, what: string): unknown {
  const base64 = part.replaceAll('-', '+').replaceAll('_', '/');
  try {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    return parseJson(fromUtf8(bytes, what), JWT_CHARACTERS_MAX, what);
  } catch (cause) {
    if (cause instanceof AttestError) throw cause;
    throw new AttestError('malformed', `${what} is not base64url`, { cause });
  }
}
