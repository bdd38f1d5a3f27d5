// What threads need that only copy: it is loaded while nothing crosses yet.
export { CUDA, Driver } from './driver.ts';
export { NativeError } from './errors.ts';
export { OutCell, viewNative } from './library.ts';
