export { runSuite, suiteFlags } from './run-suite.ts';
export { SUITES } from './suites.ts';
