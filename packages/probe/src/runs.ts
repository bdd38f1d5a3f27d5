import type { BenchRun } from '@bridgekeeper/report';

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
  | 'peer';

/** The runs of one measure, those with these parameters only. */
export function select(
  runs: readonly BenchRun[],
  measure: Measure,
  parameters: BenchRun['parameters'] = {},
): BenchRun[] {
  const wanted = Object.entries({ ...parameters, measure });
  return runs.filter((run) => wanted.every(([name, value]) => run.parameters[name] === value));
}

/** A metric of the only such run; undefined where nothing was measured. */
export function metric(
  runs: readonly BenchRun[],
  measure: Measure,
  name: string,
  parameters: BenchRun['parameters'] = {},
): number | undefined {
  return select(runs, measure, parameters)[0]?.metrics[name];
}
