import type { HostHandle, UploadedCopy, UploadTarget } from './device.ts';
import { DeviceError } from './errors.ts';

/** One copy up: `bytes` bytes between places that are given by offsets. */
export interface Upload {
  readonly host: HostHandle;
  readonly hostOffsetBytes: number;
  readonly target: UploadTarget;
  readonly targetOffsetBytes: number;
  readonly bytes: number;
}

/** What makes the copies of an uploader. Those to one target are made in their order. */
export interface UploadEngine {
  /** Begins copy `number`. */
  begin(upload: Upload, number: number): void;
  /** Blocks this thread until copy `number`, one of the last `UPLOADS_MAX`, has been made. */
  await(number: number): void;
  close(): void;
}

/** Copies of one uploader that may be under way at once. */
export const UPLOADS_MAX = 8;

/** Copies up, issued by a thread that has the bytes, and not by a lane. */
export class Uploader {
  readonly #engine: UploadEngine;
  readonly #nowNs: () => number;
  /** Begun, and not yet known to have been made: the oldest first. */
  readonly #underWay: { bytes: number; issuedNs: number; issuerBlockedNs: number }[] = [];
  #begun = 0;
  #lastCompletedNs = 0;

  constructor(engine: UploadEngine, nowNs: () => number) {
    this.#engine = engine;
    this.#nowNs = nowNs;
  }

  /** Begins a copy. The host's bytes must stay until it has been made. Throws DeviceError. */
  begin(upload: Upload): void {
    if (this.#underWay.length === UPLOADS_MAX) {
      throw new RangeError(`more than ${UPLOADS_MAX} copies would be under way: wait first`);
    }
    assertWithin('host', upload.host.bytes, upload.hostOffsetBytes, upload.bytes);
    assertWithin('device', upload.target.bytes, upload.targetOffsetBytes, upload.bytes);
    const issuedNs = this.#nowNs();
    this.#engine.begin(upload, this.#begun++);
    const issuerBlockedNs = this.#nowNs() - issuedNs;
    this.#underWay.push({ bytes: upload.bytes, issuedNs, issuerBlockedNs });
  }

  /**
   * Blocks this thread until all but the last `left` copies have been made. Returns those that have
   * been since the last time. Throws DeviceError.
   */
  wait(left: number): UploadedCopy[] {
    const made: UploadedCopy[] = [];
    while (this.#underWay.length > left) {
      this.#engine.await(this.#begun - this.#underWay.length);
      const completedNs = this.#nowNs();
      const copy = this.#underWay.shift()!;
      // One after the other, as far as this thread can tell.
      const startedNs = Math.max(copy.issuedNs, this.#lastCompletedNs);
      this.#lastCompletedNs = completedNs;
      made.push({ ...copy, startedNs, completedNs });
    }
    return made;
  }

  close(): void {
    this.#engine.close();
  }
}

function assertWithin(side: string, size: number, offsetBytes: number, bytes: number): void {
  if (offsetBytes >= 0 && bytes >= 0 && offsetBytes + bytes <= size) return;
  const range = `[${offsetBytes}, +${bytes})`;
  throw new DeviceError('bad-argument', `${range} lies outside ${size} bytes of ${side} memory`);
}
