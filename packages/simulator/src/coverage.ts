import { CLIENT_KINDS } from './clients/clients.ts';
import { FAULT_NAMES } from './faults.ts';
import { POLICIES } from './product/settings.ts';

/** What is known that a simulation can reach; more may be, and is shown, too. */
const REACHABLE: readonly string[] = [
  ...FAULT_NAMES.map((name) => `fault: ${name}`),
  ...CLIENT_KINDS.map((kind) => `client: ${kind}`),
  ...POLICIES.map((policy) => `policy: ${policy}`),
  ...['complete', 'failed', 'cut', 'refused', 'unreachable'].map((kind) => `outcome: ${kind}`),
  ...[
    'tiers: none',
    'tiers: host',
    'tiers: disk',
    'gateway',
    'server started',
    'server stopped',
    'client left',
    'client lost its patience',
    'answer without a receipt',
    'receipt seen kept',
    'engine: preempted',
    'engine: prefix found',
    'engine: pages spilled',
    'engine: pages restored',
    'failed: error engine_failed',
    'failed: error shutting_down',
    'failed: error engine_asleep',
    'failed: error replica_lost',
    'refused: 429 queue_full',
    'refused: 429 rate_limited',
    'refused: 500 engine_failed',
    'refused: 503 shutting_down',
    'refused: 503 engine_asleep',
    'refused: 502 replica_failed',
    'refused: 503 no_replica',
    'unreachable: ECONNREFUSED',
    'unreachable: ECONNRESET',
    'unreachable: ETIMEDOUT',
    'start refused: UsageError bad-value',
    'start refused: UsageError bad-file',
  ],
];

export interface CoverageRow {
  readonly what: string;
  readonly count: number;
}

/** Everything that was reached, and what is known and never was, with 0. */
export function coverageTable(all: Iterable<ReadonlyMap<string, number>>): CoverageRow[] {
  const sums = new Map<string, number>(REACHABLE.map((what) => [what, 0]));
  for (const each of all) {
    for (const [what, count] of each) sums.set(what, (sums.get(what) ?? 0) + count);
  }
  const rows = [...sums].map(([what, count]) => ({ what, count }));
  return rows.sort((a, b) => (a.what < b.what ? -1 : 1));
}
