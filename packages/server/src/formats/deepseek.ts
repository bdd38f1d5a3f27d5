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
};

/** DeepSeek-V3.1: the name, and the arguments behind a separator. */
export const DEEPSEEK_V31: ToolFormat = {
  tags: TAGS,
  triggers: [SECTION],
  read: (calls) => readSection(calls, readPlain),
};

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
  yield* source.skipSpace();
  yield* source.take(calls.tag(CALL_END));
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
  yield* source.skipSpace();
  yield* source.take(calls.tag(CALL_END));
  return true;
}
