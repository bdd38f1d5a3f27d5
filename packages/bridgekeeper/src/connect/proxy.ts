import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  ClientError,
  type ClientErrorCode,
  endToEndHeaders,
  type Verified,
} from '@bridgekeeper/client';
import { UsageError } from '@bridgekeeper/server';

export interface ProxyOptions {
  readonly verified: Pick<Verified, 'fetch' | 'baseUrl'>;
  /** Of this machine's loopback; 0: a free one. */
  readonly port: number;
}

export interface RunningProxy {
  readonly url: string;
  /** Ends what is under way. */
  close(): Promise<void>;
}

const LOOPBACK = '127.0.0.1';
const CONNECTIONS_MAX = 256;

/**
 * An OpenAI API on this machine's loopback that passes every request on to the verified server, and
 * answers with an error where that cannot be. Throws UsageError where the port cannot be had.
 */
export async function startProxy({ verified, port }: ProxyOptions): Promise<RunningProxy> {
  const server = createServer((request, reply) => {
    void forward(request, reply, verified);
  });
  server.maxConnections = CONNECTIONS_MAX;
  await listen(server, port);
  const url = `http://${LOOPBACK}:${(server.address() as AddressInfo).port}`;
  const close = async () => {
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  };
  return { url, close };
}

async function listen(server: Server, port: number): Promise<void> {
  try {
    server.listen({ host: LOOPBACK, port });
    await once(server, 'listening');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const message = `--port: cannot listen on ${LOOPBACK}:${port} (${code})`;
    throw new UsageError('bad-value', message, { cause });
  }
}

async function forward(
  request: IncomingMessage,
  reply: ServerResponse,
  { fetch, baseUrl }: ProxyOptions['verified'],
): Promise<void> {
  const left = new AbortController();
  // Also after a whole answer, when there is nothing left to end.
  reply.once('close', () => left.abort());
  try {
    const refusal = refusalOf(request);
    if (refusal !== null) return sendError(reply, 403, refusal);
    const method = request.method!;
    const answer = await fetch(`${baseUrl}${request.url}`, {
      method,
      headers: endToEndHeaders(pairsOf(request.rawHeaders)),
      signal: left.signal,
      redirect: 'manual',
      ...(method !== 'GET' && method !== 'HEAD' && bodyOf(request)),
    });
    const headers = endToEndHeaders(answer.headers).flat();
    reply.writeHead(answer.status, headers);
    reply.flushHeaders();
    if (answer.body === null) return void reply.end();
    await pipeline(Readable.fromWeb(answer.body as never, { highWaterMark: 1 }), reply);
  } catch (error) {
    fail(reply, error);
  }
}

const bodyOf = (request: IncomingMessage) => ({
  body: Readable.toWeb(request, {
    strategy: new CountQueuingStrategy({ highWaterMark: 1 }),
  }) as never,
  duplex: 'half' as const,
});

function pairsOf(raw: readonly string[]): [string, string][] {
  return raw.flatMap((name, i): [string, string][] => (i % 2 === 0 ? [[name, raw[i + 1]!]] : []));
}

/** The proxy is for programs of this machine, and lends its connection to no page of a browser. */
function refusalOf({ headers, url }: IncomingMessage): Fault | null {
  const isOwnName = /^(?:127\.0\.0\.1|localhost)(?::\d+)?$/.test(headers.host ?? '');
  if (!isOwnName || headers.origin !== undefined) {
    return { code: 'not_local', message: 'This address is for programs of this machine only.' };
  }
  if (url!.startsWith('/')) return null;
  return { code: 'not_local', message: 'This is no proxy for other servers.' };
}

interface Fault {
  readonly code: string;
  readonly message: string;
}

const STATUS: Readonly<Partial<Record<ClientErrorCode, number>>> = {
  'too-large': 413,
  elsewhere: 400,
  closed: 503,
};

/** Answers with an error, or cuts what was begun, so that it looks like no end. */
function fail(reply: ServerResponse, error: unknown): void {
  if (reply.headersSent || reply.destroyed) {
    reply.destroy();
  } else if (error instanceof ClientError) {
    const code = `server_${error.code.replaceAll('-', '_')}`;
    sendError(reply, STATUS[error.code] ?? 502, { code, message: error.message });
  } else {
    sendError(reply, 502, { code: 'server_unreachable', message: 'There was no answer.' });
  }
}

/** In the shape of OpenAI's. */
function sendError(reply: ServerResponse, status: number, { code, message }: Fault): void {
  const error = { message, type: 'verified_connection_error', param: null, code };
  // What is left of the request is not read.
  reply.writeHead(status, { 'Content-Type': 'application/json', Connection: 'close' });
  reply.end(JSON.stringify({ error }));
}
