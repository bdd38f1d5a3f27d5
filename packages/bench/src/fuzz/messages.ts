import type { ModuleCoverage } from './coverage.ts';

/** What the fuzzing thread is started with. */
export interface FuzzOrder {
  readonly inputs: number;
  readonly seed: number;
  /** null: all of them. */
  readonly target: string | null;
  /** Two 32-bit numbers that the thread keeps up to date: the target, and its input. */
  readonly place: SharedArrayBuffer;
}

/** What came of one target. */
export interface TargetOutcome {
  readonly target: string;
  readonly inputs: number;
  readonly seconds: number;
  readonly read: number;
  readonly refused: Readonly<Record<string, number>>;
  readonly slowestMs: number;
  /** What ended it early. */
  readonly fault: Fault | null;
}

export interface Fault {
  readonly kind: 'accepted' | 'crashed';
  readonly message: string;
  readonly inputBase64: string;
}

export type FuzzMessage =
  | { readonly kind: 'target'; readonly outcome: TargetOutcome }
  | { readonly kind: 'coverage'; readonly modules: readonly ModuleCoverage[] };
