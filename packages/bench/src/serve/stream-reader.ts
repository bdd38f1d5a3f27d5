/** What one event of an OpenAI stream says, as far as a measurement cares. */
export type StreamEvent =
  | { readonly kind: 'chunk'; readonly hasOutput: boolean; readonly usage: Usage | undefined }
  | { readonly kind: 'error'; readonly error: unknown }
  | { readonly kind: 'done' };

export interface Usage {
  readonly prompt_tokens?: number;
  readonly completion_tokens?: number;
}

/** A longer event is no answer to anything this client asks for. */
const MAX_EVENT_CHARACTERS = 16 * 2 ** 20;

/** Takes a stream of server-sent events apart, wherever the network cut it. */
export class StreamReader {
  #rest = '';

  /** The events that `text` completes. Throws Error where the stream is not one of OpenAI's. */
  push(text: string): StreamEvent[] {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    if (this.#rest.length > MAX_EVENT_CHARACTERS) throw new Error('an event is too long');
    return lines.flatMap(eventOf);
  }
}

/** Other fields of events, comments (pings) and empty lines say nothing. */
function eventOf(line: string): StreamEvent[] {
  if (!line.startsWith('data:')) return [];
  const data = line.slice(5).trim();
  if (data === '[DONE]') return [{ kind: 'done' }];
  if (data === '') return [];
  let document: { choices?: unknown; usage?: Usage | null; error?: unknown } | null;
  try {
    document = JSON.parse(data);
  } catch {
    throw new Error('an event is not JSON');
  }
  if (document === null || typeof document !== 'object') throw new Error('an event is no object');
  const { choices, usage, error } = document;
  if (error !== undefined && error !== null) return [{ kind: 'error', error }];
  const hasOutput = Array.isArray(choices) && choices.length > 0;
  return [{ kind: 'chunk', hasOutput, usage: usage ?? undefined }];
}
