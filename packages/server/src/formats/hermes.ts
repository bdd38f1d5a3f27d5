import { sequence } from './call-writer.ts';
import type { CallReader, ToolFormat } from './calls.ts';
import { readJsonCall } from './json-call.ts';
import type { Wait } from './source.ts';

const OPEN = '<tool_call>';
const CLOSE = '</tool_call>';

/** Hermes and what follows it, Qwen2.5 and Qwen3 above all: an object of JSON between tags. */
export const HERMES: ToolFormat = {
  tags: [OPEN, CLOSE],
  triggers: [OPEN],
  quotesTags: true,
  *read(calls: CallReader): Wait<void> {
    const { source } = calls;
    calls.open();
    yield* source.take(calls.tag(OPEN));
    yield* source.skipSpace();
    if (!(yield* readJsonCall(calls))) return;
    yield* calls.closeWith(CLOSE);
  },
  write: (writer) =>
    writer.calls((tool) => {
      const name = `\n{"name": ${JSON.stringify(tool.name)}, "arguments": `;
      return sequence(writer.tag(OPEN), name, writer.arguments(tool), '}\n', writer.tag(CLOSE));
    }, '\n'),
};
