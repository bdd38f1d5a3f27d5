import { type AddressInfo, createServer, type Socket } from 'node:net';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { reportTo } from './child.ts';
import { DONE_FRAME, HEAD, type StreamPlan, tokensFrame } from './frames.ts';

interface StubOptions {
  /** Between looks at which streams are due. */
  readonly tickMs: number;
}

interface Stream extends StreamPlan {
  readonly socket: Socket;
  readonly startedNs: number;
  readonly frame: Buffer;
  sent: number;
}

const open = new Set<Stream>();

/** Sends a stream what is due, each token in a chunk of its own. */
function feed(stream: Stream, nowNs: number): void {
  const due = 1 + Math.floor(((nowNs - stream.startedNs) / 1e9) * stream.tokensPerSecond);
  const until = Math.min(due, stream.tokens);
  for (; stream.sent + stream.burst <= until; stream.sent += stream.burst) {
    stream.socket.write(stream.frame);
  }
  if (stream.sent === stream.tokens) stream.socket.write(DONE_FRAME);
  if (stream.sent === stream.tokens || stream.socket.destroyed) open.delete(stream);
}

/** What its prompt says: how many tokens, and how many a second. */
function begin(socket: Socket, body: string): void {
  const [, tokens = '1', rate = '1', burst = '1'] =
    /"prompt":"(\d+) ([\d.]+) (\d+)/.exec(body) ?? [];
  socket.write(HEAD);
  const stream = {
    socket,
    startedNs: HOST_CLOCK.nowNs(),
    tokens: Number(tokens),
    tokensPerSecond: Number(rate),
    burst: Number(burst),
    frame: tokensFrame(Number(burst)),
    sent: 0,
  };
  open.add(stream);
  feed(stream, stream.startedNs);
}

function serve(socket: Socket): void {
  let text = '';
  socket.setNoDelay(true);
  socket.on('error', () => undefined);
  socket.on('data', (bytes: Buffer) => {
    text += bytes.toString('latin1');
    const end = text.indexOf('\r\n\r\n');
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1] ?? 0);
    if (end < 0 || text.length < end + 4 + length) return;
    const body = text.slice(end + 4, end + 4 + length);
    text = text.slice(end + 4 + length);
    begin(socket, body);
  });
}

/** A replica that does nothing but stream at a rate: its requests say how much and how fast. */
function main({ tickMs }: StubOptions): void {
  const server = createServer(serve);
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
    reportTo(process, (server.address() as AddressInfo).port);
  });
  HOST_CLOCK.every(tickMs / 1000, () => {
    const nowNs = HOST_CLOCK.nowNs();
    for (const stream of open) feed(stream, nowNs);
  });
}

main(JSON.parse(process.argv[2]!) as StubOptions);
