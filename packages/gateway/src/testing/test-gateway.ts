import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLog } from '@bridgekeeper/server/edge';
import { HOST_CLOCK, type ServerClock, unixMs } from '@bridgekeeper/server/host-clock';
import { until } from '@bridgekeeper/server/testing';
import { type GatewaySettings, type RunningGateway, startGateway } from '../start.ts';

/** What a file of routes says, as its reader takes it. */
export interface TestRoutes {
  readonly pools: readonly object[];
  readonly tenants?: readonly object[];
}

export interface TestGateway extends RunningGateway {
  readonly port: number;
  /** Writes other routes, and waits until they hold. */
  reroute(routes: TestRoutes): Promise<void>;
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Response>;
}

const SETTINGS: Omit<GatewaySettings, 'source'> = {
  host: '127.0.0.1',
  port: 0,
  uds: undefined,
  sslKeyfile: undefined,
  sslCertfile: undefined,
  maxConnections: 1000,
  requestTimeout: 60,
  // By the quick clock: minutes, which no test takes.
  stallTimeout: 6000,
  allowedOrigins: [],
  allowedHosts: [],
  operatorKey: [],
  maxBodyBytes: 2 ** 20,
  maxBodiesBytes: 2 ** 24,
  maxWaiting: 100,
  attempts: 3,
  queueTimeout: 6000,
  replicaTimeout: 6000,
  accessLog: false,
  affinity: 'on',
  splitAt: 16,
  loadFactor: 1.25,
  holdSeconds: 0,
};

/** Settings of tests, with a source of their own. */
function testSettings(
  source: GatewaySettings['source'],
  changes: Partial<GatewaySettings> = {},
): GatewaySettings {
  return { ...SETTINGS, source, ...changes };
}

/** What a gateway looks at now and then, it looks at more often: so no test waits. */
const QUICK_CLOCK: ServerClock = {
  ...HOST_CLOCK,
  every: (seconds, action) => HOST_CLOCK.every(seconds / 20, action),
};

const TEST_PARTS = {
  clock: QUICK_CLOCK,
  unixMs,
  log: openLog({ level: 'fatal', pretty: false, destination: 2, colour: false }),
  version: '0.0.0',
} as const;

/** One pool, `stories`, with a replica at each port, named `r0` and so on. */
export function routesTo(...ports: readonly number[]): TestRoutes {
  const replicas = ports.map((port, at) => ({ url: `http://127.0.0.1:${port}`, name: `r${at}` }));
  return { pools: [{ name: 'stories', models: ['storyteller'], replicas }] };
}

/** The real gateway on a free port of this machine, with whatever source of routes. */
export function startGatewayWith(
  source: GatewaySettings['source'],
  changes: Partial<GatewaySettings> = {},
): Promise<RunningGateway> {
  return startGateway(testSettings(source, changes), TEST_PARTS);
}

/** The real gateway on a free port of this machine, with a file of routes. */
export async function startTestGateway(
  routes: TestRoutes,
  changes: Partial<GatewaySettings> = {},
): Promise<TestGateway> {
  const folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-gateway-'));
  const path = join(folder, 'routes.json');
  const write = async (next: TestRoutes) => {
    await writeFile(`${path}.next`, JSON.stringify(next));
    await rename(`${path}.next`, path);
  };
  await write(routes);
  const gateway = await startGatewayWith({ kind: 'file', path }, changes);
  return {
    url: gateway.url,
    fleet: gateway.fleet,
    get openAnswers() {
      return gateway.openAnswers;
    },
    port: Number(new URL(gateway.url).port),
    reroute: async (next) => {
      const { sequence } = gateway.fleet.table;
      await write(next);
      await until('the routes are read', () => gateway.fleet.table.sequence !== sequence);
    },
    post: (target, body, headers = {}) =>
      fetch(`${gateway.url}${target}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      }),
    stop: async (graceSeconds) => {
      await gateway.stop(graceSeconds);
      await rm(folder, { recursive: true });
    },
  };
}
