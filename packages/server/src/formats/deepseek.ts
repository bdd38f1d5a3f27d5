import type { Expression } from '@bridgekeeper/engine/grammar';
import { type CallWriter, type GrammarTool, sequence } from './call-writer.ts';
import { type CallReader, readName, type ToolFormat } from './calls.ts';
import { readArguments } from './json-call.ts';
import { readRest, readSection, type SectionTags } from './sections.ts';
import type { Wait } from './source.ts';

const SECTION: SectionTags = {
  section: '<｜tool▁calls▁begin｜>',
  sectionEnd: '<｜tool▁calls▁end｜>',
  call: '<｜tool▁call▁begin｜>',
  callEnd: '<｜tool▁call▁end｜>',
};
const SEPARATOR = '<｜tool▁sep｜>';
const FENCE = '```';

const TAGS = [...Object.values(SECTION), SEPARATOR];

/** DeepSeek-V3 and R1: a type, the name, and the arguments in a fence. */
export const DEEPSEEK_V3: ToolFormat = {
  tags: TAGS,
  triggers: [SECTION.section],
  read: (calls) => readSection(calls, SECTION, readFenced),
  write: (writer) =>
    writeSection(writer, '\n', (tool) => {
      const open = sequence('function', writer.tag(SEPARATOR), `${tool.name}\n${FENCE}json\n`);
      return sequence(open, writer.arguments(tool), `\n${FENCE}`);
    }),
};

/** DeepSeek-V3.1: the name, and the arguments behind a separator. */
export const DEEPSEEK_V31: ToolFormat = {
  tags: TAGS,
  triggers: [SECTION.section],
  read: (calls) => readSection(calls, SECTION, readPlain),
  write: (writer) =>
    writeSection(writer, '', (tool) =>
      sequence(tool.name, writer.tag(SEPARATOR), writer.arguments(tool)),
    ),
};

function writeSection(
  writer: CallWriter,
  between: string,
  write: (tool: GrammarTool) => Expression,
): Expression {
  const calls = writer.calls(
    (tool) => sequence(writer.tag(SECTION.call), write(tool), writer.tag(SECTION.callEnd)),
    between,
  );
  return sequence(writer.tag(SECTION.section), calls, writer.tag(SECTION.sectionEnd));
}

function* readFenced(calls: CallReader): Wait<boolean> {
  const { source } = calls;
  const type = yield* readName(source);
  if (type === undefined || (yield* source.take(calls.tag(SEPARATOR))) === undefined) return false;
  const name = yield* readName(source);
  if (name === undefined) return false;
  yield* source.skipSpace();
  const isFenced = (yield* source.take(`${FENCE}json`, FENCE)) !== undefined;
  yield* source.skipSpace();
  if ((yield* source.peek()) !== '{') return false;
  calls.begin(name);
  if (!(yield* readArguments(calls))) return false;
  yield* source.skipSpace();
  if (isFenced && (yield* source.take(FENCE)) === undefined) return false;
  calls.end();
  yield* calls.closeWith(SECTION.callEnd);
  return true;
}

function* readPlain(calls: CallReader): Wait<boolean> {
  const { source } = calls;
  const name = yield* readName(source);
  if (name === undefined || (yield* source.take(calls.tag(SEPARATOR))) === undefined) return false;
  return yield* readRest(calls, SECTION, name);
}
