import { startConfiguredEngine } from '../engine/start-configured-engine.ts';
import { HOST_CLOCK } from '../host-clock.ts';
import { openLog } from '../logging/logger.ts';
import { settingsWith } from '../settings/configuration.ts';
import type { Settings } from '../settings/table.ts';
import { type RunningServer, startServer } from '../start.ts';

/** The real server and engine with the bundled model, on the cpu device and a free port. */
export function startBundledModel(changes: Partial<Settings> = {}): Promise<RunningServer> {
  return startServer(settingsWith({ port: 0, device: 'cpu', receipts: 'off', ...changes }), {
    startEngine: startConfiguredEngine,
    log: openLog({ level: 'fatal', pretty: false, destination: 2, colour: false }),
    clock: HOST_CLOCK,
    version: { version: '0.0.0', node: process.versions.node, commit: null, digest: null },
  });
}
