import type { RouteReplica } from '@bridgekeeper/control/api';
import { REPLICA_HEADER as ANSWERED, replicaText } from '@bridgekeeper/server/edge';

/** Which replica a request is for, from clients; which one answered, to them. */
export const REPLICA_HEADER = ANSWERED.toLowerCase();
/** SHA-256, in hex, of what a sealed request begins with: made by the client, with a salt. */
export const PREFIX_HEADER = 'x-bridgekeeper-prefix';

/** Of one connection, or ours to say. */
const NOT_PASSED_ON = new Set([
  // Events are cut here, so they come as they are.
  'accept-encoding',
  'authorization',
  'connection',
  'content-length',
  'cookie',
  'expect',
  'forwarded',
  'host',
  'keep-alive',
  'origin',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'referer',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'via',
  'x-api-key',
  'x-request-id',
]);
const OURS = /^(?:x-forwarded-|x-real-ip$|sec-|x-bridgekeeper-|access-control-)/;

const isPassedOn = (name: string) => !NOT_PASSED_ON.has(name) && !OURS.test(name);

/** A client's headers, as lines for a replica. Node has checked their characters. */
export function forwardedLines(rawHeaders: readonly string[]): string {
  const named = connectionNames(rawHeaders);
  let lines = '';
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!.toLowerCase();
    if (isPassedOn(name) && !named.has(name)) lines += `${name}: ${rawHeaders[at + 1]}\r\n`;
  }
  return lines;
}

/** Headers that `Connection` makes the connection's own. */
function connectionNames(rawHeaders: readonly string[]): ReadonlySet<string> {
  const names = new Set<string>();
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if (rawHeaders[at]!.toLowerCase() !== 'connection') continue;
    for (const name of rawHeaders[at + 1]!.split(',')) names.add(name.trim().toLowerCase());
  }
  return names;
}

/** A replica's headers, for a client. */
export function answeredHeaders(
  headers: readonly (readonly [string, string])[],
): Record<string, string | string[]> {
  const kept: Record<string, string | string[]> = {};
  for (const [name, value] of headers) {
    if (!isPassedOn(name) || name === 'date' || name === 'vary' || name === 'set-cookie') continue;
    const before = kept[name];
    kept[name] = before === undefined ? value : [before, value].flat();
  }
  return kept;
}

/** Which replica this is, in the words of its receipts: name, tenancy epoch, index in its log. */
export function replicaHeader({ replica, tenancyEpoch, logIndex }: RouteReplica): string {
  return replicaText({ id: replica, tenancyEpoch, logIndex });
}
