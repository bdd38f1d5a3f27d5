import { type IncomingMessage, request } from 'node:http';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';

/** What came of one request, as its client saw it. */
export interface Answer {
  readonly prompt: string;
  /** 0: no answer began. */
  readonly status: number;
  readonly text: string;
  /**
   * Its last word. `cut`: we left; `lost`: the connection ended without one, as when the process is
   * killed; an error's code otherwise.
   */
  readonly end: 'done' | 'cut' | 'lost' | (string & {});
  /** What a stream may not do: end twice, or go on after its end. */
  readonly fault: string | null;
  readonly receiptId: string | null;
  readonly receiptKept: string | null;
  readonly firstMs: number;
  readonly totalMs: number;
  /** By the host's clock. */
  readonly startedSeconds: number;
  readonly endedSeconds: number;
}

export interface Question {
  readonly prompt: string;
  readonly tokens: number;
  /** Leaves after so many chunks. */
  readonly cutAfter?: number;
  /** Told with each chunk. */
  readonly onChunk?: (count: number) => void;
}

interface Chunk {
  readonly error?: { readonly code: string };
  readonly choices?: readonly { readonly text?: string; readonly finish_reason?: string | null }[];
}

/** On a connection of its own, which ends with it: nothing of us is held by the server then. */
function post(url: string, body: object): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/json' };
    const asked = request(url, { method: 'POST', headers, agent: false }, resolve);
    asked.on('error', reject);
    asked.end(JSON.stringify(body));
  });
}

function headerOf(head: IncomingMessage | null, name: string): string | null {
  const value = head?.headers[name];
  return typeof value === 'string' ? value : null;
}

/** Asks for a greedy stream and reads it to its end. Never throws. */
export async function ask(url: string, question: Question): Promise<Answer> {
  const { prompt, tokens, cutAfter = Number.POSITIVE_INFINITY, onChunk } = question;
  const startNs = HOST_CLOCK.nowNs();
  const passedMs = () => (HOST_CLOCK.nowNs() - startNs) / 1e6;
  let hasLeft = false;
  const seen = { text: '', chunks: 0, finishes: 0, error: null as string | null, isDone: false };
  let fault: string | null = null;
  let firstMs = 0;
  let head: IncomingMessage | null = null;
  const take = (event: string) => {
    if (!event.startsWith('data: ')) return;
    const isMark = event === 'data: [DONE]';
    const isOver = seen.isDone || (seen.error !== null && !isMark);
    if (isOver) fault ??= 'something came after the end';
    if (isMark) {
      seen.isDone = true;
      return;
    }
    const chunk = JSON.parse(event.slice(6)) as Chunk;
    if (chunk.error !== undefined) seen.error = chunk.error.code;
    const [choice] = chunk.choices ?? [];
    if (choice === undefined) return;
    if (seen.chunks === 0) firstMs = passedMs();
    seen.chunks += 1;
    seen.text += choice.text ?? '';
    if (choice.finish_reason != null) seen.finishes += 1;
    if (seen.finishes > 1) fault ??= 'it finished twice';
    onChunk?.(seen.chunks);
  };
  let end: string;
  try {
    head = await post(`${url}/v1/completions`, {
      prompt,
      max_tokens: tokens,
      temperature: 0,
      stream: true,
    });
    let rest = '';
    head.setEncoding('utf8');
    for await (const piece of head) {
      rest += piece;
      if (head.statusCode !== 200) continue;
      const events = rest.split('\n\n');
      rest = events.pop()!;
      for (const event of events) take(event);
      if (seen.chunks < cutAfter) continue;
      hasLeft = true;
      head.destroy();
      break;
    }
    if (head.statusCode !== 200) seen.error = (JSON.parse(rest) as Chunk).error?.code ?? 'no code';
    end = hasLeft ? 'cut' : (seen.error ?? (seen.isDone ? 'done' : 'lost'));
  } catch {
    end = hasLeft ? 'cut' : 'lost';
  }
  if (end === 'done' && seen.finishes !== 1) fault ??= `it finished ${seen.finishes} times`;
  return {
    prompt,
    status: head?.statusCode ?? 0,
    text: seen.text,
    end,
    fault,
    receiptId: headerOf(head, 'x-receipt-id'),
    receiptKept: headerOf(head, 'x-receipt-kept'),
    firstMs,
    totalMs: passedMs(),
    startedSeconds: startNs / 1e9,
    endedSeconds: HOST_CLOCK.nowNs() / 1e9,
  };
}
