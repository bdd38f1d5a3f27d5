// What threads need of this package that read: it is there in no time.
export { SystemClock } from './clock/system-clock.ts';
export { DeviceError } from './errors.ts';
export { openHostHandle } from './host-handle.ts';
export { openUploader, UPLOADS_MAX, type Uploader } from './uploader.ts';
