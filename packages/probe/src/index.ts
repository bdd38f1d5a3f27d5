export { compare, parseCompared } from './compare.ts';
export type { ProbeDocument } from './document.ts';
export { CompareError, ProbeError } from './errors.ts';
export { type ProbeOptions, probe } from './probe.ts';
export { referenceFor } from './ratios.ts';
export { comparisonLines, comparisonPage } from './report/comparison.ts';
export { reportPage } from './report/html.ts';
export { reportLines } from './report/text.ts';
export { savingOf } from './save.ts';
