import { jsonText, readPython } from './python.ts';
import { type JsonType, schemaOfArgument, typesOf } from './schema-types.ts';
import { Source, type Wait } from './source.ts';

/** Of a value that is held until its end says what it is; a longer one is text. */
const MAX_VALUE_UNITS = 1 << 20;
const NULLS = ['null', 'None'];

/** How a value that was written as bare text becomes JSON. */
export interface ValueOptions {
  /** What ends it, which is read. */
  readonly end: string;
  /** Leaves out one line break at either end: the format's own. */
  readonly trimsLines: boolean;
}

/**
 * Reads the value of an argument, which is written without quotes, and tells it as JSON of the type
 * that the tool's schema says: text as it comes, anything else at its end. Whether it ended.
 */
export function* readTypedValue(
  source: Source,
  { end, trimsLines }: ValueOptions,
  argument: { readonly parameters: unknown; readonly name: string },
  told: (json: string) => void,
): Wait<boolean> {
  const { parameters, name } = argument;
  const types = typesOf(schemaOfArgument(parameters, name), parameters);
  if (trimsLines) yield* source.take('\n');
  const stop = trimsLines ? [`\n${end}`, end] : [end];
  const isText = types.has('string') && [...types].every((type) => TEXTUAL.has(type));
  let held: string | undefined = isText && !types.has('null') ? undefined : '';
  if (held === undefined) told('"');
  const found = yield* source.until(stop, (text) => {
    if (held === undefined) return told(jsonText(text));
    held += text;
    const isKnown = isText && !NULLS.some((each) => each.startsWith(held!));
    if (!isKnown && held.length <= MAX_VALUE_UNITS) return;
    told(`"${jsonText(held)}`);
    held = undefined;
  });
  if (found === undefined) return false;
  source.read(found.length);
  told(held === undefined ? '"' : jsonOf(held, types));
  return true;
}

const TEXTUAL: ReadonlySet<JsonType> = new Set(['string', 'null']);

/** The JSON that a text is of one of these types; a string where it is of none. */
function jsonOf(text: string, types: ReadonlySet<JsonType>): string {
  const trimmed = text.trim();
  if (types.has('null') && NULLS.includes(trimmed)) return 'null';
  if (types.has('boolean') && /^(?:true|false)$/i.test(trimmed)) return trimmed.toLowerCase();
  if ((types.has('integer') || types.has('number')) && isNumber(trimmed)) {
    const isWhole = !types.has('number') && Number.isSafeInteger(Number(trimmed));
    return isWhole ? String(BigInt(Number(trimmed))) : trimmed;
  }
  const isNested = /^[[{]/.test(trimmed) && types.has(trimmed[0] === '[' ? 'array' : 'object');
  return (isNested ? nestedJson(trimmed) : undefined) ?? JSON.stringify(text);
}

function isNumber(text: string): boolean {
  return /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/.test(text);
}

/** Of JSON, or of the literals of Python that models write in its place. */
function nestedJson(text: string): string | undefined {
  try {
    JSON.parse(text);
    return text;
  } catch {
    const source = new Source();
    source.push(text);
    source.end();
    let json = '';
    const reading = readPython(source, (piece) => (json += piece));
    return reading.next().value === true && source.unread === '' ? json : undefined;
  }
}
