import { pathWithin, type ServerAddress } from './address.ts';
import { readBounded } from './bounded.ts';

/** What `fetch` takes first. */
export type FetchInput = Parameters<typeof globalThis.fetch>[0];

/** A request that is ready to be sent, as often as it takes to find out that it may be. */
export interface OutgoingRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Uint8Array<ArrayBuffer>;
  readonly signal: AbortSignal;
}

/** RFC 9110, section 7.6.1: these are between two neighbours, and end with them. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** What the next connection says anew. A compressed answer could not be passed on as it comes. */
const MADE_ANEW: ReadonlySet<string> = new Set([
  'accept-encoding',
  'content-length',
  'expect',
  'host',
]);

/** The headers that are for the other end, and not for this connection. */
export function endToEndHeaders(
  headers: Iterable<readonly [name: string, value: string]>,
): [name: string, value: string][] {
  const all = [...headers].map(([name, value]): [string, string] => [name.toLowerCase(), value]);
  const named = all
    .filter(([name]) => name === 'connection')
    .flatMap(([, value]) => value.split(',').map((one) => one.trim().toLowerCase()));
  return all.filter(([name]) => !HOP_BY_HOP.has(name) && !named.includes(name));
}

/**
 * Reads what `fetch` was called with, its body to the end. Throws ClientError 'elsewhere' and
 * 'too-large'.
 */
export async function readOutgoing(
  address: ServerAddress,
  input: FetchInput,
  init: RequestInit | undefined,
  bodyBytesMax: number,
): Promise<OutgoingRequest> {
  const request = new Request(input, init);
  const path = pathWithin(address, request.url);
  const headers = endToEndHeaders(request.headers).filter(([name]) => !MADE_ANEW.has(name));
  // Some browsers have no streams of requests.
  const stream = request.body === undefined ? (await request.blob()).stream() : request.body;
  const body = await readBounded(stream, bodyBytesMax, 'the request');
  const { method, signal } = request;
  return { method, path, headers, body, signal };
}
