import type { CallReader } from './calls.ts';
import { readArguments } from './json-call.ts';
import type { Wait } from './source.ts';

/** Tags of a section that holds calls, and of each of them: DeepSeek's and Kimi's. */
export interface SectionTags {
  readonly section: string;
  readonly sectionEnd: string;
  readonly call: string;
  readonly callEnd: string;
}

/** Reads a section, each call by `readCall`, which says whether it was one. */
export function* readSection(
  calls: CallReader,
  tags: SectionTags,
  readCall: (calls: CallReader) => Wait<boolean>,
): Wait<void> {
  const { source } = calls;
  const [call, end] = [calls.tag(tags.call), calls.tag(tags.sectionEnd)];
  calls.open();
  yield* source.take(calls.tag(tags.section));
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

/** Reads a call's arguments, an object, and the end of the call. Whether both were there. */
export function* readRest(
  calls: CallReader,
  tags: SectionTags,
  name: string,
  id?: string,
): Wait<boolean> {
  const { source } = calls;
  yield* source.skipSpace();
  if ((yield* source.peek()) !== '{') return false;
  calls.begin(name, id);
  if (!(yield* readArguments(calls))) return false;
  calls.end();
  yield* calls.closeWith(tags.callEnd);
  return true;
}
