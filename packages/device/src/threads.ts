// What threads need of this package, and no more: they are to be ready at once.
export { checksumOf } from './checksum.ts';
export { SystemClock } from './clock/system-clock.ts';
export { bytesPerElement } from './device.ts';
export { DeviceError } from './errors.ts';
export {
  CONTROL_TOKEN_BYTE,
  GOTO_ENTRY,
  GRAMMAR,
  GRAMMAR_HEADER_WORDS,
  MAX_TOKEN_FRAMES,
  MOVE,
  MOVE_ENTRY,
  NO_STATE,
  STATE_COMPLETE,
  STATE_FINAL,
  STATE_MINIMUM,
  STATE_THINKING,
} from './grammar-layout.ts';
export { hashTreeOf } from './hash-tree.ts';
export { openHostHandle } from './host-handle.ts';
export { openUploader } from './open-uploader.ts';
export type { Uploader } from './uploader.ts';
