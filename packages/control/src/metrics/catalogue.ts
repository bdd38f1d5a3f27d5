import { type Alert, alertRules, dashboardOf } from './dashboard.ts';
import type { MetricSpec } from './spec.ts';

/** Every metric of control: /metrics, the dashboard and the page of metrics follow from it. */
export const CONTROL_METRICS = {
  leads: {
    name: 'bridgekeeper:control_leads',
    type: 'gauge',
    labels: [],
    unit: 'short',
    help: 'Whether this control leads: 1, else 0.',
    row: 'Leadership and store',
  },
  epoch: {
    name: 'bridgekeeper:control_epoch',
    type: 'gauge',
    labels: [],
    unit: 'short',
    help: 'The epoch of the last term of this control: it grows with each new leader.',
    row: 'Leadership and store',
    isEachOwn: true,
  },
  terms: {
    name: 'bridgekeeper:control_terms_total',
    type: 'counter',
    labels: [],
    unit: 'short',
    help: 'Terms that this control has begun to lead.',
    row: 'Leadership and store',
  },
  troubles: {
    name: 'bridgekeeper:control_troubles_total',
    type: 'counter',
    labels: ['code'],
    unit: 'reqps',
    help: 'What went wrong and is tried again, by its code: the store, a lost lease.',
    row: 'Leadership and store',
  },
  sequence: {
    name: 'bridgekeeper:control_sequence',
    type: 'gauge',
    labels: [],
    unit: 'short',
    help: 'The sequence of the last change that was written.',
    row: 'Leadership and store',
    isEachOwn: true,
  },
  changes: {
    name: 'bridgekeeper:control_changes_total',
    type: 'counter',
    labels: ['kind'],
    unit: 'reqps',
    help: 'Rows that were written, by kind.',
    row: 'Leadership and store',
  },
  commits: {
    name: 'bridgekeeper:control_commit_seconds',
    type: 'histogram',
    labels: [],
    unit: 's',
    help: 'How long the store took to write a batch: in whole milliseconds.',
    row: 'Leadership and store',
  },
  rounds: {
    name: 'bridgekeeper:control_round_seconds',
    type: 'histogram',
    labels: [],
    unit: 's',
    help: 'How long a round of reconciliation took until it was written: in whole milliseconds.',
    row: 'Leadership and store',
  },
  requests: {
    name: 'bridgekeeper:control_requests_total',
    type: 'counter',
    labels: ['call', 'code'],
    unit: 'reqps',
    help: 'Calls that were answered, by call and code: ok, or that of the error.',
    row: 'Leadership and store',
  },
  hosts: {
    name: 'bridgekeeper:control_hosts',
    type: 'gauge',
    labels: ['state'],
    unit: 'short',
    help: 'Hosts by state: joined, ready, cordoned, draining, lost.',
    row: 'Hosts',
  },
  gpus: {
    name: 'bridgekeeper:control_gpus',
    type: 'gauge',
    labels: ['state'],
    unit: 'short',
    help: 'GPUs by state: free, claimed, quarantined.',
    row: 'Hosts',
  },
  gateways: {
    name: 'bridgekeeper:control_gateways',
    type: 'gauge',
    labels: [],
    unit: 'short',
    help: 'Gateways that were heard of lately.',
    row: 'Hosts',
  },
  replicas: {
    name: 'bridgekeeper:control_replicas',
    type: 'gauge',
    labels: ['pool', 'phase'],
    unit: 'short',
    help: 'Replicas by pool and phase.',
    row: 'Pools and evidence',
  },
  wanted: {
    name: 'bridgekeeper:control_replicas_wanted',
    type: 'gauge',
    labels: ['pool'],
    unit: 'short',
    help: 'Replicas of a pool that shall serve at least.',
    row: 'Pools and evidence',
  },
  poolTroubles: {
    name: 'bridgekeeper:control_pool_trouble',
    type: 'gauge',
    labels: ['pool'],
    unit: 'short',
    help: 'Whether a pool has fewer replicas than it shall because none can be placed: 1, else 0.',
    row: 'Pools and evidence',
  },
  failures: {
    name: 'bridgekeeper:control_pool_failures',
    type: 'gauge',
    labels: ['pool'],
    unit: 'short',
    help: 'Replicas of a pool that failed in a row.',
    row: 'Pools and evidence',
  },
  evidenceLeft: {
    name: 'bridgekeeper:control_evidence_left_seconds',
    type: 'gauge',
    labels: ['pool'],
    unit: 's',
    help: 'Until the first evidence of a replica that is up is too old.',
    row: 'Pools and evidence',
  },
  verdicts: {
    name: 'bridgekeeper:control_verdicts_total',
    type: 'counter',
    labels: ['outcome'],
    unit: 'reqps',
    help: 'Evidence that was judged: accepted, refused.',
    row: 'Pools and evidence',
  },
} as const satisfies Readonly<Record<string, MetricSpec>>;

