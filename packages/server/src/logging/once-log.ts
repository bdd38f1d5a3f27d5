import type { Logger } from './logger.ts';

/** Keys that are remembered: a client may send new ones for ever. */
const MAX_KEYS = 100;

/** Warnings about what clients send, each said once. */
export class OnceLog {
  readonly #log: Pick<Logger, 'warn'>;
  readonly #said = new Set<string>();

  constructor(log: Pick<Logger, 'warn'>) {
    this.#log = log;
  }

  warn(key: string, message: string): void {
    if (this.#said.has(key) || this.#said.size >= MAX_KEYS) return;
    this.#said.add(key);
    this.#log.warn(message);
  }
}
