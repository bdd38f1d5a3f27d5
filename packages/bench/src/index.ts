export { BenchError } from './errors.ts';
export { type GivenFlags, runSuite } from './run-suite.ts';
export type { SuiteParameter } from './suite.ts';
export { SUITES } from './suites.ts';
