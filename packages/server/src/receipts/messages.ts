import type { ChainHead } from '@bridgekeeper/attest';
import type { Draft, Written } from './book.ts';
import type { ReceiptsErrorCode } from './errors.ts';
import type { Retention, StoredLinks } from './store.ts';

/** What the receipts' thread is started with: plain data. */
export interface ReceiptsThreadData {
  /** null: in memory, with a key that ends with the process. */
  readonly file: ReceiptsPaths | null;
  readonly retention: Retention;
}

export interface ReceiptsPaths {
  /** The file itself, without links. */
  readonly path: string;
  /** As it was named: an earlier version kept the key beside this name. */
  readonly givenPath: string;
}

/** What can be asked for, by the type of its answer. */
export type Question =
  | { readonly kind: 'find'; readonly id: string; readonly tenant: string }
  | { readonly kind: 'links'; readonly first: number; readonly count: number }
  /** Of the chain that this key signs. */
  | { readonly kind: 'head'; readonly key: string }
  | { readonly kind: 'sign'; readonly key: string; readonly message: Uint8Array<ArrayBuffer> };

export interface Answers {
  /** JSON text. */
  readonly find: string | null;
  readonly links: StoredLinks;
  readonly head: ChainHead;
  readonly sign: Uint8Array<ArrayBuffer>;
}

export type ToBook =
  | { readonly kind: 'issue'; readonly draft: Draft }
  | { readonly kind: 'ask'; readonly ask: number; readonly question: Question }
  /** Writes what waits, and looks whether it could. */
  | { readonly kind: 'write' }
  | { readonly kind: 'age'; readonly seconds: number }
  /** From memory to this file, with all there is, as soon as no other process has it. */
  | { readonly kind: 'move'; readonly path: string; readonly retention: Retention }
  | { readonly kind: 'close' };

export type FromBook =
  | { readonly kind: 'ready'; readonly key: string }
  | { readonly kind: 'refused'; readonly code: ReceiptsErrorCode; readonly message: string }
  /** To `move`, once that is done. */
  | { readonly kind: 'moved'; readonly path: string; readonly key: string; readonly count: number }
  | { readonly kind: 'wrote'; readonly result: Written }
  | { readonly kind: 'answer'; readonly ask: number; readonly value: Answers[Question['kind']] }
  /** The disk fails just now: what was asked cannot be read. */
  | { readonly kind: 'unanswered'; readonly ask: number; readonly message: string };
