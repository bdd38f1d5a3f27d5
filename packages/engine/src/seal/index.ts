export { type SealProgress, sealModel } from '../sealing/make.ts';
export { type SealFault, verifyModel } from '../sealing/verify.ts';
export { USER_KEY_BYTES } from './cipher.ts';
export { isChunkSize, type Seal } from './manifest.ts';
export type { SealPolicy } from './open.ts';
export { openModel, pinSeal } from './open-model.ts';
