export type { Pin } from './channel.ts';
export type { ClientClock } from './clock.ts';
export type { Verified } from './connect.ts';
export { ClientError, type ClientErrorCode } from './errors.ts';
export { endToEndHeaders } from './outgoing.ts';
export type { Services } from './services.ts';
export type { ConnectOptions, Verification } from './verified-connection.ts';
