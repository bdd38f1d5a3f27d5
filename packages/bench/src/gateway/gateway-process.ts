import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startGateway } from '@bridgekeeper/gateway';
import { openLog } from '@bridgekeeper/server/edge';
import { HOST_CLOCK, unixMs } from '@bridgekeeper/server/host-clock';
import { reportTo } from './child.ts';

interface GatewayOptions {
  /** Of the replicas. */
  readonly ports: readonly number[];
}

/** The real gateway, with a file of routes, in a process of its own. */
async function main({ ports }: GatewayOptions): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'bridgekeeper-gateway-'));
  const path = join(folder, 'routes.json');
  const replicas = ports.map((port) => ({
    url: `http://127.0.0.1:${port}`,
    inFlightMax: 65_536,
  }));
  writeFileSync(path, JSON.stringify({ pools: [{ name: 'stub', models: ['stub'], replicas }] }));
  process.on('exit', () => rmSync(folder, { recursive: true }));
  const gateway = await startGateway(
    {
      source: { kind: 'file', path },
      host: '127.0.0.1',
      port: 0,
      uds: undefined,
      sslKeyfile: undefined,
      sslCertfile: undefined,
      maxConnections: 65_536,
      requestTimeout: 60,
      stallTimeout: 60,
      allowedOrigins: [],
      allowedHosts: [],
      operatorKey: [],
      maxBodyBytes: 2 ** 20,
      maxBodiesBytes: 2 ** 28,
      maxWaiting: 1024,
      attempts: 3,
      queueTimeout: 60,
      replicaTimeout: 600,
      accessLog: false,
      affinity: 'on',
      splitAt: 16,
      loadFactor: 1.25,
      holdSeconds: 30,
    },
    {
      clock: HOST_CLOCK,
      unixMs,
      log: openLog({ level: 'warn', pretty: false, destination: 2, colour: false }),
      version: 'bench',
    },
  );
  reportTo(process, Number(new URL(gateway.url).port));
}

await main(JSON.parse(process.argv[2]!) as GatewayOptions);
