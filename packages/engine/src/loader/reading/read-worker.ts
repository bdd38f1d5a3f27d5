import { parentPort } from 'node:worker_threads';
import { SystemClock } from '@bridgekeeper/device/threads';
import { serveReads } from './serve-reads.ts';

const clock = new SystemClock();
serveReads(parentPort!, () => clock.nowNs());
