import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { measureControl } from '@bridgekeeper/control';
import { summarise } from '@bridgekeeper/report';
import { flag, integer, text } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { Suite } from './suite.ts';

const FLAGS = {
  hosts: flag(integer(1, 100_000), 1000, 'hosts of eight GPUs'),
  serving: flag(integer(0, 800_000), 4000, 'replicas of one GPU that serve when control begins'),
  missing: flag(integer(0, 800_000), 500, 'replicas that are wanted besides'),
  placements: flag(integer(1, 100_000), 500, 'pools of one replica that are wanted then'),
  database: flag(text('url'), undefined, 'an empty PostgreSQL; default: SQLite in a new folder'),
};

/** What a fleet takes of the control that leads it. */
export const CONTROL_SUITE: Suite<typeof FLAGS> = {
  name: 'control',
  summary: 'a control that begins over a fleet: reading, the first round, placements, memory',
  flags: FLAGS,
  async run({ hosts, serving, missing, placements, database }, progress) {
    const folder = mkdtempSync(join(tmpdir(), 'bridgekeeper-control-'));
    try {
      const times = await measureControl({
        folder,
        database: database ?? null,
        hosts,
        serving,
        missing,
        placements,
        nowMs: () => HOST_CLOCK.unixSeconds() * 1000,
        nowNs: HOST_CLOCK.nowNs,
      });
      const store = database === undefined ? 'sqlite' : 'postgresql';
      progress(`${store}: ${(times.loadSeconds + times.firstRoundSeconds).toFixed(2)} s from cold`);
      const parameters = { store, hosts, serving, missing, placements };
      const runs = [summarise(parameters, [{ ...times }])];
      return { device: { name: 'none', driver: null }, runs };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};
