import { timingSafeEqual } from 'node:crypto';
import {
  HostPolicy,
  HttpServer,
  type ListenSettings,
  type Logger,
  logAccess,
  Quotas,
} from '@bridgekeeper/server/edge';
import type { ServerClock } from '@bridgekeeper/server/host-clock';
import { Fleet, type FleetOptions } from './fleet.ts';
import { BodyBudget } from './http/body.ts';
import { createListener, type Transport } from './http/listener.ts';
import { Homes } from './http/locate.ts';
import { GatewayMetrics, type TableState } from './metrics/gateway-metrics.ts';
import type { Relay, RelayObserver } from './relay/relay.ts';
import { reportOf } from './report.ts';
import { ControlSource } from './table/control-source.ts';
import { FileSource } from './table/file-source.ts';
import { LiveTable } from './table/live-table.ts';
import type { StaticTable } from './table/routes-file.ts';
import type { TableSource } from './table/source.ts';

/** How a gateway runs. */
export interface GatewaySettings extends ListenSettings, FleetOptions {
  /** A file of routes, or where control is. */
  readonly source: FileRoutes | ControlRoutes;
  readonly allowedOrigins: readonly string[];
  readonly allowedHosts: readonly string[];
  readonly operatorKey: readonly string[];
  readonly maxBodyBytes: number;
  /** Bodies of all requests that are open. */
  readonly maxBodiesBytes: number;
  readonly maxWaiting: number;
  readonly attempts: number;
  readonly queueTimeout: number;
  readonly replicaTimeout: number;
  readonly accessLog: boolean;
}

export interface FileRoutes {
  readonly kind: 'file';
  readonly path: string;
}

export interface ControlRoutes {
  readonly kind: 'control';
  /** Of each control, of which one leads. */
  readonly urls: readonly string[];
  readonly key: string;
  /** What this gateway calls itself. */
  readonly name: string;
  /** Where the last table is kept, for a start while control is away. */
  readonly stateFile: string;
}

export interface GatewayParts {
  readonly clock: ServerClock;
  readonly unixMs: () => number;
  readonly log: Logger;
  readonly version: string;
}

export interface RunningGateway {
  readonly url: string;
  /** Streams that are open. */
  readonly openAnswers: number;
  readonly fleet: Fleet;
  /** Lets open answers end for up to `graceSeconds`, then cuts them. */
  stop(graceSeconds: number): Promise<void>;
}

/** How often what is open is looked at. */
const CHECK_SECONDS = 1;
const ATTEMPT_POLL_NS = 20e6;

/** Starts a gateway. Throws GatewayError, and UsageError where it cannot listen. */
export async function startGateway(
  settings: GatewaySettings,
  parts: GatewayParts,
): Promise<RunningGateway> {
  const { clock, log, unixMs } = parts;
  const nowNs = () => clock.nowNs();
  const table = new LiveTable();
  const open = new Set<Relay>();
  let source: TableSource | undefined;
  const fleet = new Fleet(table, settings, {
    clock,
    unixMs,
    wake: ({ pool }) => (source instanceof ControlSource ? source.wake(pool) : undefined),
  });
  const budget = new BodyBudget(settings.maxBodiesBytes);
  const homes = new Homes(fleet);
  const quotas = new Quotas(new Map(), DEFAULT_LIMITS, roomOf(fleet, settings.maxWaiting), clock);
  const tableState = (): TableState => {
    const heardNs = source?.heardNs ?? null;
    return {
      sequence: table.sequence,
      ageSeconds: heardNs === null ? null : Math.max(0, (nowNs() - heardNs) / 1e9),
      isConnected: source?.isConnected ?? false,
    };
  };
  const metrics = new GatewayMetrics({
    fleet,
    budget,
    nowNs,
    unixMs,
    table: tableState,
    kept: (relay) => {
      if (relay.receiptId !== null) homes.remember(relay.receiptId, relay.replica!);
    },
  });
  const startedMs = unixMs();
  let reports = 1;
  const name = settings.source.kind === 'control' ? settings.source.name : '';
  const refreshed = () => {
    fleet.refresh();
    quotas.change(fleet.limits(), roomOf(fleet, settings.maxWaiting));
  };
  const taken = ({ table: next, isOpen }: StaticTable) => {
    fleet.isOpen = isOpen;
    table.replace(next);
    refreshed();
  };
  source =
    settings.source.kind === 'file'
      ? new FileSource(settings.source.path, { clock, log, taken })
      : ControlSource.open(settings.source, {
          clock,
          log,
          table,
          report: () => reportOf(fleet, { gateway: name, startedMs, sequence: reports++ }),
          refreshed,
          shared: (share) => {
            fleet.share = share;
            quotas.change(fleet.limits(), roomOf(fleet, settings.maxWaiting));
          },
        });
  let isStopping = false;
  const listener = createListener({
    fleet,
    quotas,
    homes,
    budget,
    nowNs,
    observer: observerOf(metrics, open, settings, parts),
    limits: {
      attemptsMax: settings.attempts,
      silentChecksMax: settings.replicaTimeout / CHECK_SECONDS,
      stalledChecksMax: settings.stallTimeout / CHECK_SECONDS,
      waitingChecksMax: settings.queueTimeout / CHECK_SECONDS,
    },
    maxBodyBytes: settings.maxBodyBytes,
    allowedOrigins: settings.allowedOrigins,
    hosts: hostPolicyOf(settings, fleet),
    operatorMay: (authorization) => mayOperate(authorization, settings.operatorKey, fleet.isOpen),
    health: (transport) => healthOf(fleet, tableState(), isStopping, transport),
    metrics: () => metrics.exposition(),
    version: parts.version,
    unixSeconds: () => clock.unixSeconds(),
    answered: (_status, code) => {
      if (code !== null) metrics.refused(code);
    },
    opened: (relay) => open.add(relay),
    sealed: (isSealed) => metrics.sealed(isSealed),
    failed: (cause) => log.error(describeFault(cause)),
    isStopping: () => isStopping,
  });
  const http = new HttpServer(listener, settings, clock);
  const stopChecks = clock.every(CHECK_SECONDS, () => {
    for (const relay of open) relay.check();
    fleet.tick();
  });
  const close = async () => {
    stopChecks();
    await source.close();
    for (const relay of open) relay.abort();
    await http.close();
    fleet.close();
  };
  let url: string;
  try {
    url = await http.listen();
  } catch (error) {
    await close();
    throw error;
  }
  let stopped: Promise<void> | undefined;
  const stop = async (graceSeconds: number) => {
    isStopping = true;
    http.stopAccepting();
    const endNs = nowNs() + graceSeconds * 1e9;
    while (open.size > 0 && nowNs() < endNs) await clock.sleepUntilNs(nowNs() + ATTEMPT_POLL_NS);
    await close();
  };
  return {
    url,
    fleet,
    get openAnswers() {
      return open.size;
    },
    stop: (graceSeconds) => {
      stopped ??= stop(graceSeconds);
      return stopped;
    },
  };
}

