import type { GatewayReport } from '@bridgekeeper/control/api';
import type { Fleet } from './fleet.ts';

const FAILING_MAX = 256;

/** Which report of which gateway it is. */
type ReportHead = Pick<GatewayReport, 'gateway' | 'startedMs' | 'sequence'>;

/** What control scales by, and looks at: counts since `startedMs`. */
export function reportOf(fleet: Fleet, head: ReportHead): GatewayReport {
  const replicas = [...fleet.replicas];
  return {
    ...head,
    pools: [...fleet.pools].map((pool) => ({
      pool: pool.route.pool,
      inFlight: [...pool.replicas].reduce((sum, { inFlight }) => sum + inFlight, 0),
      waiting: pool.waiting.length,
      requests: pool.requests,
      tokens: pool.tokens,
      lastRequestMs: pool.lastRequestMs,
    })),
    failing: replicas
      .filter(({ lastFault }) => lastFault !== null)
      .slice(0, FAILING_MAX)
      .map(({ route, lastFault }) => ({ replica: route.replica, reason: lastFault! })),
    usage: [...fleet.usage].map(([tenant, used]) => ({ tenant, ...used })),
    draining: replicas
      .filter(({ route }) => route.state === 'draining')
      .map(({ route, inFlight }) => ({ replica: route.replica, inFlight })),
  };
}
