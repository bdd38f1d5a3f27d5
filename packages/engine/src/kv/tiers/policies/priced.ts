import { DEVICE, HOST, type PageNode, TIERS } from '../../page-node.ts';
import type { Shelf } from '../../shelf.ts';
import type { TierPolicy } from '../policy.ts';
import type { KvPrices } from '../prices.ts';
import { ReuseTable, usesPerSecond } from '../reuse.ts';

/** Pages of one, two and more hits return differently; more classes are no better. */
const CLASSES = 3;
/** How much the last page that was given up counts in what a place is worth. */
const PLACE_WORTH_SHARE = 0.01;
/**
 * What is written must bring so much more than it costs: some of it is given up before its time,
 * and so brings less than pages of its class do on average.
 */
const MARGIN = 1.2;

/**
 * Keeps what is worth most for each second that it takes a place.
 *
 * A page saves computing it, less what reading costs, if it is used again, which it will be within
 * some time by what was learnt of pages used as often and as long ago. Its worth is the most that
 * this brings a second, over all times until which it could be kept; the page of the least worth
 * goes. On the device a page is worth no more than having it come down costs, with its copy there
 * only the reading: so what is used at every turn of a tight loop stays, wherever else it is. What
 * leaves the device comes down if some time brings more than writing costs and more
 * than the place is worth to others: what pages were worth that made room. So one rule lets
 * everything in where there is room and bytes are cheap, only what returned where room is short,
 * and nothing where a bridge costs more than it saves.
 */
export function priced(prices: KvPrices): TierPolicy {
  const reuse = new ReuseTable(CLASSES);
  /** By tier, for each second. */
  const placeWorthNs = TIERS.map(() => 0);

  const outlookOf = (node: PageNode, nowNs: number) =>
    reuse.outlook(classOf(node), nowNs - node.usedNs);

  /** What having it in a store saves at its next use. */
  function savesNs(node: PageNode, { tier }: Shelf): number {
    return Math.max(0, prices.recomputeNs(node.index) - prices.readNs(TIERS[tier]!));
  }

  /** What it saves, each second, to keep it until the best time for that. */
  function worthOf(node: PageNode, shelf: Shelf, nowNs: number): number {
    const { best } = outlookOf(node, nowNs);
    if (shelf.tier !== DEVICE) return usesPerSecond(best) * savesNs(node, shelf);
    const recomputeNs = prices.recomputeNs(node.index);
    const below = TIERS.find((_, tier) => tier > DEVICE && node.at[tier]! >= 0);
    const readNs = Math.min(recomputeNs, prices.readNs(below ?? 'host'));
    if (below !== undefined) return usesPerSecond(best) * readNs;
    // Instead of being lost it may come down: then it costs reading it and its place there. Writing
    // it costs as much whenever it leaves.
    const { probability, holdSeconds } = best;
    const loweredNs = probability * readNs + holdSeconds * placeWorthNs[HOST]!;
    return Math.min(probability * recomputeNs, loweredNs) / holdSeconds;
  }

  return {
    writesThrough: false,
    keepsOrder: false,
    queueOf(node, shelf) {
      const isCopy = shelf.tier === DEVICE && node.isStored;
      return classOf(node) + (isCopy ? CLASSES : 0);
    },
    victim(shelf, nowNs) {
      let least: PageNode | undefined;
      let leastNs = Infinity;
      for (let queue = 0; queue < shelf.queues; queue++) {
        const node = shelf.first(queue);
        if (node === undefined) continue;
        const worthNs = worthOf(node, shelf, nowNs);
        const isOlder = least === undefined || node.usedNs < least.usedNs;
        if (worthNs > leastNs || (worthNs === leastNs && !isOlder)) continue;
        leastNs = worthNs;
        least = node;
      }
      const { tier } = shelf;
      placeWorthNs[tier]! += PLACE_WORTH_SHARE * (leastNs - placeWorthNs[tier]!);
      return least!;
    },
    admits(span, shelf, nowNs) {
      const last = span[span.length - 1]!;
      // It continues what is kept: without it, that would be lost.
      if (hasChildrenIn(last, shelf)) return span.length;
      const first = startOf(last, shelf);
      const saveNs = (savesNs(first, shelf) + savesNs(last, shelf)) / 2;
      const writeNs = prices.writeNs(TIERS[shelf.tier]!);
      const pays = outlookOf(last, nowNs).horizons.some(
        ({ probability, holdSeconds }) =>
          probability * saveNs > MARGIN * (writeNs + holdSeconds * placeWorthNs[shelf.tier]!),
      );
      return pays ? span.length : 0;
    },
    admitsState({ savedNs, chance }, store) {
      const readNs = prices.readNs(store, 'state');
      return chance * savedNs > prices.writeNs(store, 'state') + chance * readNs;
    },
    used(node, nowNs) {
      if (node.hits > 0) reuse.returned(classOf(node), nowNs - node.usedNs, nowNs);
      reuse.used(classOfHits(node.hits + 1), nowNs);
    },
  };
}

function classOf({ hits }: PageNode): number {
  return classOfHits(hits);
}

function classOfHits(hits: number): number {
  return Math.min(Math.max(hits, 1), CLASSES) - 1;
}

function hasChildrenIn(node: PageNode, { tier }: Shelf): boolean {
  for (const child of node.children ?? []) if (child.at[tier]! >= 0) return true;
  return false;
}

/** The first of the pages before it that were used as often: what would be written with it. */
function startOf(node: PageNode, { tier }: Shelf): PageNode {
  let first = node;
  while (first.parent !== null && first.parent.hits === node.hits && first.parent.at[tier]! < 0) {
    first = first.parent;
  }
  return first;
}
