import type { StoredPart, StoreName } from '../kv/tiers/movement.ts';

/** One use of a slot: it may begin once `before` has resolved, and the next one after `end`. */
export interface SlotUse {
  readonly before: Promise<void> | null;
  end(): void;
}

/** What is asked of a slot is done in the order in which it was asked. */
export class SlotOrder {
  readonly #last = new Map<string, Promise<void>>();

  begin(store: StoreName, { group, slot }: StoredPart): SlotUse {
    const id = `${store} ${group} ${slot}`;
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
}
