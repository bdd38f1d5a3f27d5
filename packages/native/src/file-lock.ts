import koffi from 'koffi';
import { NativeError } from './errors.ts';

/** LOCK_EX | LOCK_NB of flock(2), the same number on Linux and macOS. */
const EXCLUSIVE_NOW = 2 | 4;

type Flock = (fd: number, operation: number) => number;
let flock: Flock | undefined;

/**
 * Takes the system's exclusive lock (flock(2)) on an open file; false: another open file has it.
 * The lock is on the file itself, by whatever name or link it was reached, and holds for every
 * process of the machine, whatever namespace it is in. It ends when `fd` is closed, also by the
 * end of the process. Throws NativeError 'unsupported' or 'call-failed'.
 */
export function lockFile(fd: number): boolean {
  flock ??= bind();
  if (flock(fd, EXCLUSIVE_NOW) === 0) return true;
  const status = koffi.errno();
  if (status === koffi.os.errno.EWOULDBLOCK) return false;
  throw new NativeError('call-failed', `flock failed with errno ${status}`, { status });
}

function bind(): Flock {
  try {
    // The C library is part of this very process.
    return koffi.load(null).func('flock', 'int32_t', ['int32_t', 'int32_t']) as Flock;
  } catch (cause) {
    throw new NativeError('unsupported', 'this system has no flock', { cause });
  }
}
