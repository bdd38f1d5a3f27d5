import type { Predict } from '@bridgekeeper/control';
import { flag, integer, onOff, repeated, text, type Values } from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import type { LoadPlanner } from '../plan/predict.ts';
import type { CliCommand } from './command.ts';
import { CONTROL_CALLS } from './control-calls.ts';
import { CONTROL_FOLDER } from './control-folder.ts';
import { CONTROL_SIMULATE } from './control-simulate.ts';
import { stopSignal } from './stop-signal.ts';

const FLAGS = {
  folder: CONTROL_FOLDER,
  database: flag(
    text('url'),
    undefined,
    'PostgreSQL, such as postgres://user@host/name; default: SQLite in the folder',
  ),
  host: flag(text('address'), '127.0.0.1', 'where operators and gateways reach it'),
  port: flag(integer(0, 65_535), 7400, 'where operators and gateways reach it'),
  agentHost: flag(text('address'), '127.0.0.1', 'where agents reach it, over TLS'),
  agentPort: flag(integer(0, 65_535), 7401, 'where agents reach it, over TLS'),
  name: flag(
    repeated(text('name')),
    undefined,
    'a name or address by which agents reach it; may be repeated',
  ),
  allowOperatorAsserted: flag(
    onOff(),
    false,
    'take policies under which nobody vouches for a replica: to try things out',
  ),
  offline: flag(onOff(), false, 'ask no vendor’s service about evidence'),
};

const START: CliCommand<typeof FLAGS> = {
  name: 'control',
  summary: 'hosts with confidential GPUs as a fleet: API, placement, admission; until interrupted',
  flags: FLAGS,
  notes: 'Its first keys are in the folder: operator.key and gateway.key.',
  run: ({ values }, io) => start(values, io),
};

const DASHBOARD_FLAGS = {
  alerts: flag(onOff(), false, 'the rules of Prometheus in its place'),
};

const DASHBOARD: CliCommand<typeof DASHBOARD_FLAGS> = {
  name: 'control dashboard',
  summary: 'print a dashboard of Grafana with every metric of control',
  flags: DASHBOARD_FLAGS,
  async run({ values }, io) {
    const { controlAlerts, controlDashboard } = await import('@bridgekeeper/control/metrics');
    io.out(JSON.stringify(values.alerts ? controlAlerts() : controlDashboard(), null, 2));
    return 0;
  },
};

export const CONTROL: readonly CliCommand[] = [
  ...[START, DASHBOARD],
  ...CONTROL_CALLS,
  CONTROL_SIMULATE,
];

/** Loaded when it is needed: it brings the engine. */
function lazyPlanner(): { readonly predict: Predict; readonly close: () => Promise<void> } {
  let planner: Promise<LoadPlanner> | null = null;
  const open = async () => new (await import('../plan/predict.ts')).LoadPlanner();
  return {
    predict: async (question) => {
      planner ??= open();
      return (await planner).predict(question);
    },
    close: async () => (await planner)?.close(),
  };
}

async function start(values: Values<typeof FLAGS>, io: CliIo): Promise<0> {
  const { openControl, SYSTEM_CHANCE, SYSTEM_TIME } = await import('@bridgekeeper/control');
  const { VENDOR_ROOTS } = await import('@bridgekeeper/attest');
  const { consoleListener } = await import('@bridgekeeper/console');
  const { openServices } = await import('../verify/services.ts');
  const { readVersion } = await import('../version.ts');
  const { folder, database = null, host, port, agentHost, agentPort, offline: isOffline } = values;
  const { name: names = [], allowOperatorAsserted: allowsOperatorAsserted } = values;
  const { environment } = io;
  const planner = lazyPlanner();
  const control = await openControl({
    folder,
    database,
    listen: { host, port },
    agents: { host: agentHost, port: agentPort },
    names: [...new Set([...names, agentHost, '127.0.0.1', 'localhost'])],
    admission: {
      anchors: VENDOR_ROOTS,
      allowsOperatorAsserted,
      services: (atMs) =>
        openServices({ atMs, isOffline, rimFolder: undefined, tokenKeys: null, environment }),
    },
    predict: planner.predict,
    page: (calls) => consoleListener('control', calls),
    version: readVersion().version,
    time: SYSTEM_TIME,
    chance: SYSTEM_CHANCE,
    onTrouble: ({ code, message }) => io.err(`bridgekeeper: ${message} [${code}]`),
    onCrash: (error) => io.err(`bridgekeeper: ${(error as Error).stack ?? error}`),
  });
  io.out(`${control.url}  operators and gateways\n${control.agentUrl}  agents`);
  io.err(`bridgekeeper: the fleet is shown at ${control.url}/console`);
  io.err(`bridgekeeper: the first keys are ${folder}/operator.key and ${folder}/gateway.key`);
  const stop = stopSignal(io);
  const stopped = new Promise<void>((resolve) => {
    if (stop.aborted) resolve();
    stop.addEventListener('abort', () => resolve());
  });
  try {
    await Promise.race([stopped, control.ended]);
  } finally {
    await control.close();
    await planner.close();
  }
  return 0;
}
