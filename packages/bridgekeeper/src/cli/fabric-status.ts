import type { StatusDocument } from '@bridgekeeper/fabric';
import { flag, integer, onOff, type Values } from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import type { CliCommand } from './command.ts';
import {
  endIfStuck,
  type FabricLibraries,
  HOST_FLAGS,
  hostLibraries,
  hostSettings,
} from './fabric-host.ts';
import { askAgent } from './fabric-socket.ts';
import { stopSignal } from './stop-signal.ts';

const STATUS_FLAGS = { ...HOST_FLAGS, json: flag(onOff(), false, 'as one JSON document') };

export const FABRIC_STATUS: CliCommand<typeof STATUS_FLAGS> = {
  name: 'fabric status',
  summary: 'what is in which partition of this host, and whose word that is',
  flags: STATUS_FLAGS,
  notes: 'Looks beside an agent that runs. Exits with 1 if an active partition has no intent.',
  async run({ values }, io) {
    const { statusLines } = await import('@bridgekeeper/fabric');
    const looker = lookerOf(values);
    const status = await looker.now();
    io.out(values.json ? JSON.stringify(status) : statusLines(status).join('\n'));
    looker.end(io);
    return status.foreign.length === 0 ? 0 : 1;
  },
};

const WATCH_FLAGS = {
  ...HOST_FLAGS,
  interval: flag(integer(1, 3600), 2, 'seconds between two looks'),
  json: flag(onOff(), false, 'a JSON document of all of it for each change'),
};

export const FABRIC_WATCH: CliCommand<typeof WATCH_FLAGS> = {
  name: 'fabric watch',
  summary: 'what changes, until interrupted',
  flags: WATCH_FLAGS,
  run: ({ values }, io) => watch(values, io),
};

async function watch(values: Values<typeof WATCH_FLAGS>, io: CliIo): Promise<0> {
  const { changesBetween } = await import('@bridgekeeper/fabric');
  const { clock } = await hostSettings(values);
  const stop = stopSignal(io);
  const looker = lookerOf(values);
  let before: StatusDocument | null = null;
  while (!stop.aborted) {
    const now = await looker.now();
    const changes = changesBetween(before, now);
    if (values.json && changes.length > 0) io.out(JSON.stringify(now));
    if (!values.json) for (const line of changes) io.out(line);
    before = now;
    await clock.sleepUntilNs(clock.nowNs() + values.interval * 1e9);
  }
  looker.end(io);
  return 0;
}

/** Looks by the agent that runs, or beside none by itself. */
function lookerOf(values: Values<typeof HOST_FLAGS>) {
  let opened: FabricLibraries | null = null;
  return {
    async now(): Promise<StatusDocument> {
      const { lookAtHost, statusOf } = await import('@bridgekeeper/fabric');
      const told = await askAgent(values.state, 'GET', '/v1/status');
      if (told !== null) return told as StatusDocument;
      opened ??= await hostLibraries(values);
      const settings = await hostSettings(values);
      const { state, sight } = await lookAtHost(settings, opened);
      return statusOf(state, sight, settings.grade);
    },
    end(io: CliIo): void {
      if (opened !== null) endIfStuck(opened, io);
    },
  };
}
