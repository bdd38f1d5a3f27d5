import { sequence } from './call-writer.ts';
import { type CallReader, readName, type ToolFormat } from './calls.ts';
import { readArguments, readJsonCall } from './json-call.ts';
import type { Wait } from './source.ts';

const OPEN = '[TOOL_CALLS]';
const CALL_ID = '[CALL_ID]';
const ARGUMENTS = '[ARGS]';

/**
 * Mistral: behind the tag a list of objects of JSON, or, since the eleventh tokenizer, a name and
 * its arguments, the tag again before each further call.
 */
export const MISTRAL: ToolFormat = {
  tags: [OPEN, CALL_ID, ARGUMENTS],
  triggers: [OPEN],
  callIds: 'short',
  *read(calls: CallReader): Wait<void> {
    const { source } = calls;
    calls.open();
    yield* source.take(calls.tag(OPEN));
    yield* source.skipSpace();
    const next = yield* source.peek();
    if (next === '[') yield* readList(calls);
    else if (next === '{') {
      if (yield* readJsonCall(calls)) calls.swallow();
    } else yield* readNamed(calls);
  },
  write: (writer) => {
    const open = writer.tag(OPEN);
    if (writer.isToken(ARGUMENTS)) {
      return writer.calls((tool) => {
        return sequence(open, tool.name, writer.tag(ARGUMENTS), writer.arguments(tool));
      }, '');
    }
    const list = writer.calls((tool) => {
      const name = `{"name": ${JSON.stringify(tool.name)}, "arguments": `;
      return sequence(name, writer.arguments(tool), '}');
    }, ', ');
    return sequence(open, '[', list, ']');
  },
};

function* readList(calls: CallReader): Wait<void> {
  const { source } = calls;
  source.read(1);
  do {
    yield* source.skipSpace();
    if (!(yield* readJsonCall(calls))) return;
    calls.open();
    yield* source.skipSpace();
  } while ((yield* source.take(',')) !== undefined);
  if ((yield* source.take(']')) === undefined) return;
  calls.close();
  calls.swallow();
}

function* readNamed(calls: CallReader): Wait<void> {
  const { source } = calls;
  const name = yield* readName(source);
  if (name === undefined) return;
  let id: string | undefined;
  if ((yield* source.take(calls.tag(CALL_ID))) !== undefined) {
    id = yield* readName(source, /[A-Za-z0-9]/);
    if (id === undefined) return;
  }
  yield* source.take(calls.tag(ARGUMENTS));
  yield* source.skipSpace();
  if ((yield* source.peek()) !== '{') return;
  calls.begin(name, id);
  if (!(yield* readArguments(calls))) return;
  calls.end();
  calls.swallow();
}
