import type { TierName } from '../page-node.ts';

/** What a page costs here, computed and moved, as far as it is known now. */
export interface KvPrices {
  /** To compute the page with so many pages before it, alone on the device. */
  recomputeNs(index: number): number;
  /** The least that a launch takes, however little it computes. */
  launchNs(): number;
  /** Lane time to bring one page into the tier from the one above it, with what waits there now. */
  writeNs(tier: TierName): number;
  /** Lane time to bring one page from the tier to the device. */
  readNs(tier: TierName): number;
}
