/** What keeps a routing table up to date. */
export interface TableSource {
  /** Since it was last heard, in nanoseconds of the clock; null: never. */
  readonly heardNs: number | null;
  readonly isConnected: boolean;
  /** Resolves once nothing of it is being written any more. */
  close(): void | Promise<void>;
}
