import type { Bytes } from '../core/bytes.ts';
import { concatBytes } from '../core/bytes.ts';
import { AttestError, demand } from '../core/errors.ts';

/** How a service is reached: the platform's `fetch` and its limits. */
export interface Http {
  readonly fetch: typeof globalThis.fetch;
  /** Made anew for each request: when to give it up. */
  readonly deadline: () => AbortSignal;
}

/** What to ask a service for. */
export interface HttpQuestion {
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Makes it a POST. */
  readonly body?: Bytes;
  readonly answerBytesMax: number;
}

/**
 * The answer's body, or null for 404. Redirects are refused: they could lead anywhere. Throws
 * AttestError 'not-available' (no answer in time, or another status) or 'too-large'.
 */
export async function ask(http: Http, question: HttpQuestion): Promise<Bytes | null> {
  return (await askWithHeaders(http, question))?.body ?? null;
}

/** As `ask`, for services that put a part of what they say into headers. */
export async function askWithHeaders(
  http: Http,
  question: HttpQuestion,
): Promise<{ body: Bytes; headers: Headers } | null> {
  const { url, headers, body, answerBytesMax } = question;
  // Browsers refuse to run it as a method of anything but their window.
  const { fetch } = http;
  const host = new URL(url).host;
  try {
    const response = await fetch(url, {
      method: body === undefined ? 'GET' : 'POST',
      ...(body === undefined ? {} : { body }),
      headers: { ...headers },
      redirect: 'error',
      signal: http.deadline(),
    });
    if (response.status === 404) {
      await response.body?.cancel();
      return null;
    }
    demand(response.ok, 'not-available', `${host} answers with status ${response.status}`);
    const { headers: said } = response;
    return { body: await readBounded(response, answerBytesMax, host), headers: said };
  } catch (cause) {
    if (cause instanceof AttestError) throw cause;
    throw new AttestError('not-available', `${host} does not answer`, { cause });
  }
}

async function readBounded(response: Response, bytesMax: number, host: string): Promise<Bytes> {
  const reader = response.body?.getReader();
  const parts: Uint8Array[] = [];
  let byteCount = 0;
  for (let part = await reader?.read(); part?.done === false; part = await reader?.read()) {
    byteCount += part.value.length;
    if (byteCount > bytesMax) await reader?.cancel();
    demand(byteCount <= bytesMax, 'too-large', `${host} answers with more than ${bytesMax} bytes`);
    parts.push(part.value);
  }
  return concatBytes(...parts);
}
