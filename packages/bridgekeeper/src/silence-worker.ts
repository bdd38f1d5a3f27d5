import { writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';

const { line, seconds } = workerData as { readonly line: string; readonly seconds: number };

// Nothing wakes it: it is ended when there is nothing to say.
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000);
// Not through process.stderr: that goes by way of the thread that is blocked.
writeSync(2, `${line}\n`);
