/** Reads a file into host memory that another thread allocated, and says how many bytes it had. */

import { closeSync, openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import type { HostHandle } from '../device.ts';
import { openHostHandle } from '../host-handle.ts';

const { handle, path } = workerData as { handle: HostHandle; path: string };
const bytes = openHostHandle(handle);
const file = openSync(path, 'r');
parentPort?.postMessage(readSync(file, bytes, 0, bytes.length, 0));
closeSync(file);
