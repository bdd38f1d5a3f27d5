import { GATEWAY_METRICS, type MetricSpec } from './catalogue.ts';

const ROWS = ['Traffic', 'Latency', 'Replicas', 'Table and control'] as const;
const PANEL = { width: 8, height: 7, perRow: 3 } as const;

/** What Prometheus is asked for one metric, and how its lines are called. */
function queriesOf({ name, type, labels }: MetricSpec): { expr: string; legendFormat: string }[] {
  const by = labels.length === 0 ? '' : ` by (${labels.join(', ')})`;
  const legendFormat = labels.map((label) => `{{${label}}}`).join(' ') || name.split(':').at(-1)!;
  switch (type) {
    case 'counter':
      return [{ expr: `sum${by} (rate(${name}[$__rate_interval]))`, legendFormat }];
    case 'gauge':
      return [{ expr: `sum${by} (${name})`, legendFormat }];
    case 'histogram':
      return [0.5, 0.9, 0.99].map((share) => ({
        expr: `histogram_quantile(${share}, sum by (le) (rate(${name}_bucket[$__rate_interval])))`,
        legendFormat: `p${share * 100}`,
      }));
  }
}

/** Gauges of which the worst gateway counts, and not their sum. */
const WORST: ReadonlySet<string> = new Set([
  GATEWAY_METRICS.tableAge.name,
  GATEWAY_METRICS.tableSequence.name,
  GATEWAY_METRICS.controlUp.name,
]);

function panelOf(spec: MetricSpec, id: number, x: number, y: number): object {
  const targets = WORST.has(spec.name)
    ? [{ expr: spec.name, legendFormat: '{{instance}}' }]
    : queriesOf(spec);
  return {
    id,
    type: 'timeseries',
    title: spec.help.split(':')[0]!.replace(/\.$/, ''),
    description: spec.help,
    datasource: { type: 'prometheus', uid: `$\{datasource}` },
    gridPos: { x, y, w: PANEL.width, h: PANEL.height },
    fieldConfig: { defaults: { unit: spec.unit, min: 0 }, overrides: [] },
    options: { legend: { displayMode: 'list', placement: 'bottom' } },
    targets: targets.map((target, at) => ({ refId: String.fromCharCode(65 + at), ...target })),
  };
}

/** A dashboard of Grafana with a panel for each metric of the gateway, in rows. */
export function gatewayDashboard(): object {
  const panels: object[] = [];
  let y = 0;
  for (const row of ROWS) {
    panels.push({
      id: panels.length + 1,
      type: 'row',
      title: row,
      collapsed: false,
      gridPos: { x: 0, y, w: PANEL.width * PANEL.perRow, h: 1 },
      panels: [],
    });
    y += 1;
    const specs: MetricSpec[] = Object.values(GATEWAY_METRICS).filter((each) => each.row === row);
    for (const [at, spec] of specs.entries()) {
      const x = (at % PANEL.perRow) * PANEL.width;
      const top = y + Math.floor(at / PANEL.perRow) * PANEL.height;
      panels.push(panelOf(spec, panels.length + 1, x, top));
    }
    y += Math.ceil(specs.length / PANEL.perRow) * PANEL.height;
  }
  return {
    uid: 'bridgekeeper-gateway',
    title: 'Bridgekeeper gateway',
    tags: ['bridgekeeper'],
    schemaVersion: 39,
    editable: true,
    refresh: '10s',
    time: { from: 'now-1h', to: 'now' },
    templating: {
      list: [{ name: 'datasource', type: 'datasource', query: 'prometheus', label: 'Data source' }],
    },
    panels,
  };
}

interface Alert {
  readonly name: string;
  readonly expr: string;
  readonly minutes: number;
  readonly severity: 'page' | 'ticket';
  readonly summary: string;
}

const { requests, replicas, waiting, tableAge, controlUp, firstByte, refusals } = GATEWAY_METRICS;

const ALERTS: readonly Alert[] = [
  {
    name: 'GatewayNoReplica',
    expr: `sum by (pool) (${replicas.name}{state="serving"}) == 0`,
    minutes: 2,
    severity: 'page',
    summary: 'Pool {{ $labels.pool }} has no replica that serves.',
  },
  {
    name: 'GatewayStreamsLost',
    expr:
      `sum by (pool) (rate(${requests.name}{outcome="lost"}[5m])) / ` +
      `sum by (pool) (rate(${requests.name}[5m])) > 0.01`,
    minutes: 5,
    severity: 'page',
    summary: 'More than one in a hundred answers of pool {{ $labels.pool }} broke off.',
  },
  {
    name: 'GatewayRequestsWait',
    expr: `sum by (pool) (${waiting.name}) > 0`,
    minutes: 5,
    severity: 'ticket',
    summary: 'Requests wait for a replica of pool {{ $labels.pool }} with room.',
  },
  {
    name: 'GatewayTableOld',
    expr: `max by (instance) (${tableAge.name}) > 60 or min by (instance) (${controlUp.name}) == 0`,
    minutes: 2,
    severity: 'ticket',
    summary: 'Gateway {{ $labels.instance }} goes by its last routes: control is not heard.',
  },
  {
    name: 'GatewaySlowFirstByte',
    expr: `histogram_quantile(0.9, sum by (le) (rate(${firstByte.name}_bucket[5m]))) > 10`,
    minutes: 10,
    severity: 'ticket',
    summary: 'One in ten answers takes over 10 s to begin.',
  },
  {
    name: 'GatewayReplicasFail',
    expr: `sum (rate(${refusals.name}{code=~"replica_failed|no_replica"}[5m])) > 0.1`,
    minutes: 5,
    severity: 'page',
    summary: 'Requests end with an error because no replica answers them.',
  },
];

/** Rules of Prometheus: JSON, which is YAML too. */
export function gatewayAlerts(): object {
  const rules = ALERTS.map(({ name, expr, minutes, severity, summary }) => ({
    alert: name,
    expr,
    for: `${minutes}m`,
    labels: { severity },
    annotations: { summary },
  }));
  return { groups: [{ name: 'bridgekeeper-gateway', rules }] };
}
