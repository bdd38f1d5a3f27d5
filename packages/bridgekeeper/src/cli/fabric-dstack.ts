import type { AgentState, FabricError } from '@bridgekeeper/fabric';
import { flag, integer, onOff, UsageError, type Values } from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import type { CliCommand } from './command.ts';
import { waitForAgent } from './fabric-agent.ts';
import { FABRIC_FOLDER } from './fabric-folder.ts';
import { askAgent } from './fabric-socket.ts';
import { readGivenFile } from './given-file.ts';

/** What dstack's VMM tells its apply command. */
const FILE = 'DSTACK_NVSWITCH_PARTITION_FILE';
const IDS = 'DSTACK_NVSWITCH_ACTIVE_PARTITION_IDS';

const FLAGS = {
  state: FABRIC_FOLDER,
  limit: flag(integer(1, 86_400), 300, 'seconds after which it is given up'),
  json: flag(onOff(), false, 'as one JSON document'),
};

export const FABRIC_DSTACK: CliCommand<typeof FLAGS> = {
  name: 'fabric dstack',
  summary: 'the apply command of dstack’s VMM: partitions by this host’s agent',
  flags: FLAGS,
  notes: `Reads ${FILE} and ${IDS}. Never restarts Fabric Manager. Exits with 0 once all is so.`,
  run: ({ values }, io) => apply(values, io),
};

/** Throws UsageError and FabricError. */
async function apply({ state: folder, limit, json }: Values<typeof FLAGS>, io: CliIo) {
  const { arrivalOf, dstackChanges, readDstackGoal } = await import('@bridgekeeper/fabric');
  const { SystemClock } = await import('@bridgekeeper/device/clock');
  const path = io.environment[FILE];
  const ids = io.environment[IDS];
  if (path === undefined || ids === undefined) {
    throw new UsageError('bad-combination', `${FILE} and ${IDS} are set by dstack’s VMM`);
  }
  const goal = readDstackGoal(readGivenFile(FILE, path, io), ids);
  const state = (await askAgent(folder, 'GET', '/v1/state')) as AgentState | null;
  if (state === null) {
    throw new UsageError('bad-value', `--state: no agent runs with ${folder}: start one first`);
  }
  const { gone, fresh } = dstackChanges(goal, state.desired?.tenancies ?? []);
  const clock = new SystemClock();
  const endNs = clock.nowNs() + limit * 1e9;
  const wait = async <T>(reached: (state: AgentState) => T | null) =>
    waitForAgent({ state: folder }, clock, Math.max(0, endNs - clock.nowNs()) / 1e9, reached);
  const problems: string[] = [];
  for (const id of gone) await askAgent(folder, 'DELETE', `/v1/tenancies/${id}`);
  const isGone = ({ tenancies }: AgentState) =>
    gone.every((id) => tenancies.every((tenancy) => tenancy.id !== id)) ? true : null;
  if ((await wait(isGone)) === null) problems.push(`${gone.join(', ')}: not down in time`);
  for (const { id, modules } of problems.length === 0 ? fresh : []) {
    const body = { id, tenant: id, modules, order: 'stop-first' };
    await askAgent(folder, 'POST', '/v1/tenancies', body).catch((error: FabricError) => {
      problems.push(`${id}: ${error.message}`);
    });
  }
  for (const { id } of problems.length === 0 ? goal : []) {
    const arrival = await wait((now) => arrivalOf(now, id));
    if (arrival?.isThere !== true) problems.push(`${id}: ${arrival?.why ?? 'not up in time'}`);
  }
  const active = goal.map(({ id }) => id);
  if (json) io.out(JSON.stringify({ active, gone, problems }));
  else
    for (const line of [
      ...problems,
      ...(problems.length > 0 ? [] : [`active: ${active.join(', ') || 'none'}`]),
    ])
      io.out(line);
  return problems.length === 0 ? 0 : 1;
}
