/** What a metric counts in: how a dashboard shows it. */
type Unit = 'short' | 's' | 'reqps' | 'percentunit';

/** One metric of a catalogue, from which its endpoint, dashboard and page follow. */
export interface MetricSpec {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly unit: Unit;
  readonly help: string;
  /** Where a dashboard shows it. */
  readonly row: string;
  /** Each process has its own value, and their sum means nothing. */
  readonly isEachOwn?: boolean;
}
