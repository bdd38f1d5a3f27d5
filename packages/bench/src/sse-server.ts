import {
  openLog,
  SyntheticEngine,
  settingsWith,
  startServer,
  syntheticStart,
} from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';

export interface SseServerOptions {
  readonly rows: number;
  readonly tokens: number;
  readonly tokensPerStep: number;
  /** Between steps; 0: as many as the server's thread has time for. */
  readonly stepMicroseconds: number;
}

export type SseServerMessage =
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'cpu'; readonly seconds: number };

const say = (message: SseServerMessage) => process.send?.(message);

async function main(options: SseServerOptions): Promise<void> {
  const { rows, tokens, tokensPerStep, stepMicroseconds } = options;
  const settings = settingsWith({ port: 0, logLevel: 'warn', receipts: 'off' });
  const engine = new SyntheticEngine({
    tokensPerStep,
    pace: stepMicroseconds === 0 ? 'free' : stepMicroseconds * 1000,
    card: { maxRows: rows, maxModelTokens: tokens + 64 },
    script: (_request, at) => 300 + ((at * 7) % 3700),
  });
  const server = await startServer(settings, {
    startEngine: async () => syntheticStart(engine),
    log: openLog({ level: 'warn', pretty: false, destination: 2, colour: false }),
    clock: HOST_CLOCK,
    version: { version: 'bench', node: process.versions.node, commit: null, digest: null },
  });
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    say({ kind: 'cpu', seconds: (user + system) / 1e6 });
  });
  process.on('disconnect', () => process.exit(0));
  say({ kind: 'listening', port: Number(new URL(server.url).port) });
}

await main(JSON.parse(process.argv[2]!) as SseServerOptions);
