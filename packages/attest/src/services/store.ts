import type { Bytes } from '../core/bytes.ts';

/**
 * Keeps answers of services for later. What it returns is verified like what comes from a network,
 * so whoever can write to it gains nothing by that.
 */
export interface ByteStore {
  /** null: not there. */
  get(name: string): Promise<Bytes | null>;
  /** May fail to keep it, silently: it is asked for again then. */
  put(name: string, bytes: Bytes): Promise<void>;
}
