/** One GPU of a tenant, as its guest sees it. */
export interface PeerGpu {
  readonly name: string;
  /** PCI address in this guest; null: the driver does not say. */
  readonly bdf: string | null;
}

/** From whose memory to whose, by their places in `PeerGpus.gpus`. */
export interface Move {
  readonly from: number;
  readonly to: number;
}

/**
 * The GPUs of a tenant and what moves between their memories. Times are of the host's clock, from
 * before the first is issued until the last has ended, because events tell no time under
 * confidential computing. All throw FabricError 'probe-failed'.
 */
export interface PeerGpus {
  readonly kind: 'cuda' | 'model';
  readonly gpus: readonly PeerGpu[];
  /** Whether a kernel of one may read and write the other's memory. */
  reaches(move: Move): boolean;
  /** Rounds of copies by copy engines; those of a round are made at the same time. In ns. */
  copy(moves: readonly Move[], bytes: number, rounds: number): number;
  /** The same by kernels: of the reading or of the writing GPU. */
  move(moves: readonly Move[], by: 'reader' | 'writer', bytes: number, rounds: number): number;
  /** Loads by one thread of `to` from the memory of `from`, each needing the one before. In ns. */
  load(move: Move, loads: number): number;
  /** Copies bytes that both sides can tell, and compares. */
  arrives(move: Move): boolean;
  close(): void;
}

/** Most that one copy of a probe moves: each GPU gives two buffers of it. */
export const COPY_BYTES_MAX = 256 * 2 ** 20;

export function nameOf({ from, to }: Move): string {
  return `${from} to ${to}`;
}
