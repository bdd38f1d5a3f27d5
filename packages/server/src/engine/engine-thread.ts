import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from '@bridgekeeper/bridge';
import { buildEngine } from './build.ts';
import type { EngineThreadData } from './messages.ts';
import { serveEngine } from './serve-engine.ts';

invariant(parentPort !== null, 'engine-thread runs as a worker thread');
await serveEngine(parentPort, (workerData as EngineThreadData).config, buildEngine);
