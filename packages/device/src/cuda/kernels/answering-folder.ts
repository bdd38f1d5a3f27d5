import { spawn } from 'node:child_process';
import type { Clock } from '@bridgekeeper/bridge';

const LIMIT_NS = 3e9;
/** Whatever a cache does there: it makes it, writes and reads. Its name shows in `ps`. */
const PROBE = 'mkdir -p -- "$1" && : > "$1/.answers" && cat < "$1/.answers"';

/**
 * Whether a folder answers at all: a refusal is an answer. A file system whose server is gone keeps
 * whoever asks, and no time limit of this process would end its thread: another process asks.
 */
export async function answers(folder: string, clock: Clock): Promise<boolean> {
  const probe = spawn('/bin/sh', ['-c', PROBE, 'cache-probe', folder], { stdio: 'ignore' });
  const over = new Promise<true>((resolve) => {
    probe.once('exit', () => resolve(true));
    // No shell: nothing is known against the folder.
    probe.once('error', () => resolve(true));
  });
  const late = clock.sleepUntilNs(clock.nowNs() + LIMIT_NS).then(() => false as const);
  const isAnswering = await Promise.race([over, late]);
  if (isAnswering) return true;
  probe.kill('SIGKILL');
  probe.unref();
  return false;
}
