/// <reference lib="dom" />
import { createSignal } from 'solid-js';

/** The key is of this tab alone, and is gone with it. */
const KEY = 'bridgekeeper.key';

const [key, setStoredKey] = createSignal(sessionStorage.getItem(KEY) ?? '');
/** Whether the server wants a key that it was not given. */
const [needsKey, setNeedsKey] = createSignal(false);

export { key, needsKey };

export function setKey(value: string): void {
  if (value === '') sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, value);
  setNeedsKey(false);
  setStoredKey(value);
}

/** What a server said instead of an answer. */
export class ServerError extends Error {
  override readonly name = 'ServerError';
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Throws ServerError, or TypeError where there is no server. */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (key() !== '') headers.set('Authorization', `Bearer ${key()}`);
  const response = await fetch(path, { ...init, headers });
  if (response.ok) return response;
  if (response.status === 401) setNeedsKey(true);
  const { error } = (await response.json().catch(() => ({}))) as {
    error?: { code?: string; message?: string };
  };
  const message = error?.message ?? `The server answered with status ${response.status}.`;
  throw new ServerError(response.status, error?.code ?? 'unknown', message);
}

export async function askJson<T>(path: string): Promise<T> {
  return (await ask(path)).json() as Promise<T>;
}

export interface ServerEvent {
  readonly event: string;
  readonly data: string;
}

/** Of one event: a snapshot of ten crowded seconds has a tenth of it. */
const EVENT_CHARACTERS_MAX = 32 * 2 ** 20;
const END = '\n\n';

/**
 * Server-sent events as they come, until the stream ends. `fetch`, because it can send a key.
 * Throws ServerError 'too_long' for an event that does not end.
 */
export async function* events(response: Response): AsyncGenerator<ServerEvent> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  // What has no end yet: looked through once, however many parts it comes in.
  let parts: string[] = [];
  let length = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const hasEnd = `${parts.at(-1)?.at(-1) ?? ''}${value}`.includes(END);
      parts.push(value);
      length += value.length;
      if (!hasEnd) {
        if (length <= EVENT_CHARACTERS_MAX) continue;
        const most = `${EVENT_CHARACTERS_MAX / 2 ** 20} MiB`;
        throw new ServerError(
          response.status,
          'too_long',
          `the server sent more than ${most} at once`,
        );
      }
      const whole = parts.join('').split(END);
      const rest = whole.pop() ?? '';
      parts = [rest];
      length = rest.length;
      for (const each of whole) yield eventOf(each);
    }
  } finally {
    // Of a stream that broke off there is nothing to cancel.
    reader.cancel().catch(() => {});
  }
}

function eventOf(text: string): ServerEvent {
  let event = 'message';
  const data: string[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('event: ')) event = line.slice(7);
    else if (line.startsWith('data: ')) data.push(line.slice(6));
  }
  return { event, data: data.join('\n') };
}

/** Something that the server simulates: what comes out; `onProgress` is told how far it is. */
export async function simulate(
  path: string,
  body: object | null,
  signal: AbortSignal,
  onProgress: (text: string) => void,
): Promise<unknown> {
  onProgress('… begins');
  const sent = body === null ? {} : { body: JSON.stringify(body) };
  const headers = { 'Content-Type': 'application/json' };
  const response = await ask(path, { method: 'POST', signal, headers, ...sent });
  for await (const { event, data } of events(response)) {
    const told: unknown = JSON.parse(data);
    if (event === 'progress') {
      const { done, total } = told as { readonly done: number; readonly total: number };
      onProgress(`${done} of ${total} simulations`);
    } else if (event === 'error') {
      const { code, message } = told as { readonly code: string; readonly message: string };
      throw new ServerError(response.status, code, message);
    } else return told;
  }
  throw new Error('The server ended the answer before it was there.');
}
