/**
 * What a move between two GPUs costs. The bridge's law has the same two terms, a toll and a rate;
 * here nobody is blocked, and both directions have links of their own that share a little.
 */
export interface LinkLaw {
  readonly name: string;
  /** Where the numbers are from, and which are inferred. */
  readonly source: string;
  /** One copy alone, from issuing it until the host knows that it ended, whatever it moves. */
  readonly awaitedTollNs: number;
  /** What each copy costs in a row of copies. */
  readonly queuedTollNs: number;
  readonly bytesPerSecond: number;
  /** Of both directions together. */
  readonly bothWaysBytesPerSecond: number;
  /** One load by a kernel, of the other's memory. */
  readonly loadNs: number;
}

/** A pair of H200 with NV18, the machine that `fabric probe` is compared with. */
export const H200_PAIR: LinkLaw = {
  name: 'h200-nv18',
  source:
    'two H200 on one board by fabric probe (docs/results/fabric/h200-pair.json); kernels reach ' +
    '375 GB/s one way whatever their shape, and 732 both ways by writing',
  awaitedTollNs: 10_100,
  queuedTollNs: 3300,
  bytesPerSecond: 397e9,
  bothWaysBytesPerSecond: 780e9,
  loadNs: 850,
};
