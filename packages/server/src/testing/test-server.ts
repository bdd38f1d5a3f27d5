import type { MachineSources } from '@bridgekeeper/attest/node';
import {
  SyntheticEngine,
  type SyntheticEngineOptions,
  syntheticStart,
} from '../engine/synthetic-engine.ts';
import { HOST_CLOCK, type ServerClock } from '../host-clock.ts';
import { type Logger, openLog } from '../logging/logger.ts';
import { settingsWith } from '../settings/configuration.ts';
import type { Settings } from '../settings/table.ts';
import { type RunningServer, startServer } from '../start.ts';
import { until } from './until.ts';

export interface TestServer extends RunningServer {
  readonly stub: SyntheticEngine;
  readonly port: number;
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Response>;
  /** Waits until this many requests are in flight. */
  untilOpen(count: number): Promise<void>;
}

/** A machine without GPUs and without a TEE, whatever the test runs on. */
const NO_EVIDENCE: MachineSources = {
  nvmlLibrary: '/nonexistent/libnvidia-ml.so.1',
  tsmFolder: '/nonexistent/tsm',
  dstackSockets: [],
};

/**
 * The real server on a free port of this machine, over a synthetic engine and the bundled model's
 * tokenizer.
 */
export async function startTestServer(
  options: SyntheticEngineOptions = {},
  changes: Partial<Settings> = {},
  machine: MachineSources = NO_EVIDENCE,
  clock: ServerClock = HOST_CLOCK,
  log: Logger = openLog({ level: 'fatal', pretty: false, destination: 2, colour: false }),
): Promise<TestServer> {
  const stub = new SyntheticEngine(options);
  const settings = settingsWith({ port: 0, receipts: 'off', ...changes });
  const server = await startServer(settings, {
    startEngine: async () => syntheticStart(stub),
    log,
    clock,
    version: { version: '0.0.0', node: process.versions.node, commit: null, digest: null },
    machine,
  });
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    fetch(`${server.url}${path}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
  const untilOpen = (count: number) =>
    until(`${count} requests are in flight`, () => stub.openIds.length === count);
  return { ...server, stub, port: Number(new URL(server.url).port), post, untilOpen };
}

/** The `data:` documents of a stream of events, without `[DONE]`. */
export function eventsOf(text: string): Record<string, never>[] {
  return text
    .split('\n\n')
    .filter((event) => event.startsWith('data: {'))
    .map((event) => JSON.parse(event.slice(6)));
}
