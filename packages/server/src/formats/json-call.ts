import type { CallReader } from './calls.ts';
import { readJson } from './json-scanner.ts';
import type { Wait } from './source.ts';

/**
 * Reads `{"name": …, "arguments": {…}}`, or `parameters`, in any order, other members left out.
 * `knownOnly`: with another name than one of the tools' it is no call. Whether it was one.
 */
export function* readJsonCall(calls: CallReader, knownOnly = false): Wait<boolean> {
  const { source } = calls;
  let name: string | undefined;
  let held: string | undefined;
  let hasBegun = false;
  const isCallable = () => name !== undefined && (!knownOnly || calls.tools.has(name));
  if ((yield* source.take('{')) === undefined) return false;
  do {
    yield* source.skipSpace();
    const key = yield* readLiteral(calls);
    yield* source.skipSpace();
    if (key === undefined || (yield* source.take(':')) === undefined) return false;
    yield* source.skipSpace();
    if (key === 'name' && name === undefined) {
      name = yield* readLiteral(calls);
      if (!isCallable()) return false;
    } else if ((key === 'arguments' || key === 'parameters') && held === undefined && !hasBegun) {
      if (name === undefined) {
        held = yield* readHeld(calls);
        if (held === undefined) return false;
      } else {
        calls.begin(name);
        hasBegun = true;
        if (!(yield* readArguments(calls))) return false;
      }
    } else if (!(yield* readSkipped(calls))) return false;
    if (source.isFull) return false;
    yield* source.skipSpace();
  } while ((yield* source.take(',')) !== undefined);
  if ((yield* source.take('}')) === undefined || name === undefined) return false;
  if (!hasBegun) {
    calls.begin(name);
    calls.arguments(held ?? '{}');
  }
  calls.end();
  return true;
}

/** Reads the object of a call's arguments, told as it comes. */
export function* readArguments(calls: CallReader): Wait<boolean> {
  if ((yield* calls.source.peek()) !== '{') return false;
  return yield* readJson(calls.source, (text) => calls.arguments(text));
}

/** The value of a JSON string. */
function* readLiteral(calls: CallReader): Wait<string | undefined> {
  if ((yield* calls.source.peek()) !== '"') return undefined;
  let text = '';
  const isWhole = yield* readJson(calls.source, (piece) => (text += piece));
  return isWhole && !calls.source.isFull ? (JSON.parse(text) as string) : undefined;
}

/** Arguments that come before the name: they are held until it is known. */
function* readHeld(calls: CallReader): Wait<string | undefined> {
  if ((yield* calls.source.peek()) !== '{') return undefined;
  let text = '';
  const isWhole = yield* readJson(calls.source, (piece) => (text += piece));
  return isWhole && !calls.source.isFull ? text : undefined;
}

function* readSkipped(calls: CallReader): Wait<boolean> {
  return yield* readJson(calls.source, () => {});
}
