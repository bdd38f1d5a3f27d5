import type { MeasuredRun } from '@bridgekeeper/report';

/** What a run of the probe measured: the value of its parameter `measure`. */
export type Measure =
  | 'crossing'
  | 'fresh'
  | 'issue'
  | 'streams'
  | 'directions'
  | 'contexts'
  | 'context'
  | 'context-lifecycle'
  | 'context-limit'
  | 'host-memory'
  | 'submission'
  | 'local'
  | 'nodes'
  | 'small-products'
  | 'batched-copies'
  | 'feature'
  | 'peer'
  | 'collective';

/** The runs of one measure, those with these parameters only. */
export function select(
  runs: readonly MeasuredRun[],
  measure: Measure,
  parameters: MeasuredRun['parameters'] = {},
): MeasuredRun[] {
  const wanted = Object.entries({ ...parameters, measure });
  return runs.filter((run) => wanted.every(([name, value]) => run.parameters[name] === value));
}

/** A metric of the only such run; undefined where nothing was measured. */
export function metric(
  runs: readonly MeasuredRun[],
  measure: Measure,
  name: string,
  parameters: MeasuredRun['parameters'] = {},
): number | undefined {
  return select(runs, measure, parameters)[0]?.metrics[name];
}
