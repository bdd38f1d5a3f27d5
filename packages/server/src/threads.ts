// What this server's threads run, for those that run them elsewhere than in threads.

export { hostEngine } from './engine/engine-host.ts';
export { type EngineThreadData, FAILURE_CAUSES } from './engine/messages.ts';
export { keepReceipts } from './receipts/keeper.ts';
export type { ReceiptsThreadData } from './receipts/messages.ts';
