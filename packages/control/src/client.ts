import type { z } from '@hono/zod-openapi';
import { type Call, ErrorDocument } from './api/routes.ts';
import { ControlError, type ControlErrorCode } from './errors.ts';

export interface ControlAddress {
  readonly url: string;
  readonly key: string;
}

export interface CallInput {
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string | number>>;
  readonly body?: unknown;
  readonly ifMatch?: number;
  /** The same one again is answered as before. */
  readonly operation?: string;
}

/** Makes one call of the tables. Throws ControlError: control's own, or 'store-unavailable'. */
export async function callControl<C extends Call>(
  { url, key }: ControlAddress,
  call: C,
  { params = {}, query = {}, body, ifMatch, operation }: CallInput = {},
): Promise<z.output<C['response']>> {
  const headers = {
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    ...(ifMatch === undefined ? {} : { 'if-match': String(ifMatch) }),
    ...(operation === undefined ? {} : { 'idempotency-key': operation }),
  };
  const response = await send(url, key, call, params, query, {
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return (await response.json()) as z.output<C['response']>;
}

/** The data of a stream's events, as they come. Ends when control ends it, or the signal aborts. */
export async function* watchControl(
  { url, key }: ControlAddress,
  call: Call,
  query: Readonly<Record<string, string | number>>,
  signal: AbortSignal,
): AsyncGenerator<unknown> {
  const decoder = new TextDecoder();
  let rest = '';
  try {
    const response = await send(url, key, call, {}, query, { signal });
    for await (const part of response.body! as unknown as AsyncIterable<Uint8Array>) {
      const blocks = (rest + decoder.decode(part, { stream: true })).split('\n\n');
      rest = blocks.pop()!;
      for (const block of blocks) {
        const lines = block.split('\n').filter((line) => line.startsWith('data: '));
        if (lines.length > 0) yield JSON.parse(lines.map((line) => line.slice(6)).join('\n'));
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

async function send(
  url: string,
  key: string,
  { method, path }: Call,
  params: Readonly<Record<string, string>>,
  query: Readonly<Record<string, string | number>>,
  options: RequestInit,
): Promise<Response> {
  const filled = path.replaceAll(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(params[name] ?? ''),
  );
  const target = new URL(filled, url);
  for (const [name, value] of Object.entries(query)) target.searchParams.set(name, String(value));
  const headers = { ...options.headers, authorization: `Bearer ${key}` };
  let response: Response;
  try {
    response = await fetch(target, { ...options, method: method.toUpperCase(), headers });
  } catch (cause) {
    const why = ((cause as Error).cause as Error | undefined)?.message ?? (cause as Error).message;
    const message = `control does not answer at ${url} (${why}): is it running?`;
    throw new ControlError('store-unavailable', message, { cause });
  }
  if (response.ok) return response;
  throw await refusalOf(response);
}

async function refusalOf(response: Response): Promise<ControlError> {
  const read = ErrorDocument.safeParse(await response.json().catch(() => null));
  if (!read.success) {
    return new ControlError('store-unavailable', `control answered ${response.status}`);
  }
  const { code, message, nearest } = read.data.error;
  return new ControlError(code as ControlErrorCode, message, { nearest: nearest ?? null });
}
