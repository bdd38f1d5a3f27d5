import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';

/** One request as a scripted replica got it. */
export interface ScriptedRequest {
  readonly head: string;
  readonly body: string;
  /** Of this request among all of this replica. */
  readonly index: number;
  readonly socket: Socket;
}

export interface ScriptedUpstream {
  readonly port: number;
  readonly requests: readonly ScriptedRequest[];
  /** Connections that are open. */
  readonly connections: ReadonlySet<Socket>;
  /** Everything that came, as it came. */
  readonly received: () => Buffer;
  close(): Promise<void>;
}

/** A replica of our own making, down to the bytes: `answer` is called with each whole request. */
export async function startScriptedUpstream(
  answer: (request: ScriptedRequest) => void,
): Promise<ScriptedUpstream> {
  const requests: ScriptedRequest[] = [];
  const connections = new Set<Socket>();
  const received: Buffer[] = [];
  const server = createServer((socket) => {
    connections.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => connections.delete(socket));
    let text = '';
    socket.on('data', (bytes: Buffer) => {
      received.push(bytes);
      text += bytes.toString('latin1');
      for (;;) {
        const end = text.indexOf('\r\n\r\n');
        const length = Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1] ?? 0);
        if (end < 0 || text.length < end + 4 + length) return;
        const request = {
          head: text.slice(0, end),
          body: text.slice(end + 4, end + 4 + length),
          index: requests.length,
          socket,
        };
        text = text.slice(end + 4 + length);
        requests.push(request);
        answer(request);
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    connections,
    received: () => Buffer.concat(received),
    close: async () => {
      for (const socket of connections) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** A whole answer with a body. */
export function whole(status: number, body: string, headers = ''): string {
  const head = `HTTP/1.1 ${status} X\r\ncontent-type: application/json\r\n${headers}`;
  return `${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

export const STREAM_HEAD =
  'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n';

/** A chunk of HTTP. */
export const chunk = (content: string) =>
  `${Buffer.byteLength(content).toString(16)}\r\n${content}\r\n`;

/** An event of one token. */
export const token = (text: string) => `data: {"choices":[{"index":0,"text":"${text}"}]}\n\n`;

export const STREAM_END = '0\r\n\r\n';
