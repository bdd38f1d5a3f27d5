import {
  ApiError,
  CONVERSATION_BOUNDS,
  checkJsonBounds,
  decodeBody,
} from '@bridgekeeper/server/edge';

/** What routing reads of a request's body; all else passes through unread. */
export interface BodyFacts {
  readonly model: string | null;
  readonly isStream: boolean;
  /** Of the conversation, as far as it counts; null: the body says nothing of the kind. */
  readonly prefix: string | null;
  /** The client's own name for what its requests have in common. */
  readonly cacheKey: string | null;
  readonly cacheSalt: string | null;
  /** A response that is kept where it was made. */
  readonly previousResponse: string | null;
}

/** More of it tells no more about where its KV is. */
const PREFIX_CHARACTERS_MAX = 4096;
/** Token ids take a value each. */
const BOUNDS = { ...CONVERSATION_BOUNDS, maxValues: 2 ** 20 };

/** Throws ApiError `invalid_json` or `invalid_value`. */
export function readBodyFacts(body: Uint8Array): BodyFacts {
  checkJsonBounds(body, BOUNDS);
  const value = parse(body);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ApiError('invalid_value', 'The body must be a JSON object.');
  }
  const fields = value as Readonly<Record<string, unknown>>;
  const text = (name: string) => {
    const field = fields[name];
    return typeof field === 'string' && field !== '' ? field : null;
  };
  return {
    model: text('model'),
    isStream: fields.stream === true,
    prefix: prefixOf(fields),
    cacheKey: text('prompt_cache_key'),
    cacheSalt: text('cache_salt'),
    previousResponse: text('previous_response_id'),
  };
}

function parse(body: Uint8Array): unknown {
  try {
    return JSON.parse(decodeBody(body));
  } catch {
    // The parser's own message quotes the body.
    throw new ApiError('invalid_json', 'The body is not valid JSON.');
  }
}

/**
 * What a conversation begins with: tools, instructions and its messages up to the first of the
 * user. It stays the same while the conversation grows, so that its turns meet again.
 */
function prefixOf(fields: Readonly<Record<string, unknown>>): string | null {
  const { tools, system, instructions, messages, prompt, input } = fields;
  const turns = Array.isArray(messages) ? messages : Array.isArray(input) ? input : undefined;
  const opening = turns === undefined ? (prompt ?? input) : openingOf(turns);
  if (opening === undefined || opening === null) return null;
  const parts = [tools, system, instructions, opening].filter((part) => part != null);
  let text = '';
  for (const part of parts) {
    if (text.length >= PREFIX_CHARACTERS_MAX) break;
    text += typeof part === 'string' ? part.slice(0, PREFIX_CHARACTERS_MAX) : JSON.stringify(part);
  }
  return text.slice(0, PREFIX_CHARACTERS_MAX);
}

/** Turns up to the first of the user. */
function openingOf(turns: readonly unknown[]): readonly unknown[] {
  const at = turns.findIndex(
    (turn) => typeof turn === 'object' && turn !== null && 'role' in turn && turn.role === 'user',
  );
  return at < 0 ? turns : turns.slice(0, at + 1);
}
