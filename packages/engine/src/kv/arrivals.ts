import { type Arrival, DEVICE, type PageNode, TIERS } from './page-node.ts';
import type { PagedSequence } from './paged-sequence.ts';
import type { Mover, RestoreId, StoreName } from './tiers/movement.ts';
import type { Side } from './tiers/side-parts.ts';

/** What takes so many times as long as it should, and this, does not come any more. */
const LATE_RATIO = 10;
const LATE_LEAST_NS = 10e9;

/** What was asked for, of one store. */
export interface Restoring extends Arrival {
  readonly id: RestoreId;
  readonly tenant: string;
  readonly tier: number;
  /** What comes beside pages. */
  readonly sides: readonly Side[];
  /**
   * What it holds of the prefix: from the first node that something comes for to the last, also
   * those between that are there already. Who waits for the first need not hold the last.
   */
  readonly held: readonly PageNode[];
  /** From then on it is late: nobody waits for it any longer. */
  readonly lateNs: number;
  readonly waiting: Set<PagedSequence>;
  hasFailed: boolean;
}

/** What is on its way to the device, and who waits for it. */
export class Arrivals {
  readonly #mover: Mover;
  readonly #restoring = new Map<RestoreId, Restoring>();

  constructor(mover: Mover) {
    this.#mover = mover;
  }

  get isEmpty(): boolean {
    return this.#restoring.size === 0;
  }

  get(id: RestoreId): Restoring | undefined {
    return this.#restoring.get(id);
  }

  /** Asks for pages of a sequence, and what is beside them, which have places on the device. */
  ask(
    sequence: PagedSequence,
    tier: number,
    nodes: readonly PageNode[],
    sides: readonly Side[],
    nowNs: number,
  ): Restoring {
    const { tenant } = sequence.request;
    const from = TIERS[tier] as StoreName;
    const pages = nodes.map(({ key, at }) => {
      return { part: 'context', page: at[DEVICE]!, slot: at[tier]!, key } as const;
    });
    const others = sides.map(({ stored, node }) => stored.moveOf(node, from));
    const id = this.#mover.restore({ from, tenant, moves: [...pages, ...others] });
    const lateNs = nowNs + LATE_LEAST_NS + LATE_RATIO * this.#mover.dueNs(id);
    const waiting = new Set([sequence]);
    const indexes = [...nodes, ...sides.map(({ node }) => node)].map(({ index }) => index);
    const held = sequence.nodes.slice(Math.min(...indexes), Math.max(...indexes) + 1);
    const restoring = { id, tenant, tier, lateNs, nodes, sides, held, waiting, hasFailed: false };
    this.#restoring.set(id, restoring);
    for (const node of nodes) node.arrival = restoring;
    for (const { stored, node } of sides) stored.pool.comes(node, restoring);
    return restoring;
  }

  /** It has come, or is given up. */
  end(restoring: Restoring): void {
    this.#restoring.delete(restoring.id);
    for (const node of restoring.nodes) node.arrival = null;
    for (const { awaited } of restoring.waiting) awaited!.arrivals.delete(restoring);
  }

  /** What has become late: nothing comes back for it any more. */
  takeLate(nowNs: number): readonly Restoring[] {
    const late: Restoring[] = [];
    for (const restoring of this.#restoring.values()) {
      if (restoring.hasFailed || nowNs < restoring.lateNs) continue;
      restoring.hasFailed = true;
      this.#mover.cancel(restoring.id);
      late.push(restoring);
    }
    return late;
  }

  /** When the first is late, should nothing come before; null: none is under way. */
  get lateNs(): number | null {
    let firstNs: number | null = null;
    for (const { lateNs } of this.#restoring.values()) {
      firstNs = firstNs === null ? lateNs : Math.min(firstNs, lateNs);
    }
    return firstNs;
  }
}

/** Whether nobody but the sequence, which holds them, has to do with what comes from `first` on. */
export function isOnlyFor(
  sequence: PagedSequence,
  { nodes, waiting, hasFailed }: Restoring,
  first: number,
): boolean {
  const isAlone = waiting.size === 1 && waiting.has(sequence) && !hasFailed;
  // The sequence holds each, and so does the arrival.
  return isAlone && nodes[0]!.index === first && nodes.every(({ holders }) => holders === 2);
}
