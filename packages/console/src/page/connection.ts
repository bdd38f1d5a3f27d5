/// <reference lib="dom" />
import { createSignal } from 'solid-js';
import { ServerError } from './api.ts';

export type Connection =
  | { readonly state: 'connecting' | 'live' }
  | { readonly state: 'lost'; readonly reason: string };

const [connection, setConnection] = createSignal<Connection>({ state: 'connecting' });
/** When anything last came, by this machine's clock. */
const [heardMs, setHeardMs] = createSignal(0);

export { connection, heardMs };

export function live(): void {
  setConnection({ state: 'live' });
}

export function heard(): void {
  setHeardMs(Date.now());
}

/** Says why what is shown is no longer what is. */
export function lost(error: unknown): void {
  const reason = error instanceof ServerError ? error.message : 'the server does not answer';
  setConnection({ state: 'lost', reason });
}

const RETRY_MS = 1_000;
const LOOK_MS = 100;

/** Runs `follow` again and again, for as long as the page is; a new key is tried at once. */
export async function keep(follow: () => Promise<void>, key: () => string): Promise<never> {
  for (;;) {
    const from = key();
    try {
      await follow();
      setConnection({ state: 'lost', reason: 'the server closed the stream' });
    } catch (error) {
      lost(error);
    }
    const untilMs = Date.now() + RETRY_MS;
    while (Date.now() < untilMs && key() === from) {
      await new Promise((go) => setTimeout(go, LOOK_MS));
    }
  }
}

/** What time it is, for what says how long ago something was. */
const [nowMs, setNowMs] = createSignal(Date.now());
const TICK_MS = 500;
setInterval(() => setNowMs(Date.now()), TICK_MS);

export { nowMs };
