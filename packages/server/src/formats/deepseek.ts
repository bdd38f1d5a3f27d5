import type { Expression } from '@bridgekeeper/engine/grammar';
import { type CallWriter, type GrammarTool, sequence } from './call-writer.ts';
import { type CallReader, readName, type ToolFormat } from './calls.ts';
import { readArguments } from './json-call.ts';
import type { Wait } from './source.ts';

const SECTION = '<｜tool▁calls▁begin｜>';
const SECTION_END = '<｜tool▁calls▁end｜>';
const CALL = '<｜tool▁call▁begin｜>';
const CALL_END = '<｜tool▁call▁end｜>';
const SEPARATOR = '<｜tool▁sep｜>';
const FENCE = '```';

const TAGS = [SECTION, SECTION_END, CALL, CALL_END, SEPARATOR];

/** DeepSeek-V3 and R1: a type, the name, and the arguments in a fence. */
export const DEEPSEEK_V3: ToolFormat = {
  tags: TAGS,
  triggers: [SECTION],
  read: (calls) => readSection(calls, readFenced),
  write: (writer) =>
    writeSection(writer, '\n', (tool) => {
      const open = sequence('function', writer.tag(SEPARATOR), `${tool.name}\n${FENCE}json\n`);
      return sequence(open, writer.arguments(tool), `\n${FENCE}`);
    }),
};

/** DeepSeek-V3.1: the name, and the arguments behind a separator. */
export const DEEPSEEK_V31: ToolFormat = {
  tags: TAGS,
  triggers: [SECTION],
  read: (calls) => readSection(calls, readPlain),
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
    (tool) => sequence(writer.tag(CALL), write(tool), writer.tag(CALL_END)),
    between,
  );
  return sequence(writer.tag(SECTION), calls, writer.tag(SECTION_END));
}

function* readSection(
  calls: CallReader,
  readCall: (calls: CallReader) => Wait<boolean>,
): Wait<void> {
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
  yield* calls.closeWith(CALL_END);
  return true;
}

function* readPlain(calls: CallReader): Wait<boolean> {
  const { source } = calls;
  const name = yield* readName(source);
  if (name === undefined || (yield* source.take(calls.tag(SEPARATOR))) === undefined) return false;
  yield* source.skipSpace();
  if ((yield* source.peek()) !== '{') return false;
  calls.begin(name);
  if (!(yield* readArguments(calls))) return false;
  calls.end();
  yield* calls.closeWith(CALL_END);
  return true;
}
