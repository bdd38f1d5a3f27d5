import type { KvPrices, PageNode, Shelf, TierPolicy } from '@bridgekeeper/engine/measure';
import type { PagedRequest } from './replay.ts';

const DEVICE = 0;
const NEVER = Infinity;

/**
 * A policy that knows the trace: Belady's rule on stores, which give up what is used last; and only
 * pages come there that are used before something that is there, and whose restore saves more than
 * both ways cost. What no policy can be better than by much, and none that works can reach.
 */
export function oracle(
  requests: readonly PagedRequest[],
  prices: KvPrices,
): { readonly policy: TierPolicy; begins(request: number): void } {
  const usesOf = new Map<string, number[]>();
  for (const [request, { ids }] of requests.entries()) {
    for (const id of ids) {
      const uses = usesOf.get(String(id));
      if (uses === undefined) usesOf.set(String(id), [request]);
      else uses.push(request);
    }
  }
  const passed = new Map<string, number>();
  let current = 0;
  /** The request that uses it next, after the current one. */
  const nextUse = (node: PageNode): number => {
    const uses = usesOf.get(node.key)!;
    let at = passed.get(node.key) ?? 0;
    while (at < uses.length && uses[at]! <= current) at += 1;
    passed.set(node.key, at);
    return uses[at] ?? NEVER;
  };
  const latest = new LatestFirst();
  const policy: TierPolicy = {
    writesThrough: false,
    keepsOrder: false,
    queueOf(node, shelf) {
      if (shelf.tier !== DEVICE) latest.add(node, nextUse(node));
      return 0;
    },
    victim(shelf) {
      if (shelf.tier === DEVICE) return shelf.first(0)!;
      return (
        latest.first((node, use) => isIn(node, shelf) && use === nextUse(node)) ?? shelf.first(0)!
      );
    },
    admits(span, shelf) {
      const last = span[span.length - 1]!;
      for (const child of last.children ?? []) if (child.at[shelf.tier]! >= 0) return span.length;
      const bothWaysNs = prices.readNs('host') + prices.writeNs('host');
      const victimUse = shelf.free >= span.length ? NEVER : nextUse(this.victim(shelf, 0));
      const pays = (node: PageNode) =>
        prices.recomputeNs(node.index) > bothWaysNs && nextUse(node) < victimUse;
      // What begins a prefix is used whenever its end is.
      const end = span.findLastIndex(pays) + 1;
      const saves = span
        .slice(0, end)
        .reduce((sum, { index }) => sum + prices.recomputeNs(index), 0);
      return saves > end * bothWaysNs ? end : 0;
    },
  };
  return {
    policy,
    begins(request) {
      current = request;
    },
  };
}

function isIn(node: PageNode, shelf: Shelf): boolean {
  return node.at[shelf.tier]! >= 0 && node.holders === 0;
}

/** A heap of nodes by number, greatest first; numbers that are no longer true are passed over. */
class LatestFirst {
  readonly #heap: { readonly node: PageNode; readonly use: number }[] = [];

  add(node: PageNode, use: number): void {
    const heap = this.#heap;
    heap.push({ node, use });
    let at = heap.length - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (heap[above]!.use >= heap[at]!.use) break;
      [heap[above], heap[at]] = [heap[at]!, heap[above]!];
      at = above;
    }
  }

  first(isTrue: (node: PageNode, use: number) => boolean): PageNode | undefined {
    for (let top = this.#heap[0]; top !== undefined; top = this.#heap[0]) {
      if (isTrue(top.node, top.use)) return top.node;
      this.#removeFirst();
    }
    return undefined;
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    heap[0] = last;
    for (let at = 0; ; ) {
      const [left, right] = [2 * at + 1, 2 * at + 2];
      let largest = at;
      if (left < heap.length && heap[left]!.use > heap[largest]!.use) largest = left;
      if (right < heap.length && heap[right]!.use > heap[largest]!.use) largest = right;
      if (largest === at) return;
      [heap[at], heap[largest]] = [heap[largest]!, heap[at]!];
      at = largest;
    }
  }
}
