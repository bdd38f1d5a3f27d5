export { placeAfter, startOf as placeBefore } from '../grammar/testing/matcher.ts';
export { sampleBytes } from '../grammar/testing/sample.ts';
export { writeModelFolder } from '../selftest/model-folder.ts';
export { FairWatch } from './fair-watch.ts';
