import { TIER_POLICY_NAMES } from '@bridgekeeper/engine';
import { API_ERROR_CODES } from '@bridgekeeper/server/edge';
import { FAILURE_CAUSES } from '@bridgekeeper/server/threads';
import { CLIENT_KINDS, OUTCOMES } from './clients/clients.ts';
import { FAULT_NAMES } from './faults.ts';
import { SERVER_STATES } from './product/server-process.ts';
import { POLICIES } from './product/settings.ts';

/** All pairs: those that cannot be stay at 0, and the table says so of each. */
const transitions = SERVER_STATES.flatMap((from) =>
  SERVER_STATES.filter((to) => to !== from).map((to) => `server: ${from} to ${to}`),
);

/**
 * What a simulation could reach, from the product's own closed sets: what is added to one of them
 * is in the table from then on, as never reached until it is.
 */
const REACHABLE: readonly string[] = [
  ...FAULT_NAMES.map((name) => `fault: ${name}`),
  ...CLIENT_KINDS.map((kind) => `client: ${kind}`),
  ...POLICIES.map((policy) => `policy: ${policy}`),
  ...TIER_POLICY_NAMES.map((name) => `tier policy: ${name}`),
  ...OUTCOMES.map((kind) => `outcome: ${kind}`),
  ...API_ERROR_CODES.map((code) => `error: ${code}`),
  ...FAILURE_CAUSES.map((cause) => `engine failed: ${cause}`),
  ...transitions,
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
