import { repeat, sequence } from './call-writer.ts';
import { type CallReader, readName, type ToolFormat } from './calls.ts';
import { readArguments } from './json-call.ts';
import type { Wait } from './source.ts';

const SECTION = '<|tool_calls_section_begin|>';
const SECTION_END = '<|tool_calls_section_end|>';
const CALL = '<|tool_call_begin|>';
const CALL_END = '<|tool_call_end|>';
const ARGUMENTS = '<|tool_call_argument_begin|>';

const DIGITS = repeat({ kind: 'character', ranges: [[0x30, 0x39]] }, 1, 4);

const CALLED = /^(?:functions\.)?(.+):\d+$/;

/** Kimi K2: calls have ids of the model's own, `functions.name:0`, which its template repeats. */
export const KIMI: ToolFormat = {
  tags: [SECTION, SECTION_END, CALL, CALL_END, ARGUMENTS],
  triggers: [SECTION],
  *read(calls: CallReader): Wait<void> {
    const { source } = calls;
    const [call, end] = [calls.tag(CALL), calls.tag(SECTION_END)];
    calls.open();
    yield* source.take(calls.tag(SECTION));
    for (;;) {
      yield* source.skipSpace();
      const next = yield* source.take(call, end);
      if (next === end) break;
      if (next === undefined || !(yield* readCall(calls))) return;
      calls.open();
    }
    calls.close();
    calls.swallow();
  },
  write: (writer) => {
    const calls = writer.calls((tool) => {
      const id = sequence(`functions.${tool.name}:`, DIGITS, writer.tag(ARGUMENTS));
      return sequence(writer.tag(CALL), id, writer.arguments(tool), writer.tag(CALL_END));
    }, '');
    return sequence(writer.tag(SECTION), calls, writer.tag(SECTION_END));
  },
};

function* readCall(calls: CallReader): Wait<boolean> {
  const { source } = calls;
  yield* source.skipSpace();
  const id = yield* readName(source);
  const name = id === undefined ? undefined : (CALLED.exec(id)?.[1] ?? id);
  yield* source.skipSpace();
  if (name === undefined || (yield* source.take(calls.tag(ARGUMENTS))) === undefined) return false;
  yield* source.skipSpace();
  if ((yield* source.peek()) !== '{') return false;
  calls.begin(name, id);
  if (!(yield* readArguments(calls))) return false;
  calls.end();
  yield* calls.closeWith(CALL_END);
  return true;
}
