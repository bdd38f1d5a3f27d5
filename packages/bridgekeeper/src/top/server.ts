import { TopError } from './errors.ts';

/** Where to look, and with which key. */
export interface TopTarget {
  readonly url: string;
  readonly apiKey: string | undefined;
}

export interface TopEvent {
  readonly event: string;
  readonly data: unknown;
}

/** A snapshot of ten seconds is large; nothing is larger. */
const EVENT_CHARACTERS_MAX = 2 ** 26;

/** Throws TopError. */
async function get(target: TopTarget, path: string, signal?: AbortSignal): Promise<Response> {
  const { url, apiKey } = target;
  const headers = apiKey === undefined ? {} : { Authorization: `Bearer ${apiKey}` };
  const base = url.replace(/\/+$/, '').replace(/\/v1$/, '');
  let response: Response;
  try {
    response = await fetch(`${base}${path}`, { headers, ...(signal && { signal }) });
  } catch (cause) {
    throw new TopError('unreachable', `no server answers at ${url}`, { cause });
  }
  if (response.ok) return response;
  const { error } = (await response.json().catch(() => ({}))) as {
    readonly error?: { readonly message?: string };
  };
  const message = error?.message ?? 'it says no more';
  const hint =
    response.status === 401 || response.status === 403
      ? ' Set BRIDGEKEEPER_API_KEY to an operator key.'
      : '';
  throw new TopError('refused', `${url} refused (${response.status}): ${message}${hint}`);
}

/** One document. Throws TopError. */
export async function getJson(target: TopTarget, path: string): Promise<unknown> {
  const response = await get(target, path);
  return parsed(await response.text().catch(brokenOff), target);
}

/** Events as they come, until the stream ends. Throws TopError. */
export async function* events(target: TopTarget, signal: AbortSignal): AsyncGenerator<TopEvent> {
  const response = await get(target, '/v1/bridge/events', signal);
  const decoder = new TextDecoder();
  let text = '';
  try {
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      text += decoder.decode(chunk, { stream: true });
      if (text.length > EVENT_CHARACTERS_MAX) {
        throw new TopError('broken', `${target.url} sends an event without an end`);
      }
      const whole = text.split('\n\n');
      text = whole.pop() ?? '';
      for (const each of whole) {
        const event = /^event: (.*)$/m.exec(each)?.[1] ?? 'message';
        const data = /^data: (.*)$/m.exec(each)?.[1];
        if (data !== undefined) yield { event, data: parsed(data, target) };
      }
    }
  } catch (error) {
    if (error instanceof TopError) throw error;
    brokenOff(error);
  }
}

function parsed(text: string, { url }: TopTarget): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new TopError('broken', `${url} answers with something that is no JSON`, { cause });
  }
}

function brokenOff(cause: unknown): never {
  throw new TopError('broken', 'the answer broke off', { cause });
}
