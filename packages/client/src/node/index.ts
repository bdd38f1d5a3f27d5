// What needs Node: TLS keys are not visible in browsers.
import { openVerified, type Verified } from '../connect.ts';
import type { ConnectOptions } from '../verified-connection.ts';
import { TlsChannel } from './tls-channel.ts';

/**
 * Verifies the server at `url` (https, with or without `/v1`) and returns a `fetch` that sends to
 * the TLS key which the report proves, checked on each connection before a byte of a request is
 * written. Throws ClientError: 'refused' with the verification's result, and others.
 */
export function connect(url: string, options: ConnectOptions): Promise<Verified> {
  return openVerified(url, options, (address) => new TlsChannel(address));
}
