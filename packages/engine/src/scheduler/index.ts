/**
 * The parts by which other engines than this one are simulated: they schedule and keep KV as this
 * one does, and differ in what crosses.
 */
export { PrefixTree } from '../kv/prefix-tree.ts';
export type { RowResult, StepPlan } from './plan.ts';
export { Scheduler } from './scheduler.ts';
export { Sequence } from './sequence.ts';
