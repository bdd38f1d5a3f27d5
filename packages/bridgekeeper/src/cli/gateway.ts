import { once } from 'node:events';
import { hostname } from 'node:os';
import {
  flag,
  integer,
  number,
  oneOf,
  onOff,
  repeated,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import { readVersion } from '../version.ts';
import type { CliCommand } from './command.ts';
import { stopSignal } from './stop-signal.ts';
import { webAddress } from './web-address.ts';

const FLAGS = {
  routes: flag(text('file'), undefined, 'pools and replicas; read again when it changes'),
  control: flag(
    repeated(webAddress),
    undefined,
    'follow the routes of this control plane instead; repeated: each of several controls',
  ),
  controlKeyFile: flag(text('file'), undefined, 'this gateway’s key at the control plane'),
  name: flag(text('name'), undefined, 'what it calls itself there; default: the host’s name'),
  stateFile: flag(
    text('file'),
    'gateway-routes.json',
    'where the last routes of the control plane are kept, for a start while that is away',
  ),
  host: flag(text('address'), '127.0.0.1', 'address to listen on'),
  port: flag(integer(0, 65_535), 8080, 'port to listen on; 0 takes a free one'),
  uds: flag(text('path'), undefined, 'listen on this Unix socket instead of host and port'),
  sslKeyfile: flag(text('file'), undefined, 'TLS private key (PEM)'),
  sslCertfile: flag(text('file'), undefined, 'TLS certificate chain (PEM)'),
  operatorKeyFile: flag(text('file'), undefined, 'keys that read /metrics, one a line'),
  allowedOrigins: flag(repeated(text('origin')), [], 'browser origins that may call (CORS)'),
  allowedHosts: flag(repeated(text('name')), [], 'host names to answer to without keys; *: any'),
  affinity: flag(
    oneOf('on', 'shadow', 'off'),
    'on',
    'equal prefixes go to one replica; shadow: only count what that would change',
  ),
  splitAt: flag(
    integer(1, 65_536),
    16,
    'requests of one prefix in flight, for each replica that it is given',
  ),
  loadFactor: flag(
    number(1, 100),
    1.25,
    'how much more than its fair share a replica may have for the sake of prefixes',
  ),
  attempts: flag(integer(1, 16), 3, 'replicas that one request is tried on'),
  maxWaiting: flag(integer(0, 1e6), 1024, 'requests that wait for a replica with room'),
  queueTimeout: flag(number(1, 86_400), 60, 'seconds that a request waits for a replica'),
  holdSeconds: flag(
    number(0, 3600),
    30,
    'a request waits for a model that starts in less; else it is told to come again',
  ),
  replicaTimeout: flag(number(1, 86_400), 600, 'seconds without a byte from a replica'),
  requestTimeout: flag(number(1, 86_400), 60, 'seconds that a client has for its request'),
  stallTimeout: flag(number(1, 86_400), 60, 'seconds that a client may leave an answer unread'),
  maxConnections: flag(integer(1, 1e6), 16_384, 'connections of clients'),
  maxBodyBytes: flag(integer(1, 2 ** 31), 32 * 2 ** 20, 'largest request'),
  maxBodiesBytes: flag(integer(1, 2 ** 40), 256 * 2 ** 20, 'requests in memory at once'),
  shutdownTimeout: flag(number(0, 86_400), 30, 'seconds that open answers have at a stop'),
  accessLog: flag(onOff(), false, 'a line for each request, without its text'),
  logLevel: flag(oneOf('debug', 'info', 'warn', 'error'), 'info', 'what is logged'),
  json: flag(onOff(), false, 'print where it listens as JSON, and log to standard error'),
};

const RUN: CliCommand<typeof FLAGS> = {
  name: 'gateway',
  summary: 'one API in front of many replicas',
  flags: FLAGS,
  notes: 'Wants --routes or --control. Runs until interrupted. See docs/gateway.md.',
  run: ({ values }, io) => runGateway(values, io),
};

const DASHBOARD_FLAGS = {
  alerts: flag(onOff(), false, 'the rules of Prometheus in its place'),
};

const DASHBOARD: CliCommand<typeof DASHBOARD_FLAGS> = {
  name: 'gateway dashboard',
  summary: 'print a dashboard of Grafana with every metric of the gateway',
  flags: DASHBOARD_FLAGS,
  async run({ values }, io) {
    const { gatewayAlerts, gatewayDashboard } = await import('@bridgekeeper/gateway');
    io.out(JSON.stringify(values.alerts ? gatewayAlerts() : gatewayDashboard(), null, 2));
    return 0;
  },
};

export const GATEWAY: readonly CliCommand[] = [RUN, DASHBOARD];

async function runGateway(values: Values<typeof FLAGS>, io: CliIo): Promise<0> {
  const { startGateway } = await import('@bridgekeeper/gateway');
  const { openLog } = await import('@bridgekeeper/server/edge');
  const { HOST_CLOCK, unixMs } = await import('@bridgekeeper/server/host-clock');
  const log = openLog({
    level: values.logLevel,
    pretty: io.isTerminal && !values.json,
    destination: values.json ? 2 : 1,
    colour: io.environment.NO_COLOR === undefined,
  });
  const settings = {
    ...values,
    source: sourceOf(values, io),
    operatorKey: operatorsOf(values, io),
  };
  const parts = { clock: HOST_CLOCK, unixMs, log, version: readVersion().version };
  const gateway = await startGateway(settings, parts);
  log.info(`gateway at ${values.uds === undefined ? gateway.url : `unix:${values.uds}`}`);
  if (values.json) io.out(JSON.stringify({ url: gateway.url, uds: values.uds ?? null }));
  const stop = stopSignal(io);
  if (!stop.aborted) await once(stop, 'abort');
  log.info(`finishing ${gateway.openAnswers} answers for up to ${values.shutdownTimeout} s`);
  await gateway.stop(values.shutdownTimeout);
  log.info('stopped');
  return 0;
}

function sourceOf(values: Values<typeof FLAGS>, io: CliIo) {
  const { routes, control, controlKeyFile, stateFile, name = ownName() } = values;
  if ((routes === undefined) === (control === undefined)) {
    throw new UsageError('bad-combination', 'give --routes or --control, and not both');
  }
  if (routes !== undefined) return { kind: 'file', path: routes } as const;
  if (controlKeyFile === undefined) {
    throw new UsageError('bad-combination', '--control wants --control-key-file too');
  }
  const [key] = keysIn(controlKeyFile, '--control-key-file', io);
  return { kind: 'control', urls: control!, key: key!, name, stateFile } as const;
}

function operatorsOf({ operatorKeyFile }: Values<typeof FLAGS>, io: CliIo): readonly string[] {
  return operatorKeyFile === undefined ? [] : keysIn(operatorKeyFile, '--operator-key-file', io);
}

/** Throws UsageError, which has nothing of a key. */
function keysIn(path: string, flagName: string, io: CliIo): readonly string[] {
  let text: string;
  try {
    text = io.readFile(path);
  } catch (cause) {
    throw new UsageError('bad-file', `${flagName}: cannot read ${path}`, { cause });
  }
  const keys = text.split(/\s+/).filter((word) => word !== '');
  if (keys.length > 0 && keys.every((key) => /^[\x21-\x7e]{1,256}$/.test(key))) return keys;
  throw new UsageError('bad-file', `${flagName}: ${path} has no key, or what is none`);
}

function ownName(): string {
  const name = hostname()
    .toLowerCase()
    .replace(/[^a-z0-9-]/g, '-')
    .replace(/^-+|-+$/g, '');
  return name.slice(0, 63) || 'gateway';
}
