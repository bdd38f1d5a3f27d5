import { SYSTEM_CLOCK } from './clock.ts';
import { openVerified, type Verified } from './connect.ts';
import { SealedChannel, type SealedOptions } from './sealed-channel.ts';
import type { ConnectOptions } from './verified-connection.ts';

export type { Pin } from './channel.ts';
export type { ClientClock } from './clock.ts';
export type { Verified } from './connect.ts';
export { ClientError, type ClientErrorCode } from './errors.ts';
export { endToEndHeaders } from './outgoing.ts';
export type { SealedOptions } from './sealed-channel.ts';
export type { Services } from './services.ts';
export type { ConnectOptions, Verification } from './verified-connection.ts';

/**
 * Verifies the server at `url` (with or without `/v1`), which may be behind gateways that end TLS,
 * and returns a `fetch` that encrypts each request to the key which the report proves. The policy
 * is asked for that key in the place of the connection's: `requireEncryption`. Runs in browsers.
 * Throws ClientError: 'refused' with the verification's result, and others.
 */
export function connect(url: string, options: ConnectOptions & SealedOptions): Promise<Verified> {
  const { clock = SYSTEM_CLOCK } = options;
  return openVerified(url, options, (address) => new SealedChannel(address, clock, options));
}
