import type { Source, Wait } from './source.ts';

/** Of what is held until it is known what it is: a name, a number. */
const MAX_WORD_UNITS = 400;
const MAX_DEPTH = 200;

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/;
/** Numbers of Python that JSON spells otherwise: `1.`, `.5`, `+1`, `1_000`. */
const LOOSE_NUMBER = /^[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/;
const NAMES: Readonly<Record<string, string>> = {
  True: 'true',
  False: 'false',
  None: 'null',
  true: 'true',
  false: 'false',
  null: 'null',
};
const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  b: '\b',
  f: '\f',
  a: '\u0007',
  v: '\v',
  0: '\0',
  '\\': '\\',
  "'": "'",
  '"': '"',
  '\n': '',
};
const CODE_DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

/** The inside of a JSON string. */
export function jsonText(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/**
 * Reads items with commas between them, and one behind the last if it is there, up to `closing`.
 * `readItem` is told how many came before, and says whether it was one. Whether all were there.
 */
export function* readItems(
  source: Source,
  closing: string,
  readItem: (before: number) => Wait<boolean>,
): Wait<boolean> {
  for (let count = 0; ; count++) {
    yield* source.skipSpace();
    if ((yield* source.take(closing)) !== undefined) return true;
    if (!(yield* readItem(count))) return false;
    yield* source.skipSpace();
    if ((yield* source.peek()) === closing) continue;
    if ((yield* source.take(',')) === undefined) return false;
  }
}

/**
 * Reads one literal of Python and tells it as JSON, piece by piece. Whether it was one: where not,
 * what is wrong is unread.
 */
export function* readPython(
  source: Source,
  told: (json: string) => void,
  depth = 0,
): Wait<boolean> {
  const unit = yield* source.peek();
  if (unit === '"' || unit === "'") return yield* readText(source, told);
  if (unit === '[' || unit === '(') return yield* readList(source, told, depth + 1);
  if (unit === '{') return yield* readDict(source, told, depth + 1);
  const word = yield* source.word(/[\w.+-]/, MAX_WORD_UNITS);
  const json = word === undefined ? undefined : jsonOf(word);
  if (json === undefined) return false;
  told(json);
  return true;
}

function jsonOf(word: string): string | undefined {
  if (Object.hasOwn(NAMES, word)) return NAMES[word];
  if (NUMBER.test(word)) return word;
  if (!LOOSE_NUMBER.test(word)) return undefined;
  const number = Number(word.replaceAll('_', ''));
  return Number.isFinite(number) ? JSON.stringify(number) : undefined;
}

function* readText(source: Source, told: (json: string) => void): Wait<boolean> {
  const quote = source.read(1);
  told('"');
  for (;;) {
    const stop = yield* source.until([quote, '\\'], (text) => told(jsonText(text)));
    if (stop === undefined) return false;
    source.read(1);
    if (stop === quote) break;
    const text = yield* readEscape(source);
    if (text === undefined) return false;
    told(jsonText(text));
  }
  told('"');
  return true;
}

/** What a backslash and what follows it stand for; as Python has it, any other is itself. */
function* readEscape(source: Source): Wait<string | undefined> {
  const kind = yield* source.peek();
  if (kind === '') return undefined;
  const digits = CODE_DIGITS[kind];
  if (digits === undefined) {
    if (!Object.hasOwn(ESCAPES, kind)) return '\\';
    source.read(1);
    return ESCAPES[kind];
  }
  source.read(1);
  const code = yield* source.word(/[\da-fA-F]/, digits);
  if (code === undefined || code.length !== digits) return undefined;
  const point = Number.parseInt(code, 16);
  return point <= 0x10ffff ? String.fromCodePoint(point) : undefined;
}

function* readList(source: Source, told: (json: string) => void, depth: number): Wait<boolean> {
  if (depth > MAX_DEPTH) return false;
  const closing = source.read(1) === '[' ? ']' : ')';
  told('[');
  const isWhole = yield* readItems(source, closing, function* (before) {
    if (before > 0) told(',');
    return yield* readPython(source, told, depth);
  });
  if (!isWhole) return false;
  told(']');
  return true;
}

function* readDict(source: Source, told: (json: string) => void, depth: number): Wait<boolean> {
  if (depth > MAX_DEPTH) return false;
  source.read(1);
  told('{');
  const isWhole = yield* readItems(source, '}', function* (before) {
    if (before > 0) told(',');
    const quote = yield* source.peek();
    if ((quote !== '"' && quote !== "'") || !(yield* readText(source, told))) return false;
    yield* source.skipSpace();
    if ((yield* source.take(':')) === undefined) return false;
    told(':');
    yield* source.skipSpace();
    return yield* readPython(source, told, depth);
  });
  if (!isWhole) return false;
  told('}');
  return true;
}

/** Reads calls as Python has them: `name(key=value, …)`, told as an object. From `(` on. */
export function* readKeywords(source: Source, told: (json: string) => void): Wait<boolean> {
  if ((yield* source.take('(')) === undefined) return false;
  told('{');
  const isWhole = yield* readItems(source, ')', function* (before) {
    const key = yield* source.word(/\w/, MAX_WORD_UNITS);
    if (key === undefined || key === '') return false;
    yield* source.skipSpace();
    if ((yield* source.take('=')) === undefined) return false;
    told(`${before > 0 ? ',' : ''}${JSON.stringify(key)}:`);
    yield* source.skipSpace();
    return yield* readPython(source, told);
  });
  if (!isWhole) return false;
  told('}');
  return true;
}