const DEFAULT_LIMITS = {
  weight: 1,
  maxRunning: undefined,
  maxWaiting: undefined,
  tokensPerMinute: undefined,
};

function roomOf(fleet: Fleet, maxWaiting: number) {
  const maxRows = [...fleet.replicas].reduce((sum, { inFlightMax }) => sum + inFlightMax, 0);
  return { maxRows, maxWaiting };
}

/** Counts, logs, and keeps the list of what is open. */
function observerOf(
  metrics: GatewayMetrics,
  open: Set<Relay>,
  { accessLog }: GatewaySettings,
  { log, clock }: GatewayParts,
): RelayObserver {
  return {
    retried: (fault) => metrics.retried(fault),
    began: (relay) => metrics.began(relay),
    ended: (relay, outcome) => {
      open.delete(relay);
      metrics.ended(relay, outcome);
      if (relay.error !== null) metrics.refused(relay.error);
      if (!accessLog) return;
      const { request, status } = relay;
      logAccess(log, {
        requestId: request.id,
        tenant: request.tenant.tenant,
        method: request.method,
        route: request.path.split('?', 1)[0]!,
        status: outcome === 'left' ? CLIENT_LEFT : (status ?? 0),
        error: relay.error ?? undefined,
        durationNs: clock.nowNs() - request.arrivedNs,
        answer: undefined,
      });
    },
  };
}

/** As nginx has it. */
const CLIENT_LEFT = 499;

/** Names matter where no key does: a page can give its own name the address of this machine. */
function hostPolicyOf(
  { uds, host, allowedHosts }: GatewaySettings,
  fleet: Fleet,
): HostPolicy | undefined {
  if (uds !== undefined || (!fleet.isOpen && allowedHosts.length === 0)) return undefined;
  return new HostPolicy([host, ...allowedHosts]);
}

/** An operator's key where there is one; else everybody where no key is needed at all. */
function mayOperate(
  authorization: string | undefined,
  keys: readonly string[],
  isOpen: boolean,
): boolean {
  if (keys.length === 0) return isOpen;
  const given = Buffer.from(/^Bearer (.+)$/i.exec(authorization ?? '')?.[1] ?? '');
  let may = false;
  for (const key of keys) {
    const known = Buffer.from(key);
    may = (known.length === given.length && timingSafeEqual(known, given)) || may;
  }
  return may;
}

function healthOf(
  fleet: Fleet,
  { sequence, ageSeconds, isConnected }: TableState,
  isStopping: boolean,
  transport: Transport,
) {
  const serving = [...fleet.pools].filter((pool) => fleet.candidates(pool).length > 0).length;
  const isReady = !isStopping && sequence !== null;
  const status = isStopping ? 'stopping' : isReady ? 'ready' : 'waiting';
  return {
    isReady,
    document: {
      status,
      // What others between the client and here could read of this very request.
      transport,
      table: { sequence, age_seconds: ageSeconds, is_current: isConnected },
      pools: { total: [...fleet.pools].length, serving },
    },
  };
}

/** Where an unforeseen error came from, without its message: that might carry text of a request. */
function describeFault(cause: unknown): string {
  if (!(cause instanceof Error)) return 'a request failed: something that is no error was thrown';
  const frames = (cause.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line));
  return [`a request failed: ${cause.name}`, ...frames].join('\n');
}
