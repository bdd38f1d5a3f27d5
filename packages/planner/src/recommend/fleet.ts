/** What a fleet needs for a load. */
export interface Fleet {
  readonly requestsPerSecond: number;
  readonly replicas: number;
  readonly gpus: number;
  /** Of what a replica can take at the SLO, the part that it is given. */
  readonly utilization: number;
}

/** Replicas are filled to this part: arrivals are never spread evenly over them. */
const FILLED = 0.85;

/**
 * Replicas for a load, from the rate that one takes within the SLO; null where one takes none at
 * all.
 */
export function fleetFor(
  requestsPerSecond: number,
  replicaRequestsPerSecond: number,
  gpusPerReplica: number,
): Fleet | null {
  if (replicaRequestsPerSecond <= 0) return null;
  const replicas = Math.max(1, Math.ceil(requestsPerSecond / (FILLED * replicaRequestsPerSecond)));
  return {
    requestsPerSecond,
    replicas,
    gpus: replicas * gpusPerReplica,
    utilization: requestsPerSecond / (replicas * replicaRequestsPerSecond),
  };
}
