export { BenchError } from './errors.ts';
export { runSuite, suiteFlags } from './run-suite.ts';
export { ServeClient, type WrittenRequest } from './serve/client.ts';
export { drive } from './serve/drive.ts';
export type { Outcome } from './serve/outcome.ts';
export { SUITES } from './suites.ts';
