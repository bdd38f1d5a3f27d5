import type { ModelSpec } from '../models/spec.ts';
import { countParameters } from '../models/summary.ts';

/** Parameters of the model: a tied head counts once. */
export function parameterCount(spec: ModelSpec): number {
  return countParameters(spec).total;
}
