import type { TierName } from '../page-node.ts';

/** What a page costs here, computed and moved, as far as it is known now. */
export interface KvPrices {
  /** To compute the page with so many pages before it, alone on the device. */
  recomputeNs(index: number): number;
  /** The least that a launch takes, however little it computes. */
  launchNs(): number;
  /** To bring one page into the tier from the one above it: time of the lane, or of the disk. */
  writeNs(tier: TierName): number;
  /** To bring one page from the tier to the device: of the lane, and of the disk before it. */
  readNs(tier: TierName): number;
}
