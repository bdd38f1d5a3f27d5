/** Measured elsewhere, as the raw files have it: a test holds each number to its file. */

/** Tokens a second of 32 requests at once: `docs/results/policies/h100.json`. */
export const TOKENS_A_SECOND = [
  { policy: 'overlap', law: 'off', tokens: 2514.5 },
  { policy: 'overlap', law: 'b300-cc', tokens: 2386.8 },
  { policy: 'resident', law: 'off', tokens: 2540.8 },
  { policy: 'resident', law: 'b300-cc', tokens: 2548.6 },
] as const;

/** Crossings a token of one request alone, under b300-cc: the same file. */
export const CROSSINGS_A_TOKEN = [
  { policy: 'overlap', crossings: 1.02 },
  { policy: 'resident', crossings: 0.281 },
] as const;

/** Milliseconds of the fabric's log: `docs/results/fabric/speed-quiet.json`. */
export const LOG_MS = {
  diskSync: { p50Ms: 0.517, p95Ms: 0.72 },
  append: { p50Ms: 0.986, p95Ms: 1.279 },
  witness: { p50Ms: 2.572, p95Ms: 7.062 },
} as const;
