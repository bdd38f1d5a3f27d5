import {
  collateralService,
  fetchTokenKeys,
  type Http,
  ocspService,
  referenceService,
  type VerifyContext,
} from '@bridgekeeper/attest';
import type { ClientClock } from './clock.ts';

/** Where vendors are asked: for references, revocation, collateral, keys of tokens. */
export type Services = Pick<
  VerifyContext,
  'references' | 'revocation' | 'tokenKeys' | 'collateral'
>;

/** Milliseconds that a vendor's service has for an answer. */
const ANSWER_MS = 15_000;

/** The vendors' own services, over the platform's `fetch`. */
export function vendorServices(clock: ClientClock): (nowMs: number) => Services {
  const http: Http = {
    fetch: globalThis.fetch,
    deadline: () => {
      const stop = new AbortController();
      clock.after(ANSWER_MS, () => stop.abort());
      return stop.signal;
    },
  };
  const nonce = () => crypto.getRandomValues(new Uint8Array(32));
  return (nowMs) => ({
    references: referenceService(http),
    revocation: ocspService({ http, nowMs, nonce, store: null }),
    tokenKeys: () => fetchTokenKeys(http),
    collateral: collateralService(http),
  });
}
