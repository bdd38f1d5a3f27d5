/**
 * What the prefix tree asks of whoever moves pages, and what comes back. The tree decides which
 * page goes where and keeps all accounts; a mover owns bytes: stores, staging, crossings.
 *
 * Three promises of a mover make the tree free of locks and of states between:
 * - **The engine's stream says who has a page.** A spill copies pages into staging on it, before
 *   the launch that was planned after it (`queueMoves`), so that a spilled page may be reused at
 *   once. A restore copies staging into pages behind what was launched when it was asked for, and
 *   the engine's stream follows: a page whose restore ended, or was cancelled, is never written
 *   later than its next owner's work.
 * - **What is asked of a slot is done in the order in which it was asked.** A slot may be restored
 *   while its spill is under way, and used anew at once after `drop`.
 * - **Nothing comes back in between.** What has ended is kept until the tree takes it (`settled`),
 *   which it does when a step is planned, on the engine's thread.
 */

/**
 * What of a prefix moves by itself. Each part has a pool of its own on the device, and slots of its
 * own in each store:
 * - `context`: a page of all layers, or of those that see everything. Every node has it;
 * - `window`: a page of the layers that see a window, where they have a pool of their own;
 * - `state`: the state of a row after the node's last token.
 */
export const KV_PARTS = ['context', 'window', 'state'] as const;
export type KvPart = (typeof KV_PARTS)[number];

/** Below the device, best first. */
export type StoreName = 'host' | 'disk';

/** A part of a node's content, and where it is kept. */
export interface StoredPart {
  readonly part: KvPart;
  /** Slots are counted for each part apart. */
  readonly slot: number;
}

/** Where a part that is on the device goes to or comes from. */
export interface PageMove extends StoredPart {
  /** Number in the part's pool: page, page of windows, or place of a snapshot. */
  readonly page: number;
  /** SHA-256 chain over tenant and tokens (`page-key.ts`), latin1: what the content is. */
  readonly key: string;
}

/** Neighbours of one prefix, in the order of their tokens: they cross together. */
export interface MoveSpan {
  readonly tenant: string;
  readonly moves: readonly PageMove[];
}

/** A part that goes from host memory to disk. */
export interface Demotion {
  readonly part: KvPart;
  readonly hostSlot: number;
  readonly diskSlot: number;
  readonly key: string;
}

export type RestoreId = number;

export interface RestoreRequest extends MoveSpan {
  readonly from: StoreName;
}

/** Why something could not be moved. */
export type MoveFailure =
  /** The host gave no memory for the slot, or no longer. */
  | 'no-memory'
  | 'disk-full'
  | 'disk-failed'
  /** More waits for the disk than may. */
  | 'disk-busy'
  /** What was read from disk is not what was written there for this key. */
  | 'not-authentic'
  /** A lane or the device failed in the middle. */
  | 'lane-lost';

/** Something asked of a mover has come to its end. */
export type Settled =
  | {
      /** All layers below `layers` are in the pages: queued on the engine's stream. */
      readonly kind: 'restored';
      readonly id: RestoreId;
      readonly layers: number;
      /** No more comes for this restore: all of its moves are there. */
      readonly isComplete: boolean;
      /** For which the lane was busy with it since it was last told of. */
      readonly laneNs: number;
      readonly bytes: number;
    }
  | {
      /** The pages' content is undefined. The slots named hold nothing any more. */
      readonly kind: 'restore-failed';
      readonly id: RestoreId;
      readonly failure: MoveFailure;
      readonly lost: readonly StoredPart[];
    }
  | {
      readonly kind: 'spilled';
      readonly bytes: number;
      readonly laneNs: number;
    }
  | {
      /** A spill or demotion did not arrive: these slots hold nothing. */
      readonly kind: 'slots-lost';
      readonly store: StoreName;
      readonly failure: MoveFailure;
      readonly lost: readonly StoredPart[];
    };

/** What waits for the lane and the disk now, by what is known of their prices. */
export interface MoverQueue {
  readonly spillNs: number;
  readonly restoreNs: number;
  /** Until the disk would begin with a read that it is given now. */
  readonly diskNs: number;
}

export interface Mover {
  /** Those that the model has; the first is `context`. */
  readonly parts: readonly KvPart[];
  /** Pages that share a toll when they are restored together: fewer are dearer, each. */
  readonly pagesTogether: number;
  /** Slots of each store by part; absent: none. */
  readonly slots: Readonly<Record<StoreName, Readonly<Partial<Record<KvPart, number>>>>>;
  /**
   * Brings pages to their slots in host memory. Says how many leading moves it took: staging, or
   * the budget of spills, may be short for the rest, whose slots stay as they were. The pages may
   * be reused at once.
   */
  spill(span: MoveSpan): number;
  /** Brings content from host memory to disk; the host slots may be reused at once. */
  demote(tenant: string, demotions: readonly Demotion[]): void;
  /** Brings slots into pages, first layers first. Ends with one `settled` that is its last. */
  restore(request: RestoreRequest): RestoreId;
  /** Nothing comes back for it any more, and none of its pages is written any more. */
  cancel(id: RestoreId): void;
  /** These slots' content is wanted no more. */
  drop(store: StoreName, parts: readonly StoredPart[]): void;
  /** All content is wanted no more. Restores were cancelled. */
  dropAll(): void;
  /**
   * Queues on the engine's stream what was asked for and what arrived since; after every plan,
   * before its launch.
   */
  queueMoves(): void | Promise<void>;
  /** What has ended since this was last called, in the order in which it did. */
  settled(): readonly Settled[];
  /** Resolves once `settled` has something: for an engine that has nothing else to do. */
  whenSettled(): Promise<void>;
  queue(): MoverQueue;
  /** Until that restore is there, by what is known, with what the lane has before it. */
  dueNs(id: RestoreId): number;
}
