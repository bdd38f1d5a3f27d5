/// <reference lib="dom" />

import { createResource, createSignal } from 'solid-js';
import { ask, askJson, events } from './api.ts';
import { replay } from './evidence.tsx';
import { each, when } from './flow.ts';
import type { Life } from './requests.tsx';
import { bytesText, countText } from './units.ts';

interface Turn {
  readonly role: 'user' | 'assistant';
  readonly text: string;
  /** What is known of an answer once it is there. */
  readonly about: string;
  readonly requestId: string | null;
}

interface Chunk {
  readonly error?: { readonly message: string };
  readonly usage?: { readonly completion_tokens: number };
  readonly choices?: readonly { readonly delta?: { readonly content?: string } }[];
}

const TOKENS_MAX = 512;

/** Page 7: the verdict before the first key is typed, and what each answer cost. */
export function ChatPage() {
  const [verdict] = createResource(() => replay({ kind: 'own' }));
  const [models] = createResource(() =>
    askJson<{ data: readonly { id: string }[] }>('/v1/models').then(({ data }) =>
      data.map(({ id }) => id),
    ),
  );
  const [turns, setTurns] = createSignal<readonly Turn[]>([]);
  const [problem, setProblem] = createSignal('');
  const [running, setRunning] = createSignal<AbortController | null>(null);
  const change = (turn: Partial<Turn>) =>
    setTurns((all) => [...all.slice(0, -1), { ...all.at(-1)!, ...turn }]);
  const send = async (question: string, model: string) => {
    const user: Turn = { role: 'user', text: question, about: '', requestId: null };
    const messages = [...turns(), user].map(({ role, text }) => ({ role, content: text }));
    setTurns((all) => [...all, user, { ...user, role: 'assistant', text: '' }]);
    const controller = new AbortController();
    setRunning(controller);
    setProblem('');
    try {
      await answer({ model, messages }, controller.signal, change);
    } catch (error) {
      const isStopped = (error as Error).name === 'AbortError';
      if (isStopped) change({ about: 'stopped' });
      else setProblem((error as Error).message);
      // What never got an answer is not part of the conversation.
      if (turns().at(-1)!.text === '') setTurns((all) => all.slice(0, -2));
    } finally {
      setRunning(null);
    }
  };
  const submit = (event: Event) => {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const field = form.elements.namedItem('question') as HTMLTextAreaElement;
    const model = (form.elements.namedItem('model') as HTMLSelectElement).value;
    const question = field.value.trim();
    if (question === '' || running() !== null) return;
    field.value = '';
    void send(question, model);
  };
  return (
    <div class="chat">
      <h1>Chat</h1>
      <p class="verdict" role="status">
        {() => {
          if (verdict.loading) return '… the server is asked for evidence';
          if (verdict.error !== undefined) {
            return `✕ No evidence: ${(verdict.error as Error).message}`;
          }
          const { verdict: result, policy } = verdict()!;
          const sign = result === 'verified' ? '● VERIFIED' : '⬢ REFUSED';
          const not = result === 'verified' ? '' : 'not ';
          return `${sign} under “${policy}”: it is ${not}proved what reads what you type.`;
        }} <a href="#/evidence">Why</a>
      </p>
      <div class="log" aria-live="polite">
        {when(
          () => turns().length === 0,
          () => (
            <p class="empty">Ask something below.</p>
          ),
        )}
        {each(turns, (turn: Turn) => (
          <article class={`turn ${turn.role}`}>
            <p>{turn.text}</p>
            {when(
              () => turn.about !== '',
              () => (
                <small>
                  {turn.about}{' '}
                  {turn.requestId === null ? (
                    ''
                  ) : (
                    <a href={`#/requests/${encodeURIComponent(turn.requestId)}`}>
                      Its life, receipt
                    </a>
                  )}
                </small>
              ),
            )}
          </article>
        ))}
      </div>
      <p class="problem" role="alert">
        {problem}
      </p>
      <form onSubmit={submit}>
        <textarea
          name="question"
          aria-label="Your message"
          placeholder="Your message"
          required
          onKeyDown={(event: KeyboardEvent) => {
            if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            (event.target as HTMLTextAreaElement).form!.requestSubmit();
          }}
        />
        <div class="bar">
          <label>
            Model
            <select name="model">
              {each(
                () => models() ?? [],
                (name: string) => (
                  <option value={name}>{name}</option>
                ),
              )}
            </select>
          </label>
          <span class="spring" />
          {when(
            () => running() !== null,
            () => (
              <button type="button" onClick={() => running()?.abort()}>
                Stop
              </button>
            ),
          )}
          <button type="button" onClick={() => setTurns([])}>
            Clear
          </button>
          <button type="submit" class="main">
            Send
          </button>
        </div>
      </form>
    </div>
  );
}

async function answer(
  body: { readonly model: string; readonly messages: readonly object[] },
  signal: AbortSignal,
  change: (turn: Partial<Turn>) => void,
): Promise<void> {
  const startedMs = performance.now();
  const response = await ask('/v1/chat/completions', {
    method: 'POST',
    signal,
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({
      ...body,
      max_tokens: TOKENS_MAX,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  const requestId = response.headers.get('X-Request-Id');
  let text = '';
  let firstMs: number | undefined;
  let tokens = 0;
  for await (const { data } of events(response)) {
    if (data === '[DONE]') continue;
    const chunk = JSON.parse(data) as Chunk;
    if (chunk.error !== undefined) throw new Error(chunk.error.message);
    tokens = chunk.usage?.completion_tokens ?? tokens;
    const piece = chunk.choices?.[0]?.delta?.content ?? '';
    if (piece === '') continue;
    firstMs ??= performance.now() - startedMs;
    text += piece;
    change({ text, requestId });
  }
  const seconds = (performance.now() - startedMs) / 1000;
  const rate = tokens / Math.max(1e-3, seconds - (firstMs ?? 0) / 1000);
  const first = `the first after ${Math.round(firstMs ?? 0)} ms`;
  const about = `${countText(tokens)} tokens, ${countText(Math.round(rate))} a second, ${first}`;
  change({ about: `${about}${await crossed(requestId)}` });
}

/** What crossed for it, where the server still knows. */
async function crossed(requestId: string | null): Promise<string> {
  if (requestId === null) return '';
  try {
    const { crossings } = await askJson<Life>(`/v1/requests/${encodeURIComponent(requestId)}`);
    const count = crossings.reduce((sum, each) => sum + each.crossings, 0);
    const bytes = crossings.reduce((sum, each) => sum + each.bytes, 0);
    return `; ${countText(Math.round(count))} crossings with ${bytesText(bytes)} for it.`;
  } catch {
    return '.';
  }
}
