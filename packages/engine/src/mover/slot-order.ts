import type { StoredPart, StoreName } from '../kv/tiers/movement.ts';

/** One use of a slot: it may begin once `before` has resolved, and the next one after `end`. */
export interface SlotUse {
  readonly before: Promise<void> | null;
  end(): void;
}

/** A use that ends once each of so many has ended it. */
export function sharedUse({ before, end }: SlotUse, count: number): SlotUse {
  let left = count;
  return {
    before,
    end: () => {
      left -= 1;
      if (left === 0) end();
    },
  };
}

/**
 * What is asked of a slot is done in the order in which it was asked. What could not be written is
 * known, so that nobody reads what was there before.
 */
export class SlotOrder {
  readonly #last = new Map<string, Promise<void>>();
  readonly #broken = new Set<string>();

  begin(store: StoreName, part: StoredPart): SlotUse {
    const id = idOf(store, part);
    const before = this.#last.get(id) ?? null;
    let resolve = () => {};
    const ended = new Promise<void>((done) => {
      resolve = done;
    });
    this.#last.set(id, ended);
    return {
      before,
      end: () => {
        if (this.#last.get(id) === ended) this.#last.delete(id);
        resolve();
      },
    };
  }

  /** It was written, or could not be. */
  wrote(store: StoreName, part: StoredPart, isWhole: boolean): void {
    if (isWhole) this.#broken.delete(idOf(store, part));
    else this.#broken.add(idOf(store, part));
  }

  isBroken(store: StoreName, part: StoredPart): boolean {
    return this.#broken.has(idOf(store, part));
  }
}

function idOf(store: StoreName, { part, slot }: StoredPart): string {
  return `${store} ${part} ${slot}`;
}
