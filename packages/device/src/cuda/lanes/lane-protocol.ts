import type { DeviceErrorCode } from '../../errors.ts';
import type { LawStart } from '../../law/imposed-law.ts';
import type { Copy, CopyTimes } from '../copies/copy.ts';

/** What a lane's thread is started with. */
export interface LaneStart extends LawStart {
  readonly driverPath: string;
  readonly ordinal: number;
  /** The launching thread's context, or null for a context of its own. */
  readonly context: bigint | null;
  readonly holdAddress: bigint;
  readonly counters: SharedArrayBuffer;
  readonly clockOrigin: [number, number];
}

export interface CopyOrder {
  readonly number: number;
  readonly copy: Copy;
  /** An event that marks the work before the copy; null: there is none. */
  readonly ready: bigint | null;
}
export type LaneRequest = CopyOrder | 'close';

export interface LaneFailure {
  readonly code: DeviceErrorCode;
  readonly message: string;
}
export type LaneReply =
  | { readonly kind: 'open' }
  | { readonly kind: 'copied'; readonly number: number; readonly times: CopyTimes }
  | { readonly kind: 'failed'; readonly number: number; readonly failure: LaneFailure };
