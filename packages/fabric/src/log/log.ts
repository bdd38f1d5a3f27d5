import type { LogEntry } from './entries.ts';

/** One host's append-only log. */
export interface FabricLog {
  /**
   * Resolves to the entry's index once it is durable and will be in the next checkpoint. Throws
   * FabricError 'log-unwritable': nothing may then be done that the entry was to announce.
   */
  append(entry: LogEntry): Promise<number>;
  /** How many entries are durable. */
  size(): Promise<number>;
  /** At most `max` entries from index `start` on. Throws FabricError 'log-broken'. */
  read(start: number, max: number): Promise<readonly LogEntry[]>;
}
