import { ChatError } from './errors.ts';

export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

export interface ChatTarget {
  /** Without `/v1`. */
  readonly url: string;
  /** undefined: the server's first. */
  readonly model: string | undefined;
  readonly apiKey: string | undefined;
  readonly maxTokens: number | undefined;
  readonly temperature: number | undefined;
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
}

/** The last of an answer. */
export interface AnswerEnd {
  readonly model: string;
  readonly finishReason: string | null;
  readonly usage: Usage | null;
}

interface Chunk {
  readonly model?: string;
  readonly choices?: readonly {
    readonly delta?: { readonly content?: string | null };
    readonly finish_reason?: string | null;
  }[];
  readonly usage?: Usage | null;
  readonly error?: { readonly message?: string };
}

/** Longer lines are no events. */
const MAX_LINE_CHARACTERS = 2 ** 24;

/** Asks for an answer, piece by piece; returns how it ended. Throws ChatError. */
export async function* streamAnswer(
  target: ChatTarget,
  messages: readonly Message[],
): AsyncGenerator<string, AnswerEnd> {
  const response = await post(target, messages);
  let end: AnswerEnd = { model: target.model ?? '', finishReason: null, usage: null };
  for await (const chunk of chunksOf(response)) {
    if (chunk.error !== undefined) {
      throw new ChatError('refused', chunk.error.message ?? 'the server ended with an error');
    }
    const choice = chunk.choices?.[0];
    end = {
      model: chunk.model ?? end.model,
      finishReason: choice?.finish_reason ?? end.finishReason,
      usage: chunk.usage ?? end.usage,
    };
    if (choice?.delta?.content) yield choice.delta.content;
  }
  return end;
}

async function post(target: ChatTarget, messages: readonly Message[]): Promise<Response> {
  const { url, model, apiKey, maxTokens, temperature } = target;
  const headers = {
    'Content-Type': 'application/json',
    ...(apiKey !== undefined && { Authorization: `Bearer ${apiKey}` }),
  };
  const body = JSON.stringify({
    model,
    messages,
    max_tokens: maxTokens,
    temperature,
    stream: true,
    stream_options: { include_usage: true },
  });
  const address = `${url.replace(/\/+$/, '').replace(/\/v1$/, '')}/v1/chat/completions`;
  const response = await fetch(address, { method: 'POST', headers, body }).catch((cause) => {
    const { code, message: why } = cause?.cause ?? cause;
    const reason = code ?? why;
    const message = `no server answers at ${url} (${reason}); start one with: bridgekeeper serve`;
    throw new ChatError('unreachable', message, { cause });
  });
  if (response.ok) return response;
  const document = (await response.json().catch(() => null)) as Chunk | null;
  const message = document?.error?.message ?? 'no reason given';
  const hint = response.status === 401 ? ' Set BRIDGEKEEPER_API_KEY.' : '';
  throw new ChatError('refused', `${url} refused (${response.status}): ${message}${hint}`);
}

async function* chunksOf(response: Response): AsyncGenerator<Chunk> {
  const decoder = new TextDecoder();
  let rest = '';
  let isDone = false;
  try {
    for await (const bytes of response.body ?? []) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
      rest = lines.pop()!;
      if (rest.length > MAX_LINE_CHARACTERS) throw new Error('an event is too long');
      for (const line of lines) {
        if (!line.startsWith('data: ')) continue;
        if (line.trim() === 'data: [DONE]') isDone = true;
        else yield JSON.parse(line.slice(6)) as Chunk;
      }
    }
  } catch (cause) {
    throw new ChatError('broken', 'the answer broke off', { cause });
  }
  if (!isDone) throw new ChatError('broken', 'the answer broke off before its end');
}
