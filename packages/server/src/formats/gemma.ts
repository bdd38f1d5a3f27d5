import { sequence } from './call-writer.ts';
import { type CallReader, readName, type ToolFormat } from './calls.ts';
import { jsonText, readItems } from './python.ts';
import type { Source, Wait } from './source.ts';

/** How a model of the family spells its tags. */
interface Spelling {
  readonly open: string;
  readonly close: string;
  /** Before and after a string, in which nothing is escaped. */
  readonly quote: string;
}

const MAX_DEPTH = 200;
const MAX_BARE_UNITS = 400;
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/;
const BARE = /[^,:{}[\]\n\udc00-\udc3f]/;

/** FunctionGemma and Gemma 4: `call:name{key:value}` with quotes of their own. */
function gemma({ open, close, quote }: Spelling): ToolFormat {
  return {
    tags: [open, close, quote],
    triggers: [open],
    *read(calls: CallReader): Wait<void> {
      const { source } = calls;
      calls.open();
      yield* source.take(calls.tag(open));
      yield* source.skipSpace();
      if ((yield* source.take('call:')) === undefined) return;
      const name = yield* readName(source);
      if (name === undefined || (yield* source.peek()) !== '{') return;
      calls.begin(name);
      const told = (json: string) => calls.arguments(json);
      if (!(yield* readObject(source, calls.tag(quote), told, 0))) return;
      calls.end();
      yield* calls.closeWith(close);
    },
    write: (writer) =>
      writer.calls((tool) => {
        const body = writer.braced(tool, quote);
        return sequence(writer.tag(open), `call:${tool.name}`, body, writer.tag(close));
      }, ''),
  };
}

export const FUNCTION_GEMMA = gemma({
  open: '<start_function_call>',
  close: '<end_function_call>',
  quote: '<escape>',
});
export const GEMMA4 = gemma({ open: '<|tool_call>', close: '<tool_call|>', quote: '<|"|>' });

type Told = (json: string) => void;

function* readValue(source: Source, quote: string, told: Told, depth: number): Wait<boolean> {
  const quoted = yield* readQuoted(source, quote, told);
  if (quoted !== undefined) return quoted;
  const next = yield* source.peek();
  if (next === '{') return yield* readObject(source, quote, told, depth + 1);
  if (next === '[') return yield* readList(source, quote, told, depth + 1);
  const word = (yield* source.word(BARE, MAX_BARE_UNITS))?.trim();
  if (word === undefined || word === '') return false;
  const isLiteral = NUMBER.test(word) || ['true', 'false', 'null'].includes(word);
  told(isLiteral ? word : JSON.stringify(word));
  return true;
}

/** undefined: there is no quote here. */
function* readQuoted(source: Source, quote: string, told: Told): Wait<boolean | undefined> {
  if ((yield* source.take(quote)) === undefined) return undefined;
  told('"');
  const end = yield* source.until([quote], (text) => told(jsonText(text)));
  if (end === undefined) return false;
  source.read(end.length);
  told('"');
  return true;
}

function* readObject(source: Source, quote: string, told: Told, depth: number): Wait<boolean> {
  if (depth > MAX_DEPTH) return false;
  source.read(1);
  told('{');
  const isWhole = yield* readItems(source, '}', function* (before) {
    if (before > 0) told(',');
    const quoted = yield* readQuoted(source, quote, told);
    if (quoted === false) return false;
    if (quoted === undefined) {
      const key = (yield* source.word(BARE, MAX_BARE_UNITS))?.trim();
      if (key === undefined || key === '') return false;
      told(JSON.stringify(key));
    }
    if ((yield* source.take(':')) === undefined) return false;
    told(':');
    yield* source.skipSpace();
    return yield* readValue(source, quote, told, depth);
  });
  if (!isWhole) return false;
  told('}');
  return true;
}

function* readList(source: Source, quote: string, told: Told, depth: number): Wait<boolean> {
  if (depth > MAX_DEPTH) return false;
  source.read(1);
  told('[');
  const isWhole = yield* readItems(source, ']', function* (before) {
    if (before > 0) told(',');
    return yield* readValue(source, quote, told, depth);
  });
  if (!isWhole) return false;
  told(']');
  return true;
}
