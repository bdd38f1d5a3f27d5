// What threads need of this package that only fill host memory: it is there in no time.
export { SystemClock } from './clock/system-clock.ts';
export { openHostHandle } from './host-handle.ts';
