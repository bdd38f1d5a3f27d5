export { arrivalSeconds } from './arrivals.ts';
export { Draws } from './draws.ts';
export { readTrace, type TraceRecord } from './trace.ts';
