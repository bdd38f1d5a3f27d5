import { type Alert, alertRules, dashboardOf } from '@bridgekeeper/control/metrics';
import { GATEWAY_METRICS } from './catalogue.ts';

/** A dashboard of Grafana with a panel for each metric of the gateway, in rows. */
export function gatewayDashboard(): object {
  return dashboardOf({
    uid: 'bridgekeeper-gateway',
    title: 'Bridgekeeper gateway',
    rows: ['Traffic', 'Latency', 'Replicas', 'Table and control'],
    metrics: Object.values(GATEWAY_METRICS),
  });
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

export function gatewayAlerts(): object {
  return alertRules('bridgekeeper-gateway', ALERTS);
}
