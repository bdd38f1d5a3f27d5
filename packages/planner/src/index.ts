export { PlanError } from './errors.ts';
