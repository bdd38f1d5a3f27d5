import { DEVICE, type PageNode } from '../../page-node.ts';
import type { Shelf } from '../../shelf.ts';
import { firstOf, type TierPolicy } from '../policy.ts';

const SMALL = 0;
const MAIN = 1;
const SMALL_FRACTION = 0.1;
const MOST_USES = 3;

/**
 * S3-FIFO (SOSP '23) for stores: what comes for the first time waits in a small queue and is given
 * up at its end unless it was used meanwhile; what was, or comes again, is in the main queue, and
 * has one more round in it for each use, of three at most. On the device, what was used longest ago
 * goes first, as in other policies.
 */
export function s3Fifo(): TierPolicy {
  // A node's mark is the number of its hits that have had their effect.
  const queueOf = (node: PageNode, shelf: Shelf) => {
    if (shelf.tier === DEVICE) return 0;
    const link = node.links[shelf.tier];
    if (link !== undefined) return link.queue;
    const isKnown = node.hits > 1;
    node.mark = node.hits;
    return isKnown ? MAIN : SMALL;
  };
  return {
    writesThrough: false,
    keepsOrder: true,
    queueOf,
    victim(shelf) {
      if (shelf.tier === DEVICE) return firstOf(shelf);
      // What a request holds counts as used. Each round takes one use, or all are held.
      for (let rounds = (MOST_USES + 2) * shelf.queued; ; rounds--) {
        const isSmallFull = shelf.size(SMALL) > SMALL_FRACTION * shelf.places;
        const queue = isSmallFull || shelf.size(MAIN) === 0 ? SMALL : MAIN;
        const node = shelf.first(queue)!;
        if ((node.hits <= node.mark && node.holders === 0) || rounds === 0) return node;
        node.mark = queue === SMALL ? node.hits : Math.max(node.mark, node.hits - MOST_USES) + 1;
        shelf.join(node, MAIN);
      }
    },
    admits: (span) => span.length,
  };
}
