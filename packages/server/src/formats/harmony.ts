import type { Expression } from '@bridgekeeper/engine/grammar';
import { type CallWriter, sequence } from './call-writer.ts';
import type { CallReader } from './calls.ts';
import { readArguments } from './json-call.ts';
import type { Wait } from './source.ts';

const START = '<|start|>';
const CHANNEL = '<|channel|>';
const CONSTRAIN = '<|constrain|>';
const MESSAGE = '<|message|>';
const END = '<|end|>';
const CALL = '<|call|>';
const RETURN = '<|return|>';

export const HARMONY_TAGS = [START, CHANNEL, CONSTRAIN, MESSAGE, END, CALL, RETURN];

const MAX_HEADER_UNITS = 1024;
const RECIPIENT = /\bto=([\w.:/-]+)/;
const CHANNEL_NAME = /^(\w+)/;

interface Header {
  readonly channel: string;
  readonly recipient: string | undefined;
}

/**
 * gpt-oss: an answer is messages, each with a header that says its channel and to whom it goes.
 * `analysis` is reasoning, a message to a function is a call, all others are content. The prompt
 * ends in the first header, `<|start|>assistant`.
 */
export function* readHarmony(
  calls: CallReader,
  readsCalls: boolean,
  reasons: (isReasoning: boolean) => void,
): Wait<void> {
  const { source } = calls;
  const ends = [END, CALL, RETURN].map((text) => calls.tag(text));
  const start = calls.tag(START);
  for (;;) {
    if (!(yield* source.hasMore())) return;
    calls.open();
    const header = yield* readHeader(calls);
    if (header === undefined) {
      calls.giveUp();
      // What is no message is text up to the next one.
      yield* source.until([start], (text) => calls.content(text));
      continue;
    }
    const { channel, recipient } = header;
    const isCall = recipient !== undefined && recipient !== 'assistant';
    if (isCall && readsCalls) {
      if (!(yield* readCall(calls, recipient))) {
        calls.giveUp();
        yield* source.until([...ends, start], (text) => calls.content(text));
      }
    } else {
      calls.close();
      const isReasoning = channel === 'analysis';
      reasons(isReasoning);
      yield* source.until([...ends, start], (text) => {
        if (isReasoning) calls.reasoning(text);
        else calls.content(text);
      });
    }
    reasons(false);
    yield* source.take(...ends);
  }
}

function* readCall(calls: CallReader, recipient: string): Wait<boolean> {
  const { source } = calls;
  yield* source.skipSpace();
  if ((yield* source.peek()) !== '{') return false;
  calls.begin(recipient.replace(/^functions\./, ''));
  if (!(yield* readArguments(calls))) return false;
  calls.end();
  yield* source.skipSpace();
  return true;
}

/** From `<|start|>`, or from what follows its role, to `<|message|>`. */
function* readHeader(calls: CallReader): Wait<Header | undefined> {
  const { source } = calls;
  const [channelTag, message] = [calls.tag(CHANNEL), calls.tag(MESSAGE)];
  const stops = [START, MESSAGE, END, CALL, RETURN].map((text) => calls.tag(text));
  yield* source.take(calls.tag(START));
  let header = '';
  let isTooLong = false;
  let unit = yield* source.peek();
  while (!isTooLong && unit !== '') {
    if (stops.some((stop) => stop[0] === unit)) {
      const stop = yield* source.take(message);
      if (stop !== undefined) return headerOf(header, channelTag);
      if (unit !== '<') return undefined;
    }
    header += source.read(1);
    isTooLong = header.length > MAX_HEADER_UNITS;
    unit = yield* source.peek();
  }
  return undefined;
}

/** The message that the prompt leaves open, where it is more than the role of one. */
export function openMessage(prompt: string): string {
  const role = `${START}assistant`;
  const at = prompt.lastIndexOf(START);
  if (!prompt.startsWith(role, at)) return '';
  const open = prompt.slice(at + role.length);
  return [END, CALL, RETURN].some((tag) => open.includes(tag)) ? '' : open;
}

function headerOf(header: string, channelTag: string): Header | undefined {
  const at = header.indexOf(channelTag);
  if (at < 0) return undefined;
  const channel = CHANNEL_NAME.exec(header.slice(at + channelTag.length).trimStart())?.[1];
  if (channel === undefined) return undefined;
  return { channel, recipient: RECIPIENT.exec(header)?.[1] };
}

const channel = (writer: CallWriter, name: string) =>
  sequence(writer.tag(CHANNEL), name, writer.tag(MESSAGE));

/** Any text of one message. */
function freeText(writer: CallWriter): Expression {
  return { kind: 'free', tags: HARMONY_TAGS.map((tag) => writer.tag(tag)) };
}

/** What its messages look like, behind the role that the prompt ends with. */
export const HARMONY = {
  analysis: (writer: CallWriter) => ({
    open: channel(writer, 'analysis'),
    body: freeText(writer),
  }),
  message: (writer: CallWriter, name: string, content: Expression | undefined) =>
    sequence(channel(writer, name), content ?? freeText(writer)),
  /** From the end of a message to the role of the next. */
  next: (writer: CallWriter) => sequence(writer.tag(END), writer.tag(START), 'assistant'),
  /** A message calls one function; the token that would end it ends the answer. */
  write: (writer: CallWriter) =>
    writer.oneCall((tool) => {
      const header = `commentary to=functions.${tool.name} `;
      const open = sequence(writer.tag(CHANNEL), header, writer.tag(CONSTRAIN), 'json');
      return sequence(open, writer.tag(MESSAGE), writer.arguments(tool));
    }),
};
