/** What a metric counts in: how a dashboard shows it. */
export type Unit = 'short' | 's' | 'reqps' | 'percentunit';

export interface MetricSpec {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly unit: Unit;
  readonly help: string;
  /** Where a dashboard shows it. */
  readonly row: 'Traffic' | 'Latency' | 'Replicas' | 'Table and control';
}

/** Every metric of the gateway: /metrics, the dashboard and the page of metrics follow from it. */
export const GATEWAY_METRICS = {
  requests: {
    name: 'bridgekeeper:gateway_requests_total',
    type: 'counter',
    labels: ['pool', 'outcome'],
    unit: 'reqps',
    help: 'Requests by how they ended: complete, refused, lost, left.',
    row: 'Traffic',
  },
  refusals: {
    name: 'bridgekeeper:gateway_refusals_total',
    type: 'counter',
    labels: ['code'],
    unit: 'reqps',
    help: 'Answers with an error of the gateway, by its code.',
    row: 'Traffic',
  },
  retries: {
    name: 'bridgekeeper:gateway_retries_total',
    type: 'counter',
    labels: ['reason'],
    unit: 'reqps',
    help: 'Requests that were given to a replica again before an answer had begun.',
    row: 'Traffic',
  },
  events: {
    name: 'bridgekeeper:gateway_events_total',
    type: 'counter',
    labels: ['pool'],
    unit: 'short',
    help: 'Events of streams that were passed on: about one a token.',
    row: 'Traffic',
  },
  sealed: {
    name: 'bridgekeeper:gateway_sealed_requests_total',
    type: 'counter',
    labels: ['sealed'],
    unit: 'reqps',
    help: 'Requests that only a replica can read (true), and those that were read to be routed.',
    row: 'Traffic',
  },
  inFlight: {
    name: 'bridgekeeper:gateway_in_flight',
    type: 'gauge',
    labels: ['pool'],
    unit: 'short',
    help: 'Requests at replicas.',
    row: 'Traffic',
  },
  waiting: {
    name: 'bridgekeeper:gateway_waiting',
    type: 'gauge',
    labels: ['pool'],
    unit: 'short',
    help: 'Requests that wait for a replica with room.',
    row: 'Traffic',
  },
  bodyBytes: {
    name: 'bridgekeeper:gateway_body_bytes',
    type: 'gauge',
    labels: [],
    unit: 'short',
    help: 'Bodies of open requests in memory.',
    row: 'Traffic',
  },
  firstByte: {
    name: 'bridgekeeper:gateway_first_byte_seconds',
    type: 'histogram',
    labels: [],
    unit: 's',
    help: 'From the arrival of a request to the first byte of its answer.',
    row: 'Latency',
  },
  placed: {
    name: 'bridgekeeper:gateway_placed_seconds',
    type: 'histogram',
    labels: [],
    unit: 's',
    help: 'From the arrival of a request to its leaving for the replica that answered.',
    row: 'Latency',
  },
  replicaInFlight: {
    name: 'bridgekeeper:gateway_replica_in_flight',
    type: 'gauge',
    labels: ['pool', 'replica'],
    unit: 'short',
    help: 'Requests at a replica.',
    row: 'Replicas',
  },
  replicaRequests: {
    name: 'bridgekeeper:gateway_replica_requests_total',
    type: 'counter',
    labels: ['pool', 'replica'],
    unit: 'reqps',
    help: 'Requests that a replica was given.',
    row: 'Replicas',
  },
  replicaFailures: {
    name: 'bridgekeeper:gateway_replica_failures_total',
    type: 'counter',
    labels: ['pool', 'replica'],
    unit: 'reqps',
    help: 'Requests that a replica failed.',
    row: 'Replicas',
  },
  replicas: {
    name: 'bridgekeeper:gateway_replicas',
    type: 'gauge',
    labels: ['pool', 'state'],
    unit: 'short',
    help: 'Replicas of the table: serving, paused after a failure, stale evidence, draining.',
    row: 'Replicas',
  },
  affinity: {
    name: 'bridgekeeper:gateway_affinity_total',
    type: 'counter',
    labels: ['choice'],
    unit: 'reqps',
    help: 'In shadow mode: requests whose replica would have been the same by prefix, or another.',
    row: 'Replicas',
  },
  tableAge: {
    name: 'bridgekeeper:gateway_table_age_seconds',
    type: 'gauge',
    labels: [],
    unit: 's',
    help: 'Since the source of the routing table was last heard.',
    row: 'Table and control',
  },
  tableSequence: {
    name: 'bridgekeeper:gateway_table_sequence',
    type: 'gauge',
    labels: [],
    unit: 'short',
    help: 'The sequence of the routing table in use.',
    row: 'Table and control',
  },
  controlUp: {
    name: 'bridgekeeper:gateway_control_up',
    type: 'gauge',
    labels: [],
    unit: 'short',
    help: '1 while the source of the routing table is heard, 0 while the last table is used alone.',
    row: 'Table and control',
  },
} as const satisfies Readonly<Record<string, MetricSpec>>;
