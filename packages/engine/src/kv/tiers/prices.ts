import type { TierName } from '../page-node.ts';
import type { KvPart } from './movement.ts';

/** What a page costs here, computed and moved, as far as it is known now. */
export interface KvPrices {
  /** To compute the page with so many pages before it, alone on the device. */
  recomputeNs(index: number): number;
  /** The least that a launch takes, however little it computes. */
  launchNs(): number;
  /**
   * To bring one part, by default `context`, into the tier from the one above it: time of the lane,
   * or of the disk.
   */
  writeNs(tier: TierName, part?: KvPart): number;
  /** To bring it from the tier to the device: of the lane, and of the disk before it. */
  readNs(tier: TierName, part?: KvPart): number;
}
