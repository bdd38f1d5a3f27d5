import type { EngineRestarts } from '../engine/restarting-engine.ts';
import { Reading } from './reading.ts';

/** How often the engine failed, and was started again. */
export function restartMetrics(
  restarts: () => EngineRestarts,
  labels: Readonly<Record<string, string>>,
): Reading[] {
  return [
    new Reading(
      'bridgekeeper:engine_restarts_total',
      'counter',
      'Engines started in place of one that failed.',
      () => [{ labels, value: restarts().count }],
    ),
    new Reading(
      'bridgekeeper:engine_failures_total',
      'counter',
      'Failures of the engine, and of starting it again, by cause.',
      () =>
        Object.entries(restarts().failures).map(([cause, value]) => ({
          labels: { cause, ...labels },
          value,
        })),
    ),
    new Reading(
      'bridgekeeper:resumed_requests_total',
      'counter',
      'Requests that went on with the engine after the one that failed.',
      () => [{ labels, value: restarts().resumed }],
    ),
  ];
}
