import { parentPort, workerData } from 'node:worker_threads';
import { keepReceipts } from './keeper.ts';
import type { ReceiptsThreadData } from './messages.ts';

await keepReceipts(parentPort!, workerData as ReceiptsThreadData);
