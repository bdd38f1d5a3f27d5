import type { AgentState, Plan, TableChange } from '@bridgekeeper/fabric';
import {
  digest,
  flag,
  integer,
  oneOf,
  onOff,
  repeated,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import type { CliCommand } from './command.ts';
import { FABRIC_FOLDER } from './fabric-folder.ts';
import { askAgent } from './fabric-socket.ts';
import { readGivenFile } from './given-file.ts';

const GRADES = ['host', 'service-vm', 'guest'] as const;

const FLAGS = {
  hosts: flag(text('file'), undefined, 'place on these hosts'),
  gpus: flag(integer(1, 16), 8, 'how many GPUs of one board'),
  platform: flag(text('name'), undefined, 'of which kind; default: any'),
  driver: flag(text('version'), undefined, 'the guest’s driver; default: the host’s'),
  grade: flag(
    repeated(oneOf(...GRADES)),
    undefined,
    'who may vouch for the fabric; may be repeated; default: anyone',
  ),
  evidenceMaxAge: flag(
    integer(1, 1e9),
    undefined,
    'only where a guest’s evidence held at most so many seconds ago; default: anywhere',
  ),
  tokens: flag(integer(0, 1e12), 1_000_000, 'how many tokens it will serve: weighs the bridge'),
  table: flag(text('file'), undefined, 'change this host’s partition table to this one'),
  run: flag(digest(), undefined, 'with --table: do it, if the plan still leads to this table'),
  state: FABRIC_FOLDER,
  json: flag(onOff(), false, 'as one JSON document'),
};

type Flags = Values<typeof FLAGS>;

export const FABRIC_PLAN: CliCommand<typeof FLAGS> = {
  name: 'fabric plan',
  summary: 'where a tenancy would go, or what a change of the partition table would do',
  flags: FLAGS,
  notes: 'Changes nothing, but with --run. Exits with 1 if nothing fits.',
  async run({ values }, io) {
    if ((values.hosts === undefined) === (values.table === undefined)) {
      throw new UsageError('bad-combination', 'give one of --hosts and --table');
    }
    return values.hosts === undefined ? changeTable(values, io) : place(values.hosts, values, io);
  },
};

async function place(path: string, flags: Flags, io: CliIo): Promise<0 | 1> {
  const { plan, readOffers } = await import('@bridgekeeper/fabric');
  const request = {
    gpus: flags.gpus,
    platform: flags.platform ?? null,
    driverVersion: flags.driver ?? null,
    grades: flags.grade ?? GRADES,
    tokens: flags.tokens,
    evidenceMaxAgeSeconds: flags.evidenceMaxAge ?? null,
  };
  const result = plan(request, readOffers(readGivenFile('--hosts', path, io)));
  io.out(flags.json ? JSON.stringify(result) : linesOf(result).join('\n'));
  return result.fits ? 0 : 1;
}

function linesOf(result: Plan): string[] {
  const of = `of ${result.considered} hosts`;
  if (!result.fits) {
    const { nearest } = result;
    const miss = nearest === null ? 'none was given' : `${nearest.host}: ${nearest.cause}`;
    const lift = nearest === null ? [] : [`lifted by   ${nearest.lift}`];
    return [`nothing fits, ${of}`, `nearest     ${miss}`, ...lift];
  }
  const { host, partition, modules, seconds, partitionsLost } = result.placement;
  const bridge = `${seconds.bridge.toFixed(1)} s in crossings`;
  return [
    `host        ${host}, ${of}`,
    `partition   ${partition}, modules ${modules.join(', ')}`,
    `cost        ${seconds.coldStart.toFixed(1)} s to start, ${bridge}`,
    `breaks      ${partitionsLost} larger partitions that were free`,
  ];
}

async function changeTable(flags: Flags, io: CliIo): Promise<0> {
  const { FileStore, lockAgent, planTableChange, readTable, withMaintenance } = await import(
    '@bridgekeeper/fabric'
  );
  const next = readTable(readGivenFile('--table', flags.table!, io));
  const isRun = flags.run !== undefined;
  const told = (await askAgent(flags.state, 'GET', '/v1/state')) as AgentState | null;
  const lock = isRun && told === null ? lockAgent(flags.state) : null;
  try {
    const store = new FileStore(flags.state);
    const state = told ?? (await store.read());
    if (state === null) {
      throw new UsageError('bad-file', `--state: ${flags.state} has no state of an agent`);
    }
    const change = planTableChange(state, next);
    if (isRun && flags.run !== change.to) {
      throw new UsageError('bad-value', `--run: the plan leads to ${change.to}`);
    }
    if (isRun && change.steps.length > 0) {
      if (told === null) await store.replace(withMaintenance(state, change.to));
      else await askAgent(flags.state, 'POST', '/v1/maintain', { table: change.to });
    }
    io.out(
      flags.json ? JSON.stringify({ ...change, isRun }) : changeLines(change, isRun).join('\n'),
    );
    return 0;
  } finally {
    lock?.unlock();
  }
}

function changeLines(change: TableChange, isRun: boolean): string[] {
  if (change.steps.length === 0) return ['this is the table that Fabric Manager has'];
  const of = (list: TableChange['added']) =>
    list.map(({ id, modules }) => `${id} (${modules.join(', ')})`).join('; ') || 'none';
  return [
    `from        ${change.from ?? 'not known'}`,
    `to          ${change.to}`,
    `added       ${of(change.added)}`,
    `removed     ${of(change.removed)}`,
    ...change.drained.map(({ tenancy, modules, returns }) => {
      const after = returns ? 'comes back' : 'has no partition then';
      return `drained     ${tenancy} on modules ${modules.join(', ')}: ${after}`;
    }),
    ...change.steps.map((step, index) => `step ${index + 1}      ${step}`),
    isRun ? 'run         the next agent of this host does it' : `to run it   --run ${change.to}`,
  ];
}
