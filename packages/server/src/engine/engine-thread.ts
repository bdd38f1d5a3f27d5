import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from '@bridgekeeper/bridge';
import { HOST_CLOCK } from '../host-clock.ts';
import { buildEngine } from './build.ts';
import { hostEngine } from './engine-host.ts';
import type { EngineThreadData } from './messages.ts';

// An engine in a thread of the server's process.

invariant(parentPort !== null, 'engine-thread runs as a worker thread');
const { config } = workerData as EngineThreadData;
await hostEngine(parentPort, config, buildEngine, HOST_CLOCK.every);
