import type { GatewayReport } from '../api/routing.ts';
import type { Fleet } from './fleet.ts';

/** Where chance comes from: a seed in simulations, the system elsewhere. */
export interface Chance {
  /** `rep_` and 26 digits that ascend with time. */
  readonly id: (prefix: string, nowMs: number) => string;
  /** 32 bytes, in base64url. */
  readonly secret: () => string;
  /** 32 bytes, in hex. */
  readonly nonce: () => string;
}

/** What is heard again within seconds and is not kept: a new leader waits until it has it. */
export interface Heard {
  /** When a host was last heard of. */
  readonly hosts: Map<string, number>;
  /** The last observation's order, so that a late one changes nothing. */
  readonly order: Map<string, { readonly startedMs: number; readonly sequence: number }>;
  readonly gateways: Map<string, { readonly report: GatewayReport; readonly atMs: number }>;
  /** The most replicas that a pool lately needed, and when. */
  readonly peaks: Map<string, { readonly replicas: number; readonly atMs: number }>;
  /** Since when this leader leads. */
  readonly sinceMs: number;
  readonly nowMs: () => number;
}

/** What a gateway said counts for so long; it says it again within a third of that. */
export const REPORT_MS = 15_000;

export function nothingHeard(nowMs: () => number): Heard {
  return {
    hosts: new Map(),
    order: new Map(),
    gateways: new Map(),
    peaks: new Map(),
    sinceMs: nowMs(),
    nowMs,
  };
}

/** What every change is made with. */
export interface Change {
  /** A draft. */
  readonly fleet: Fleet;
  readonly heard: Heard;
  readonly nowMs: number;
  readonly chance: Chance;
}
