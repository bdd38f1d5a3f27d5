import { repeat, sequence } from './call-writer.ts';
import { type CallReader, readName, type ToolFormat } from './calls.ts';
import { readRest, readSection, type SectionTags } from './sections.ts';
import type { Wait } from './source.ts';

const TAGS: SectionTags = {
  section: '<|tool_calls_section_begin|>',
  sectionEnd: '<|tool_calls_section_end|>',
  call: '<|tool_call_begin|>',
  callEnd: '<|tool_call_end|>',
};
const ARGUMENTS = '<|tool_call_argument_begin|>';

const DIGITS = repeat({ kind: 'character', ranges: [[0x30, 0x39]] }, 1, 4);

const CALLED = /^(?:functions\.)?(.+):\d+$/;

/** Kimi K2: calls have ids of the model's own, `functions.name:0`, which its template repeats. */
export const KIMI: ToolFormat = {
  tags: [...Object.values(TAGS), ARGUMENTS],
  triggers: [TAGS.section],
  read: (calls) => readSection(calls, TAGS, readCall),
  write: (writer) => {
    const calls = writer.calls((tool) => {
      const id = sequence(`functions.${tool.name}:`, DIGITS, writer.tag(ARGUMENTS));
      return sequence(writer.tag(TAGS.call), id, writer.arguments(tool), writer.tag(TAGS.callEnd));
    }, '');
    return sequence(writer.tag(TAGS.section), calls, writer.tag(TAGS.sectionEnd));
  },
};

function* readCall(calls: CallReader): Wait<boolean> {
  const { source } = calls;
  yield* source.skipSpace();
  const id = yield* readName(source);
  const name = id === undefined ? undefined : (CALLED.exec(id)?.[1] ?? id);
  yield* source.skipSpace();
  if (name === undefined || (yield* source.take(calls.tag(ARGUMENTS))) === undefined) return false;
  return yield* readRest(calls, TAGS, name, id);
}
