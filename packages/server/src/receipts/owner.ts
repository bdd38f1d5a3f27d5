import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { lockFile, NativeError } from '@bridgekeeper/native';
import type { ServerClock } from '../host-clock.ts';
import { ReceiptsError } from './errors.ts';

/** A file that no other process may own until it is given back, or this process ends. */
export interface OwnedFile {
  /** Its own name, without links: what SQLite keeps beside a file is beside this one. */
  readonly path: string;
  release(): void;
}

export interface OwnOptions {
  readonly clock: Pick<ServerClock, 'nowNs' | 'sleepUntilNs'>;
  /** How long to wait for another process to give the file back. */
  readonly waitSeconds: number;
  /** Told once, when the wait begins. */
  readonly onWait: (message: string) => void;
  /** Locks an open file; false: another one has it. By default by the system's flock. */
  readonly lock?: ((fd: number) => boolean) | undefined;
}

const RETRY_NS = 0.2e9;

/**
 * Makes this process the one that writes to `path`, by the system's lock on the file itself: two
 * processes would fork the chain. A process that dies leaves nothing to be taken over. Makes the
 * file, empty, and its folder where they are missing. Throws ReceiptsError 'in-use' or 'bad-file'.
 */
export async function own(
  path: string,
  { clock, waitSeconds, onWait, lock = lockFile }: OwnOptions,
): Promise<OwnedFile> {
  const startNs = clock.nowNs();
  const endNs = startNs + waitSeconds * 1e9;
  for (let nowNs = startNs; ; nowNs = clock.nowNs()) {
    const owned = ownNow(path, lock);
    if (owned !== null) return owned;
    const message = `${path} is in use by another process`;
    if (nowNs >= endNs) throw new ReceiptsError('in-use', message);
    if (nowNs === startNs) onWait(`${message}: waiting up to ${waitSeconds} s for it`);
    await clock.sleepUntilNs(Math.min(endNs, nowNs + RETRY_NS));
  }
}

/** The same without waiting; null: another process has it. Throws ReceiptsError 'bad-file'. */
export function ownNow(path: string, lock: (fd: number) => boolean = lockFile): OwnedFile | null {
  return translated(path, () => tryToOwn(path, lock));
}

/** null: somebody else has it. */
function tryToOwn(path: string, lock: (fd: number) => boolean): OwnedFile | null {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  let isOwned = false;
  try {
    const real = realpathSync(path);
    // A file that was moved away before it was locked is no longer the one of that name.
    isOwned = lock(fd) && isSameFile(fstatSync(fd, BIG), statSync(real, BIG));
    return isOwned ? { path: real, release: () => closeSync(fd) } : null;
  } finally {
    if (!isOwned) closeSync(fd);
  }
}

const BIG = { bigint: true } as const;

/** Where a file is, whatever it is called. */
interface FileIdentity {
  readonly dev: bigint;
  readonly ino: bigint;
}

/** The file that is there now; undefined: none. */
export function fileAt(path: string): FileIdentity | undefined {
  return statSync(path, { bigint: true, throwIfNoEntry: false });
}

export function isSameFile(one: FileIdentity, other: FileIdentity | undefined): boolean {
  return one.dev === other?.dev && one.ino === other.ino;
}

function translated<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const why = cause instanceof NativeError ? message : (code ?? message);
    throw new ReceiptsError('bad-file', `cannot open ${path}: ${why}`, { cause });
  }
}
