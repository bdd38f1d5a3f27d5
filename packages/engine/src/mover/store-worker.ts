import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from '@bridgekeeper/bridge/threads';
import { serveStore } from './serve-store.ts';
import type { StoreStart } from './store-protocol.ts';

// The storage thread.
invariant(parentPort !== null, 'store-worker runs as a worker thread');
serveStore(parentPort, workerData as StoreStart);
