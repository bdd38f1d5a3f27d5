import { Dict, JsonError, readJsonValue } from '@bridgekeeper/engine/text';
import { decodeBody } from '../http/body.ts';
import { ApiError } from '../http/errors.ts';
import { memberText } from '../http/json-bounds.ts';

/**
 * A body, which is an object, with what `JSON.parse` loses: keys in order, 1.0 apart from 1, and
 * long integers whole. What was read so stays as it is. Throws ApiError `invalid_json` for what is
 * nested too deeply.
 */
export function exactBody(received: Uint8Array | Dict): Dict {
  if (received instanceof Dict) return received;
  try {
    return readJsonValue(decodeBody(received)) as Dict;
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new ApiError('invalid_json', `The body ${error.message}.`, undefined, { cause: error });
  }
}

/**
 * The body, which was parsed, as it is validated: a seed that a double cannot hold is a bigint.
 * Only the seed is read again, however large the rest is.
 */
export function withExactSeed(body: unknown, received: Uint8Array): unknown {
  const seed = (body as { seed?: unknown } | null)?.seed;
  if (typeof seed !== 'number' || Number.isSafeInteger(seed)) return body;
  const text = memberText(received, 'seed');
  return text === undefined ? body : { ...(body as object), seed: readJsonValue(text) };
}
