import type { PlanErrorCode } from '../errors.ts';
import type { Prediction } from '../simulate/prediction.ts';
import type { Scenario } from '../simulate/scenario.ts';

/** To a worker: simulate this. */
export interface Order {
  readonly index: number;
  readonly scenario: Scenario;
}

/** From a worker: what it comes to, or why not. Errors lose their class on the way. */
export type Answer =
  | { readonly index: number; readonly prediction: Prediction }
  | {
      readonly index: number;
      /** undefined: nobody foresaw it. */
      readonly code: PlanErrorCode | undefined;
      readonly message: string;
    };
