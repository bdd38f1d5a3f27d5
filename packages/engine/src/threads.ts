// What this engine's threads run, for those that run them elsewhere than in threads.
export { serveStore } from './mover/serve-store.ts';
export type { StoreStart } from './mover/store-protocol.ts';
