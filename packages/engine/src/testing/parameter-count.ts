import type { ModelSpec } from '../models/spec.ts';
import { weightTensors } from '../models/weights.ts';

/** Parameters of the model: a tied head counts once. */
export function parameterCount(spec: ModelSpec): number {
  return weightTensors(spec).reduce((total, tensor) => total + tensor.elements, 0);
}
