import type { MetricSpec } from './spec.ts';

const PANEL = { width: 8, height: 7, perRow: 3 } as const;

/** What a dashboard is made of: a panel for each metric, in rows. */
export interface DashboardSpec {
  readonly uid: string;
  readonly title: string;
  readonly rows: readonly string[];
  readonly metrics: readonly MetricSpec[];
}

/** What Prometheus is asked for one metric, and how its lines are called. */
function queriesOf(spec: MetricSpec): { expr: string; legendFormat: string }[] {
  const { name, type, labels } = spec;
  if (spec.isEachOwn === true) return [{ expr: name, legendFormat: '{{instance}}' }];
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

function panelOf(spec: MetricSpec, id: number, x: number, y: number): object {
  return {
    id,
    type: 'timeseries',
    title: spec.help.split(':')[0]!.replace(/\.$/, ''),
    description: spec.help,
    datasource: { type: 'prometheus', uid: `$\{datasource}` },
    gridPos: { x, y, w: PANEL.width, h: PANEL.height },
    fieldConfig: { defaults: { unit: spec.unit, min: 0 }, overrides: [] },
    options: { legend: { displayMode: 'list', placement: 'bottom' } },
    targets: queriesOf(spec).map((target, at) => ({
      refId: String.fromCharCode(65 + at),
      ...target,
    })),
  };
}

/** A dashboard of Grafana. */
export function dashboardOf({ uid, title, rows, metrics }: DashboardSpec): object {
  const panels: object[] = [];
  let y = 0;
  for (const row of rows) {
    panels.push({
      id: panels.length + 1,
      type: 'row',
      title: row,
      collapsed: false,
      gridPos: { x: 0, y, w: PANEL.width * PANEL.perRow, h: 1 },
      panels: [],
    });
    y += 1;
    const specs = metrics.filter((each) => each.row === row);
    for (const [at, spec] of specs.entries()) {
      const x = (at % PANEL.perRow) * PANEL.width;
      const top = y + Math.floor(at / PANEL.perRow) * PANEL.height;
      panels.push(panelOf(spec, panels.length + 1, x, top));
    }
    y += Math.ceil(specs.length / PANEL.perRow) * PANEL.height;
  }
  return {
    uid,
    title,
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

export interface Alert {
  readonly name: string;
  readonly expr: string;
  readonly minutes: number;
  readonly severity: 'page' | 'ticket';
  readonly summary: string;
}

/** Rules of Prometheus: JSON, which is YAML too. */
export function alertRules(group: string, alerts: readonly Alert[]): object {
  const rules = alerts.map(({ name, expr, minutes, severity, summary }) => ({
    alert: name,
    expr,
    for: `${minutes}m`,
    labels: { severity },
    annotations: { summary },
  }));
  return { groups: [{ name: group, rules }] };
}
