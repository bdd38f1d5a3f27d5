import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { ReceiptsError } from './errors.ts';

/**
 * Makes this process the one that writes to `path`, by a file beside it: two processes would fork
 * the chain. What a dead process left is taken over. Returns what gives it back. Throws
 * ReceiptsError 'in-use' or 'bad-file'.
 */
export function own(path: string): () => void {
  const mark = `${path}.owner`;
  for (;;) {
    try {
      writeFileSync(mark, identityOf(process.pid) ?? `${process.pid}`, { flag: 'wx', mode: 0o600 });
      return () => rmSync(mark, { force: true });
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code !== 'EEXIST') {
        throw new ReceiptsError('bad-file', `cannot write ${mark} (${code})`, { cause });
      }
    }
    const pid = livingOwner(mark);
    if (pid === undefined) rmSync(mark, { force: true });
    else throw new ReceiptsError('in-use', `${path} is in use by process ${pid}`);
  }
}

/** The process that the mark names, if it is the same one and still runs. */
function livingOwner(mark: string): number | undefined {
  const written = read(mark);
  const pid = Number.parseInt(written ?? '', 10);
  if (!Number.isSafeInteger(pid) || pid <= 0) return undefined;
  const identity = identityOf(pid);
  if (identity !== undefined) return identity === written ? pid : undefined;
  try {
    process.kill(pid, 0);
    return pid;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? pid : undefined;
  }
}

/** Numbers of processes come again: with their start and that of the machine they are unique. */
function identityOf(pid: number): string | undefined {
  const boot = read('/proc/sys/kernel/random/boot_id');
  const status = read(`/proc/${pid}/stat`);
  if (boot === undefined || status === undefined) return undefined;
  // The name, in brackets, may hold anything; behind it are the state and, 20th, the start. A dead
  // process that its parent has not noticed yet is still listed, as a zombie.
  const fields = status.slice(status.lastIndexOf(')') + 2).split(' ');
  return `${pid} ${fields[0] === 'Z' ? 'dead' : fields[19]} ${boot.trim()}`;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
