import { once } from 'node:events';
import {
  createServer as createHttpServer,
  type IncomingHttpHeaders,
  request as requestHttp,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** What a gateway does to what passes it; by default nothing. */
export interface Tampering {
  request?: (body: Buffer, path: string) => Buffer;
  /** Of an answer's whole body. */
  answer?: (body: Buffer, path: string) => Buffer;
}

export interface TestGateway {
  readonly url: string;
  /** All that it could read: addresses, headers and bodies, both ways. */
  readonly seen: string[];
  /** The envelopes that passed. */
  readonly envelopes: Buffer[];
  readonly tampering: Tampering;
  /** Sends what it likes to the server: an envelope that it kept. */
  send(envelope: Buffer): Promise<{ status: number; body: Buffer }>;
  lead(port: number): void;
  close(): void;
}

/** A gateway that ends TLS, if it has a certificate, and passes requests on over plain HTTP. */
export async function startGateway(
  port: number,
  tls?: { readonly key: Buffer; readonly cert: Buffer },
): Promise<TestGateway> {
  let target = port;
  const seen: string[] = [];
  const envelopes: Buffer[] = [];
  const tampering: Tampering = {};
  const carry = async (
    { path, method, headers, body }: Carried,
    reply?: ServerResponse,
  ): Promise<{ status: number; body: Buffer }> => {
    const outgoing = requestHttp({ port: target, host: '127.0.0.1', method, path, headers });
    outgoing.end(body);
    reply?.once('close', () => outgoing.destroy());
    const [incoming] = await once(outgoing, 'response');
    const { statusCode: status } = incoming;
    seen.push(JSON.stringify(incoming.headers));
    if (reply !== undefined && tampering.answer === undefined) {
      reply.writeHead(status, incoming.headers);
      incoming.on('data', (part: Buffer) => seen.push(part.toString('latin1')));
      incoming.pipe(reply);
      return { status, body: Buffer.alloc(0) };
    }
    const answer = await buffer(incoming);
    seen.push(answer.toString('latin1'));
    if (reply !== undefined) {
      const { 'content-length': _, 'transfer-encoding': __, ...rest } = incoming.headers;
      reply.writeHead(status, rest).end(tampering.answer!(answer, path));
    }
    return { status, body: answer };
  };
  const listener = async (request: import('node:http').IncomingMessage, reply: ServerResponse) => {
    const path = request.url!;
    const received = await buffer(request);
    const body = tampering.request?.(received, path) ?? received;
    if (request.method === 'POST') envelopes.push(received);
    seen.push(path, JSON.stringify(request.headers), received.toString('latin1'));
    const { 'content-length': _, 'transfer-encoding': __, ...headers } = request.headers;
    const length = request.method === 'POST' ? { 'content-length': String(body.length) } : {};
    await carry(
      { path, method: request.method!, headers: { ...headers, ...length }, body },
      reply,
    ).catch(() => reply.destroy());
  };
  const server = tls ? createTlsServer(tls, listener) : createHttpServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `${tls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    envelopes,
    tampering,
    send: (envelope) =>
      carry({
        path: '/.well-known/ohttp-gateway',
        method: 'POST',
        headers: { 'content-length': String(envelope.length) },
        body: envelope,
      }),
    lead: (next) => {
      target = next;
    },
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

interface Carried {
  readonly path: string;
  readonly method: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}
