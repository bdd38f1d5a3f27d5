import type { HostHandle } from '@bridgekeeper/device';
import type { Identity, SealFailure } from './sealed-slots.ts';

/** What the storage thread is started with. */
export interface StoreStart {
  /** Where pages go; null: there is no disk. */
  readonly disk: { readonly folder: string; readonly model: string } | null;
}

interface Place {
  readonly host: HostHandle;
  readonly hostOffsetBytes: number;
  readonly bytes: number;
}

/** One thing that the storage thread does, in the order in which it is asked. */
export type StoreOrder =
  | { readonly kind: 'touch'; readonly host: HostHandle }
  | (Place & {
      readonly kind: 'write' | 'read';
      readonly position: number;
      readonly identity: Identity;
    })
  | { readonly kind: 'drop'; readonly positions: readonly number[] }
  | { readonly kind: 'drop-all' }
  | { readonly kind: 'close' };

export interface NumberedOrder {
  readonly number: number;
  readonly order: StoreOrder;
}

export interface StoreReply {
  readonly number: number;
  /** null: it was done. */
  readonly failure: SealFailure | null;
}

/** First of all replies: whether the disk can be used. */
export interface StoreOpened {
  /** null: it can, or there is none. */
  readonly refusal: string | null;
}
