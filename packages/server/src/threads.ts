// What this server's threads run, for those that run them elsewhere than in threads; and what it
// loads when it is first needed, for those that cannot wait for it.

export { hostEngine } from './engine/engine-host.ts';
export { type EngineThreadData, FAILURE_CAUSES } from './engine/messages.ts';
export { loadAttest } from './evidence/reporter.ts';
export { keepReceipts } from './receipts/keeper.ts';
export type { ReceiptsThreadData } from './receipts/messages.ts';
