/** An event as the server writes it, for one token. */
const EVENT =
  'data: {"id":"cmpl-9b24f2bf0bdd42098c001b75858274b0","object":"text_completion",' +
  '"created":1795980813,"model":"stub","choices":[{"index":0,"text":" world",' +
  '"logprobs":null,"finish_reason":null,"stop_reason":null}]}\n\n';
const DONE = 'data: [DONE]\n\n';

const frame = (content: string) => `${content.length.toString(16)}\r\n${content}\r\n`;

export const HEAD = Buffer.from(
  'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n' +
    'cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n',
);
/** A chunk with an event for each of so many tokens, as those that are ready together leave. */
export const tokensFrame = (tokens: number) => Buffer.from(frame(EVENT.repeat(tokens)));
export const DONE_FRAME = Buffer.from(`${frame(DONE)}0\r\n\r\n`);

/** What one stream is to be. */
export interface StreamPlan {
  readonly tokens: number;
  readonly tokensPerSecond: number;
  /** Tokens that leave together. */
  readonly burst: number;
}

/** A request of the suite, as bytes. */
export function requestOf({ tokens, tokensPerSecond, burst }: StreamPlan, padding: string): Buffer {
  const prompt = `${tokens} ${tokensPerSecond} ${burst} ${padding}`;
  const body = JSON.stringify({ model: 'stub', prompt, stream: true, max_tokens: tokens });
  const head = [
    'POST /v1/completions HTTP/1.1',
    'host: localhost',
    'content-type: application/json',
    `content-length: ${body.length}`,
  ];
  return Buffer.from(`${head.join('\r\n')}\r\n\r\n${body}`);
}
