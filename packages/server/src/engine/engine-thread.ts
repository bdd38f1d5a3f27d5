import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from '@bridgekeeper/bridge';
import { buildEngine } from './build.ts';
import { hostEngine } from './engine-host.ts';
import type { EngineThreadData } from './messages.ts';

// An engine in a thread of the server's process.

invariant(parentPort !== null, 'engine-thread runs as a worker thread');
await hostEngine(parentPort, (workerData as EngineThreadData).config, buildEngine);
