// What threads need of this package, and no more: they are to be ready at once.
export { type StoreStart, serveStore } from './mover/serve-store.ts';
export { EngineError, type EngineErrorCode } from './request/request.ts';
