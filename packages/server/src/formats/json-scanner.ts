import type { Source, Wait } from './source.ts';
import { isMark } from './tags.ts';

/** Arrays and objects within each other, as in requests. */
const MAX_DEPTH = 200;

const NUMBER_UNIT = /[-+.\deE]/;
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/;
const MAX_NUMBER_UNITS = 400;
const LITERALS = { t: 'true', f: 'false', n: 'null' } as const;
const HEX = /[\da-fA-F]/;

/**
 * Reads one value of JSON, no more, and tells its text as it is read. Whether it is well-formed:
 * where not, what is wrong is the first thing unread.
 */
export function* readJson(source: Source, told: (text: string) => void, depth = 0): Wait<boolean> {
  const unit = yield* source.peek();
  if (unit === '"') return yield* readString(source, told);
  if (unit === '{' || unit === '[') return yield* readNested(source, told, depth + 1);
  if (unit === 't' || unit === 'f' || unit === 'n') {
    const literal = yield* source.take(LITERALS[unit]);
    if (literal !== undefined) told(literal);
    return literal !== undefined;
  }
  const number = yield* source.word(NUMBER_UNIT, MAX_NUMBER_UNITS);
  if (number === undefined || !NUMBER.test(number)) return false;
  told(number);
  return true;
}

function* readString(source: Source, told: (text: string) => void): Wait<boolean> {
  told(source.read(1));
  for (;;) {
    if (!(yield* source.hasMore())) return false;
    const { unread } = source;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what JSON escapes
    const end = unread.search(/["\\\0-\x1f\udc00-\udc3f]/u);
    if (end !== 0) {
      told(source.read(end < 0 ? unread.length : end));
      continue;
    }
    if (unread[0] === '"') {
      told(source.read(1));
      return true;
    }
    if (source.quotesMarks && isMark(unread[0]!)) {
      told(JSON.stringify(source.spelled(source.read(1))).slice(1, -1));
    } else if (unread[0] !== '\\' || !(yield* readEscape(source, told))) return false;
  }
}

function* readEscape(source: Source, told: (text: string) => void): Wait<boolean> {
  let sequence = source.read(1);
  const kind = yield* source.peek();
  if (kind === '' || !'"\\/bfnrtu'.includes(kind)) return false;
  sequence += source.read(1);
  for (let digits = 0; kind === 'u' && digits < 4; digits++) {
    if (!HEX.test(yield* source.peek())) return false;
    sequence += source.read(1);
  }
  told(sequence);
  return true;
}

/** An object or an array, from its bracket on. */
function* readNested(source: Source, told: (text: string) => void, depth: number): Wait<boolean> {
  if (depth > MAX_DEPTH) return false;
  const isObject = (yield* source.peek()) === '{';
  const closing = isObject ? '}' : ']';
  told(source.read(1));
  for (let count = 0; ; count++) {
    yield* skipSpace(source, told);
    const unit = yield* source.peek();
    if (unit === closing && count === 0) break;
    if (isObject) {
      if (unit !== '"' || !(yield* readString(source, told))) return false;
      yield* skipSpace(source, told);
      if ((yield* source.peek()) !== ':') return false;
      told(source.read(1));
      yield* skipSpace(source, told);
    }
    if (!(yield* readJson(source, told, depth))) return false;
    yield* skipSpace(source, told);
    const next = yield* source.peek();
    if (next === closing) break;
    if (next !== ',') return false;
    told(source.read(1));
  }
  told(source.read(1));
  return true;
}

function* skipSpace(source: Source, told: (text: string) => void): Wait<void> {
  for (let unit = yield* source.peek(); unit !== '' && ' \t\n\r'.includes(unit); ) {
    told(source.read(1));
    unit = yield* source.peek();
  }
}
