import { sequence } from './call-writer.ts';
import { type CallReader, readName, type ToolFormat } from './calls.ts';
import { readJsonCall } from './json-call.ts';
import { readKeywords } from './python.ts';
import type { Wait } from './source.ts';

const PYTHON_TAG = '<|python_tag|>';
const PYTHON_START = '<|python_start|>';
const PYTHON_END = '<|python_end|>';

/**
 * Llama 3.1 to 3.3: the answer is an object of JSON, or several with semicolons between. Without
 * its tag it is a call only of a tool that there is: answers may be JSON too.
 */
export const LLAMA_JSON: ToolFormat = {
  tags: [PYTHON_TAG],
  triggers: [PYTHON_TAG],
  opening: '{',
  *read(calls: CallReader): Wait<void> {
    const { source } = calls;
    calls.open();
    do {
      const isTagged = (yield* source.take(calls.tag(PYTHON_TAG))) !== undefined;
      yield* source.skipSpace();
      if (!(yield* readJsonCall(calls, !isTagged))) return;
      calls.swallow();
      calls.open();
      yield* source.skipSpace();
      yield* source.take(';');
      yield* source.skipSpace();
    } while ((yield* source.peek()) === '{');
  },
  write: (writer) =>
    writer.calls((tool) => {
      const name = `{"name": ${JSON.stringify(tool.name)}, "parameters": `;
      return sequence(name, writer.arguments(tool), '}');
    }, '; '),
};

/** Llama 3.2, Llama 4 and others: the answer is a list of calls as Python writes them. */
export const PYTHONIC: ToolFormat = {
  tags: [PYTHON_START, PYTHON_END],
  triggers: [PYTHON_START],
  opening: '[',
  *read(calls: CallReader): Wait<void> {
    const { source } = calls;
    calls.open();
    const isTagged = (yield* source.take(calls.tag(PYTHON_START))) !== undefined;
    yield* source.skipSpace();
    if ((yield* source.take('[')) === undefined) return;
    do {
      yield* source.skipSpace();
      const name = yield* readName(source, /[\w.]/);
      if (name === undefined || (yield* source.peek()) !== '(') return;
      if (!isTagged && !calls.tools.has(name)) return;
      calls.begin(name);
      if (!(yield* readKeywords(source, (json) => calls.arguments(json)))) return;
      calls.end();
      calls.open();
      yield* source.skipSpace();
    } while ((yield* source.take(',')) !== undefined);
    if ((yield* source.take(']')) === undefined) return;
    yield* source.skipSpace();
    yield* source.take(calls.tag(PYTHON_END));
    calls.close();
    calls.swallow();
  },
  write: (writer) =>
    sequence(
      '[',
      writer.calls((tool) => writer.keywords(tool), ', '),
      ']',
    ),
};
