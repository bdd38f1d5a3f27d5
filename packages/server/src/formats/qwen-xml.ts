import { sequence } from './call-writer.ts';
import { type CallReader, readName, type ToolFormat } from './calls.ts';
import type { Wait } from './source.ts';
import { readTypedValue } from './typed-value.ts';

const OPEN = '<tool_call>';
const CLOSE = '</tool_call>';
const FUNCTION = '<function=';
const FUNCTION_END = '</function>';
const PARAMETER = '<parameter=';
const PARAMETER_END = '</parameter>';

const KEY_UNIT = /[^<>\n\udc00-\udc3f]/;

/** Qwen3-Coder and Qwen3.5: elements named for function and parameters, values without quotes. */
export const QWEN_XML: ToolFormat = {
  tags: [OPEN, CLOSE, FUNCTION_END, PARAMETER_END],
  // Models leave out the outer tag at times.
  triggers: [OPEN, FUNCTION],
  *read(calls: CallReader): Wait<void> {
    const { source } = calls;
    calls.open();
    yield* source.take(calls.tag(OPEN));
    yield* source.skipSpace();
    if ((yield* source.take(FUNCTION)) === undefined) return;
    const name = yield* readName(source, KEY_UNIT);
    if (name === undefined || (yield* source.take('>')) === undefined) return;
    calls.begin(name);
    calls.arguments('{');
    if (!(yield* readParameters(calls, name))) return;
    calls.arguments('}');
    calls.end();
    yield* calls.closeWith(CLOSE);
  },
  write: (writer) =>
    writer.calls((tool) => {
      const fields = writer.fields(tool, PARAMETER_END, (name, value) => {
        const open = sequence(PARAMETER, name, '>\n');
        // Free text has the line's end in it.
        const line = value.kind === 'free' ? value : sequence(value, '\n');
        return sequence(open, line, writer.tag(PARAMETER_END), '\n');
      });
      const open = sequence(writer.tag(OPEN), `\n${FUNCTION}${tool.name}>\n`);
      const close = sequence(writer.tag(FUNCTION_END), '\n', writer.tag(CLOSE));
      return sequence(open, fields, close);
    }, '\n'),
};

function* readParameters(calls: CallReader, name: string): Wait<boolean> {
  const { source } = calls;
  const parameters = calls.tools.get(name);
  const end = calls.tag(PARAMETER_END);
  for (let count = 0; ; count++) {
    yield* source.skipSpace();
    const next = yield* source.take(PARAMETER, calls.tag(FUNCTION_END));
    if (next === undefined) return false;
    if (next !== PARAMETER) return true;
    const key = yield* readName(source, KEY_UNIT);
    if (key === undefined || (yield* source.take('>')) === undefined) return false;
    calls.arguments(`${count > 0 ? ',' : ''}${JSON.stringify(key)}:`);
    const argument = { parameters, name: key };
    const told = (json: string) => calls.arguments(json);
    if (!(yield* readTypedValue(source, { end, trimsLines: true }, argument, told))) return false;
  }
}
