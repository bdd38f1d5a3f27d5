import { sequence } from './call-writer.ts';
import { type CallReader, readName, type ToolFormat } from './calls.ts';
import type { Wait } from './source.ts';
import { readTypedValue } from './typed-value.ts';

const OPEN = '<tool_call>';
const CLOSE = '</tool_call>';
const KEY = '<arg_key>';
const KEY_END = '</arg_key>';
const VALUE = '<arg_value>';
const VALUE_END = '</arg_value>';

const KEY_UNIT = /[^<>\n\udc00-\udc3f]/;

/** GLM-4.5 and later: the name, then keys and values in elements, values without quotes. */
export const GLM: ToolFormat = {
  tags: [OPEN, CLOSE, KEY, KEY_END, VALUE, VALUE_END],
  triggers: [OPEN],
  *read(calls: CallReader): Wait<void> {
    const { source } = calls;
    calls.open();
    yield* source.take(calls.tag(OPEN));
    yield* source.skipSpace();
    const name = yield* readName(source);
    if (name === undefined) return;
    yield* source.skipSpace();
    const [key, close] = [calls.tag(KEY), calls.tag(CLOSE)];
    let next = yield* source.take(key, close);
    if (next === undefined) return;
    calls.begin(name);
    calls.arguments('{');
    for (let count = 0; next === key; count++) {
      if (!(yield* readArgument(calls, name, count === 0))) return;
      yield* source.skipSpace();
      next = yield* source.take(key, close);
    }
    if (next === undefined) return;
    calls.arguments('}');
    calls.end();
    calls.swallow();
  },
  write: (writer) =>
    writer.calls((tool) => {
      const fields = writer.fields(tool, VALUE_END, (name, value) => {
        const key = sequence(writer.tag(KEY), name, writer.tag(KEY_END), '\n');
        return sequence(key, writer.tag(VALUE), value, writer.tag(VALUE_END), '\n');
      });
      return sequence(writer.tag(OPEN), `${tool.name}\n`, fields, writer.tag(CLOSE));
    }, '\n'),
};

function* readArgument(calls: CallReader, tool: string, isFirst: boolean): Wait<boolean> {
  const { source } = calls;
  const name = yield* readName(source, KEY_UNIT);
  if (name === undefined || (yield* source.take(calls.tag(KEY_END))) === undefined) return false;
  yield* source.skipSpace();
  if ((yield* source.take(calls.tag(VALUE))) === undefined) return false;
  calls.arguments(`${isFirst ? '' : ','}${JSON.stringify(name.trim())}:`);
  const argument = { parameters: calls.tools.get(tool), name: name.trim() };
  const value = { end: calls.tag(VALUE_END), trimsLines: false };
  return yield* readTypedValue(source, value, argument, (json) => calls.arguments(json));
}
