import { readFileSync, statSync } from 'node:fs';
import type { Logger } from '@bridgekeeper/server/edge';
import type { ServerClock } from '@bridgekeeper/server/host-clock';
import { GatewayError } from './errors.ts';
import { ROUTES_BYTES_MAX, readRoutes, type StaticTable } from './routes-file.ts';
import type { TableSource } from './source.ts';

const LOOK_SECONDS = 1;

export interface FileSourceParts {
  readonly clock: ServerClock;
  readonly log: Logger;
  readonly taken: (table: StaticTable) => void;
}

/** A file of routes, which is read again when it changes; what is no table changes nothing. */
export class FileSource implements TableSource {
  readonly isConnected = true;
  readonly #path: string;
  readonly #parts: FileSourceParts;
  readonly #stop: () => void;
  #sequence = 0;
  #seen = '';
  heardNs: number | null = null;

  /** Throws GatewayError 'bad-table'. */
  constructor(path: string, parts: FileSourceParts) {
    this.#path = path;
    this.#parts = parts;
    this.#take();
    this.#stop = parts.clock.every(LOOK_SECONDS, () => this.look());
  }

  /** Reads the file, if it is another than it was. */
  look(): void {
    const { clock, log } = this.#parts;
    try {
      if (this.#mark() === this.#seen) this.heardNs = clock.nowNs();
      else this.#take();
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      log.warn(`${error.message}: the routes stay as they were`);
    }
  }

  close(): void {
    this.#stop();
  }

  #take(): void {
    // Also where it cannot be read, so that this is said once.
    this.#seen = this.#mark();
    const text = this.#read();
    const table = readRoutes(text, this.#sequence, this.#path);
    this.#sequence += 1;
    this.heardNs = this.#parts.clock.nowNs();
    this.#parts.taken(table);
  }

  #mark(): string {
    const { mtimeMs, size, ino } = statSync(this.#path, { throwIfNoEntry: false }) ?? {};
    return `${mtimeMs} ${size} ${ino}`;
  }

  #read(): string {
    try {
      if (statSync(this.#path).size > ROUTES_BYTES_MAX) {
        throw new GatewayError('bad-table', `${this.#path} is over ${ROUTES_BYTES_MAX} bytes`);
      }
      return readFileSync(this.#path, 'utf8');
    } catch (error) {
      if (error instanceof GatewayError) throw error;
      const { code } = error as NodeJS.ErrnoException;
      throw new GatewayError('bad-table', `cannot read ${this.#path} (${code})`, { cause: error });
    }
  }
}
