import type {
  DeviceErrorCode,
  HostHandle,
  UploadedCopy,
  UploaderStart,
  UploadTarget,
} from '@bridgekeeper/device';
import type { ChunkFile, ChunkTimes } from '../../checkpoint/chunk-file.ts';
import type { ModelErrorCode } from '../../models/errors.ts';

/** What a thread that copies up needs: an uploader, and pinned memory of its own. */
export interface ReaderUploads {
  readonly start: UploaderStart;
  /** All of one size: that of the pieces. */
  readonly buffers: readonly HostHandle[];
}

/** The files that a reading thread's orders are about from now on. */
export interface ReadFiles {
  readonly kind: 'files';
  readonly files: readonly ChunkFile[];
  readonly uploads: ReaderUploads | null;
}

/** To be answered when the thread holds nothing of a load any more. */
export interface ReadEnd {
  readonly kind: 'end';
}

interface Order {
  readonly number: number;
  readonly file: number;
  readonly position: number;
  readonly bytes: number;
  readonly direct: boolean;
}

/** Fill host memory. */
export interface ReadOrder extends Order {
  readonly kind: 'read';
  readonly target: HostHandle;
  /** Where in the target the bytes belong. */
  readonly targetOffsetBytes: number;
}

/** One of the stages alone is for timing it. */
export type UploadStages = 'both' | 'read' | 'cross';

/** Bring bytes to the device. */
export interface UploadOrder extends Order {
  readonly kind: 'upload';
  readonly target: UploadTarget;
  readonly stages: UploadStages;
}

export type ReadMessage = ReadFiles | ReadOrder | UploadOrder | ReadEnd;

export type ReadReply =
  | { readonly kind: 'ended' }
  | {
      readonly kind: 'done';
      readonly number: number;
      readonly times: ChunkTimes;
      readonly copies: readonly UploadedCopy[];
    }
  | { readonly kind: 'failed'; readonly number: number; readonly failure: ReadFailure };

/** An error as it passes between threads. */
export type ReadFailure =
  | { readonly of: 'model'; readonly code: ModelErrorCode; readonly message: string }
  | { readonly of: 'device'; readonly code: DeviceErrorCode; readonly message: string };
