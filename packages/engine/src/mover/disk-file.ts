import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { SlotFile } from './sealed-slots.ts';

/** A file that has no name any more: it is gone with the process, however that ends. */
export class DiskFile implements SlotFile {
  readonly #file: number;

  /** Throws what the system throws. */
  constructor(folder: string) {
    const { O_CREAT, O_EXCL, O_RDWR, O_NOFOLLOW } = constants;
    const path = join(folder, `bridgekeeper-kv-${randomBytes(8).toString('hex')}`);
    this.#file = openSync(path, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW, 0o600);
    unlinkSync(path);
  }

  write(position: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(this.#file, bytes, done, bytes.length - done, position + done);
    }
  }

  read(position: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const read = readSync(this.#file, bytes, done, bytes.length - done, position + done);
      if (read === 0) throw new Error('the file ends before the slot does');
      done += read;
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}