/** A dashboard of Grafana with a panel for each metric of control. */
export function controlDashboard(): object {
  return dashboardOf({
    uid: 'bridgekeeper-control',
    title: 'Bridgekeeper control',
    rows: ['Leadership and store', 'Hosts', 'Pools and evidence'],
    metrics: Object.values(CONTROL_METRICS),
  });
}

const { leads, hosts, gpus, replicas, wanted, poolTroubles, evidenceLeft } = CONTROL_METRICS;
const { verdicts, commits, terms, failures } = CONTROL_METRICS;

const ALERTS: readonly Alert[] = [
  {
    name: 'ControlNoLeader',
    expr: `(sum(${leads.name}) or vector(0)) == 0`,
    minutes: 1,
    severity: 'page',
    summary: 'No control leads: gateways and agents go on with what they have, nothing is mended.',
  },
  {
    name: 'ControlLeadersChange',
    expr: `sum(increase(${terms.name}[10m])) > 3`,
    minutes: 5,
    severity: 'ticket',
    summary: 'Leaders are replaced again and again: see the database and its clock.',
  },
  {
    name: 'ControlStoreSlow',
    expr: `histogram_quantile(0.9, sum by (le) (rate(${commits.name}_bucket[5m]))) > 0.5`,
    minutes: 5,
    severity: 'ticket',
    summary: 'One in ten batches takes over half a second to be written.',
  },
  {
    name: 'ControlHostLost',
    expr: `sum(${hosts.name}{state="lost"}) > 0`,
    minutes: 5,
    severity: 'page',
    summary: '{{ $value }} hosts are not heard of: their replicas serve until their evidence ends.',
  },
  {
    name: 'ControlQuarantine',
    expr: `sum(${gpus.name}{state="quarantined"}) > 0`,
    minutes: 5,
    severity: 'ticket',
    summary: '{{ $value }} GPUs are out of service until a person has looked at them.',
  },
  {
    name: 'ControlEvidenceRefused',
    expr: `sum(increase(${verdicts.name}{outcome="refused"}[10m])) > 0`,
    minutes: 0,
    severity: 'page',
    summary: 'Evidence of a replica did not hold: its GPUs are in quarantine.',
  },
  {
    name: 'ControlEvidenceEnds',
    expr: `min by (pool) (${evidenceLeft.name}) < 60`,
    minutes: 1,
    severity: 'ticket',
    summary: 'A replica of pool {{ $labels.pool }} does not answer its challenge.',
  },
  {
    name: 'ControlPoolShort',
    expr:
      `sum by (pool) (${wanted.name}) > ` +
      `(sum by (pool) (${replicas.name}{phase="serving"}) or 0 * sum by (pool) (${wanted.name}))`,
    minutes: 10,
    severity: 'page',
    summary: 'Pool {{ $labels.pool }} has fewer replicas that serve than it shall.',
  },
  {
    name: 'ControlNothingFits',
    expr: `max by (pool) (${poolTroubles.name}) == 1`,
    minutes: 10,
    severity: 'ticket',
    summary:
      'No host has room for pool {{ $labels.pool }}: `control get pool` says what is missing.',
  },
  {
    name: 'ControlReplicasFail',
    expr: `max by (pool) (${failures.name}) > 3`,
    minutes: 0,
    severity: 'ticket',
    summary: 'Replicas of pool {{ $labels.pool }} fail one after the other.',
  },
];

export function controlAlerts(): object {
  return alertRules('bridgekeeper-control', ALERTS);
}
