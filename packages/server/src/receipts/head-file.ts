import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { readSignedHead, type SignedHead } from '@bridgekeeper/attest';

/**
 * The chain's signed end, in a file apart from the receipts: where only those were cut or
 * exchanged, it shows.
 */
export class HeadFile {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** null: there is none. Throws what reading it throws. */
  read(): SignedHead | null {
    let text: string;
    try {
      text = readFileSync(this.path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
    return readSignedHead(text, this.path);
  }

  /** The old one or the new one is there at every moment, and the new one afterwards. */
  write(head: SignedHead): void {
    const next = `${this.path}.next`;
    writeFileSync(next, `${JSON.stringify(head)}\n`, { mode: 0o600, flush: true });
    renameSync(next, this.path);
    const folder = openSync(dirname(this.path), 'r');
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  }
}
