/** One request of a load: how long and when, without its text. */
export interface WorkloadRequest {
  /** Nanoseconds from the first one's; 0 in a closed loop, where the one before decides. */
  readonly atNs: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /**
   * By chunk of `Workload.chunkTokens` of the prompt: equal ids, equal tokens. null: it shares
   * nothing with any other.
   */
  readonly chunks: readonly number[] | null;
  /** Whose it is: only requests of one tenant share what they have in common. */
  readonly tenant: string;
}

/** A load that can be replayed. Plain data, the same for the same text and seed. */
export interface Workload {
  /** As its user named it. */
  readonly name: string;
  /** In a closed loop, how many are in flight at a time; null: they come when they come. */
  readonly concurrency: number | null;
  readonly chunkTokens: number;
  /** By `atNs`, ascending. */
  readonly requests: readonly WorkloadRequest[];
}

/** What a load is like, in numbers for a report. */
export interface WorkloadSummary {
  readonly requests: number;
  /** From the first arrival to the last; 0 in a closed loop. */
  readonly spanSeconds: number;
  /** null in a closed loop. */
  readonly requestsPerSecond: number | null;
  readonly promptTokensMean: number;
  readonly promptTokensMax: number;
  readonly outputTokensMean: number;
  readonly outputTokensMax: number;
  /** Of a request's prompt and answer together. */
  readonly requestTokensMax: number;
  /** Of prompts' chunks, the part that came before in a request of the same tenant. */
  readonly sharedFraction: number;
}

export function summariseWorkload(workload: Workload): WorkloadSummary {
  const { requests, concurrency } = workload;
  const count = requests.length;
  const spanSeconds = (requests.at(-1)?.atNs ?? 0) / 1e9;
  const of = (read: (request: WorkloadRequest) => number) => {
    let sum = 0;
    let max = 0;
    for (const request of requests) {
      sum += read(request);
      max = Math.max(max, read(request));
    }
    return { mean: sum / Math.max(1, count), max };
  };
  const prompt = of((request) => request.promptTokens);
  const output = of((request) => request.outputTokens);
  return {
    requests: count,
    spanSeconds,
    requestsPerSecond: concurrency === null && spanSeconds > 0 ? (count - 1) / spanSeconds : null,
    promptTokensMean: prompt.mean,
    promptTokensMax: prompt.max,
    outputTokensMean: output.mean,
    outputTokensMax: output.max,
    requestTokensMax: of((request) => request.promptTokens + request.outputTokens).max,
    sharedFraction: sharedFraction(requests),
  };
}

/** Chunks count as shared from the first on, as far as an earlier prompt had the same ones. */
function sharedFraction(requests: readonly WorkloadRequest[]): number {
  const seen = new Set<string>();
  let chunks = 0;
  let shared = 0;
  for (const { chunks: ids, tenant } of requests) {
    if (ids === null) continue;
    chunks += ids.length;
    let isPrefix = true;
    ids.forEach((id, position) => {
      const key = `${tenant} ${position} ${id}`;
      isPrefix &&= seen.has(key);
      if (isPrefix) shared += 1;
      seen.add(key);
    });
  }
  return shared / Math.max(1, chunks);
}
