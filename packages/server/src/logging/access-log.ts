import type { Logger } from './logger.ts';

/** One request, as it is logged: never its text. */
export interface AccessEntry {
  readonly requestId: string;
  /** Who called: the start of its key's digest, or `default`; absent: nobody known. */
  readonly tenant: string | undefined;
  readonly method: string;
  /** The route, or for what is none the path's beginning. */
  readonly route: string;
  /** 499: the client left first. */
  readonly status: number;
  /** Of an error document. */
  readonly error: string | undefined;
  readonly durationNs: number;
  /** Of an answer. */
  readonly answer:
    | {
        readonly promptTokens: number;
        readonly cachedTokens: number;
        readonly generatedTokens: number;
        /** From the request's arrival to its first tokens; undefined: there were none. */
        readonly firstTokenNs: number | undefined;
      }
    | undefined;
}

/** Asked for every few seconds by machines. */
const FREQUENT = new Set(['/health', '/metrics']);

const milliseconds = (ns: number) => Math.round(ns / 1e4) / 100;

/** Writes the line of one request: what is asked often is for debugging, unless it failed. */
export function logAccess(log: Logger, entry: AccessEntry): void {
  const { method, route, status, tenant, error, answer, durationNs, requestId } = entry;
  const level = FREQUENT.has(route) && status < 400 ? 'debug' : 'info';
  const fields = {
    id: requestId,
    tenant,
    error,
    prompt: answer?.promptTokens,
    cached: answer?.cachedTokens,
    generated: answer?.generatedTokens,
    ttftMs: answer?.firstTokenNs === undefined ? undefined : milliseconds(answer.firstTokenNs),
    ms: milliseconds(durationNs),
  };
  log[level](fields, `${method} ${route} ${status}`);
}
