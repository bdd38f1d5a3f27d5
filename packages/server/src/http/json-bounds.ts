import { ApiError } from './errors.ts';

/** What a JSON text may be made of. Its length is bounded where it is read. */
export interface JsonBounds {
  /** Of arrays and objects within each other. */
  readonly maxDepth: number;
  /** Arrays and objects. */
  readonly maxContainers: number;
  /** Keys of all objects. */
  readonly maxKeys: number;
  /** Entries of all arrays and objects, but the first of each. */
  readonly maxValues: number;
}

/** Of arrays and objects within each other. Schemas of tools have some ten. */
const MAX_DEPTH = 200;

/**
 * For conversations. One of a thousand messages with a hundred tools has some 10,000 of each. It is
 * read twice, the second time with every number as it was spelt.
 */
export const CONVERSATION_BOUNDS: JsonBounds = {
  maxDepth: MAX_DEPTH,
  maxContainers: 2 ** 15,
  maxKeys: 2 ** 15,
  maxValues: 2 ** 16,
};

/** For token ids: a whole context of them, and 64 prompts of 4096 besides. */
export function tokenBounds(contextTokens: number): JsonBounds {
  return { ...CONVERSATION_BOUNDS, maxValues: 2 ** 18 + contextTokens };
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const ARRAY = 0x5b;
const ARRAY_END = 0x5d;
const OBJECT = 0x7b;
const OBJECT_END = 0x7d;

/**
 * Counts what a JSON text is made of before a parser builds it: what costs a client a byte can cost
 * a hundred here. Throws ApiError `invalid_value`, at the first byte over a bound. Of a text that
 * is no JSON it may say anything: the parser refuses that.
 */
export function checkJsonBounds(body: Uint8Array, bounds: JsonBounds): void {
  let depth = 0;
  let containers = 0;
  let keys = 0;
  let values = 0;
  for (let at = 0; at < body.length; at++) {
    switch (body[at]) {
      case QUOTE:
        at = endOfString(body, at);
        break;
      case COMMA:
        values += 1;
        if (values > bounds.maxValues) throw tooMany('values', bounds.maxValues);
        break;
      case COLON:
        keys += 1;
        if (keys > bounds.maxKeys) throw tooMany('keys', bounds.maxKeys);
        break;
      case ARRAY:
      case OBJECT:
        depth += 1;
        containers += 1;
        if (depth > bounds.maxDepth) {
          const message = `The body is nested deeper than ${bounds.maxDepth} levels.`;
          throw new ApiError('invalid_value', message);
        }
        if (containers > bounds.maxContainers) {
          throw tooMany('arrays and objects', bounds.maxContainers);
        }
        break;
      case ARRAY_END:
      case OBJECT_END:
        depth -= 1;
        break;
    }
  }
}

/**
 * The text of the last member of that name in a body, which is an object of JSON; undefined where
 * there is none. A look over the bytes, where parsing all of them would be for nothing.
 */
export function memberText(body: Uint8Array, name: string): string | undefined {
  let depth = 0;
  let keyStart = 0;
  let keyEnd = 0;
  let valueStart: number | undefined;
  let found: string | undefined;
  const text = (from: number, to: number) => new TextDecoder().decode(body.subarray(from, to));
  for (let at = 0; at < body.length; at++) {
    const byte = body[at];
    if (byte === QUOTE) {
      const end = endOfString(body, at);
      [keyStart, keyEnd] = [at, end + 1];
      at = end;
    } else if (byte === COLON && depth === 1) {
      // The last string before it.
      if (isName(text(keyStart, keyEnd), name)) valueStart = at + 1;
    } else if ((byte === COMMA || byte === OBJECT_END) && depth === 1) {
      if (valueStart !== undefined) found = text(valueStart, at).trim();
      valueStart = undefined;
    }
    if (byte === ARRAY || byte === OBJECT) depth += 1;
    else if (byte === ARRAY_END || byte === OBJECT_END) depth -= 1;
  }
  return found;
}

function isName(key: string, name: string): boolean {
  return key === JSON.stringify(name) || (key.includes('\\') && JSON.parse(key) === name);
}

/** Where the string ends that begins at `start`; the body's length where it does not. */
function endOfString(body: Uint8Array, start: number): number {
  let end = start;
  for (;;) {
    end = body.indexOf(QUOTE, end + 1);
    if (end === -1) return body.length;
    let before = end - 1;
    while (body[before] === BACKSLASH) before -= 1;
    // An even number of backslashes is as many escaped backslashes.
    if ((end - before) % 2 === 1) return end;
  }
}

const tooMany = (what: string, most: number) =>
  new ApiError('invalid_value', `The body has more than ${most} ${what}, the most that is read.`);
