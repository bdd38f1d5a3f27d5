import { parentPort, workerData } from 'node:worker_threads';
import { hostEngine } from './engine-host.ts';
import type { EngineThreadData } from './messages.ts';

// An engine in a thread of the server's process.

await hostEngine(parentPort!, (workerData as EngineThreadData).config);
