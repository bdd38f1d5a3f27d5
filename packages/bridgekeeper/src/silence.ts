import { Worker } from 'node:worker_threads';

/** Long for any disk, and short for whoever waits. */
const SILENT_SECONDS = 10;

function lineFor(path: string, seconds: number): string {
  return `bridgekeeper: ${path} has not answered for ${seconds} s; still waiting, Ctrl-C ends this`;
}

/**
 * Runs work that blocks this thread until a path answers, which a network file system may never do.
 * Another thread says so on standard error when that takes long.
 */
export function sayWhenBlocked(path: string, work: () => void, seconds = SILENT_SECONDS): void {
  const url = new URL('./silence-worker.js', import.meta.url);
  const workerData = { line: lineFor(path, seconds), seconds };
  const watch = new Worker(url, { workerData, execArgv: [] });
  // It only ever has something to say for others, and that it cannot start is no failure of theirs.
  watch.on('error', () => {});
  watch.unref();
  try {
    work();
  } finally {
    void watch.terminate();
  }
}

/** Says once for each wait that a path does not answer, where this thread goes on meanwhile. */
export function watchSilence(
  after: (seconds: number, action: () => void) => () => void,
  say: (line: string) => void,
): { expect(path: string): void; end(): void } {
  let cancel = () => {};
  return {
    expect(path) {
      cancel();
      cancel = after(SILENT_SECONDS, () => say(lineFor(path, SILENT_SECONDS)));
    },
    end: () => cancel(),
  };
}
