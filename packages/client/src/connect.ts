import type { VerifyResult } from '@bridgekeeper/attest';
import { readAddress, type ServerAddress } from './address.ts';
import type { Channel, Pin } from './channel.ts';
import type { FetchInput } from './outgoing.ts';
import { type ConnectOptions, VerifiedConnection } from './verified-connection.ts';

/** A server that was verified, and the way to it. */
export interface Verified {
  /** In the place of the platform's `fetch`: to this server's proven key alone. */
  readonly fetch: (input: FetchInput, init?: RequestInit) => Promise<Response>;
  /** Of the server: what `/v1` is below, without a slash at its end. */
  readonly baseUrl: string;
  /** The last verification that held. */
  readonly report: VerifyResult;
  /** What requests are held to now. */
  readonly pin: Pin;
  /** Ends what is under way; requests fail from now on. */
  close(): void;
}

/** Verifies the server and keeps what was verified. Throws ClientError. */
export async function openVerified(
  url: string,
  options: ConnectOptions,
  channelTo: (address: ServerAddress) => Channel,
): Promise<Verified> {
  const address = readAddress(url);
  const connection = new VerifiedConnection(address, options, () => channelTo(address));
  await connection.verified();
  return {
    fetch: (input, init) => connection.fetch(input, init),
    baseUrl: address.origin + address.basePath,
    get report() {
      return connection.last!.report;
    },
    get pin() {
      return connection.last!.pin;
    },
    close: () => connection.close(),
  };
}
