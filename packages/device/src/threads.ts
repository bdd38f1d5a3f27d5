// What threads that read need of this package, and no more: they are to be ready at once.
export { SystemClock } from './clock/system-clock.ts';
export { DeviceError } from './errors.ts';
export { openHostHandle } from './host-handle.ts';
export { openUploader } from './open-uploader.ts';
export type { Uploader } from './uploader.ts';
