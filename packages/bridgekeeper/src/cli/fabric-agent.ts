import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Clock } from '@bridgekeeper/bridge';
import type { AgentState, CosignedLog, FabricError as Trouble } from '@bridgekeeper/fabric';
import {
  flag,
  integer,
  kindOf,
  oneOf,
  onOff,
  repeated,
  requiredArgument,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import { postToWitness } from '../verify/fetch-log.ts';
import type { CliCommand } from './command.ts';
import { HOST_FLAGS, hostSettings, openHostAgent, quoteLogKey, ROUND } from './fabric-host.ts';
import { askAgent, serveSocket } from './fabric-socket.ts';
import { readGivenFile } from './given-file.ts';
import { stopSignal } from './stop-signal.ts';

/** `1,2,5-8`: places on the board, ascending, each once. */
const modules = kindOf('modules', 'modules such as 1,2 or 5-8', (value) => {
  const ranges = value.split(',').map((part) => /^(\d{1,2})(?:-(\d{1,2}))?$/.exec(part));
  const list = ranges.flatMap((range) => {
    if (range === null) return [Number.NaN];
    const first = Number(range[1]);
    const count = Number(range[2] ?? first) - first + 1;
    return count < 1 ? [Number.NaN] : Array.from({ length: count }, (_, index) => first + index);
  });
  const isGood =
    list.every((each) => each >= 1 && each <= 16) && new Set(list).size === list.length;
  return isGood ? list.toSorted((a, b) => a - b) : undefined;
});

/** `http://host:port,name+id+key`: where a witness is, and its key. */
const witnessPlace = kindOf('url,vkey', 'an address and a key, url,name+id+key', (value) => {
  const match = /^(https?:\/\/[^,\s]+),([^,\s]+\+[0-9a-f]{8}\+\S+)$/.exec(value);
  return match === null ? undefined : { url: match[1]!, vkey: match[2]! };
});

const AGENT_FLAGS = {
  ...HOST_FLAGS,
  desired: flag(text('file'), undefined, 'what shall be on this host; read again when it changes'),
  clear: flag(modules, undefined, 'take these modules back from quarantine: you have looked'),
  witness: flag(repeated(witnessPlace), undefined, 'a witness to cosign the log; may be repeated'),
  witnessMin: flag(integer(1, 64), undefined, 'publish what so many have cosigned; default: all'),
  logPort: flag(integer(0, 65_535), undefined, 'serve the log to readers on this port'),
  logHost: flag(text('address'), '127.0.0.1', 'with --log-port: where it listens'),
  round: ROUND,
  json: flag(onOff(), false, 'what it says as JSON, a line each'),
};

type AgentFlags = Values<typeof AGENT_FLAGS>;

export const FABRIC_AGENT: CliCommand<typeof AGENT_FLAGS> = {
  name: 'fabric agent',
  summary: 'hold this host to what is desired, until interrupted',
  flags: AGENT_FLAGS,
  notes: 'Stopping it is harmless: tenants stay, and the next agent goes on.',
  run: ({ values }, io) => runHostAgent(values, io),
};

async function runHostAgent(values: AgentFlags, io: CliIo): Promise<0> {
  const { AgentCommands, agentListener, FabricError, logListener, runAgent, statusOf } =
    await import('@bridgekeeper/fabric');
  const say = (document: object, text: string) =>
    io.out(values.json ? JSON.stringify(document) : text);
  if (values.clear !== undefined) {
    const body = { modules: values.clear };
    if ((await askAgent(values.state, 'POST', '/v1/clear', body)) !== null) {
      say({ cleared: values.clear }, 'the agent that runs has taken them back');
      return 0;
    }
  }
  const { clock } = await hostSettings(values);
  const { agent, log, look, close } = await openHostAgent(values, io);
  const status = async () => statusOf(agent.state, await look(), values.grade);
  const servers: Server[] = [];
  const stop = stopSignal(io);
  const { desired } = values;
  // One that is not there at first is a mistake; later, that somebody is replacing it.
  if (desired !== undefined) readGivenFile('--desired', desired, io);
  const desiredAgain = (path: string) => {
    try {
      return io.readFile(path);
    } catch (cause) {
      const why = `cannot be read (${(cause as Error).message}): what was desired before stays`;
      throw new FabricError('bad-desired', `--desired: ${path} ${why}`, { cause });
    }
  };
  let told = '';
  // What lasts is said once, and not with every round.
  const trouble = ({ code, message }: Trouble) => {
    if (message !== told && values.json) io.out(JSON.stringify({ trouble: { code, message } }));
    else if (message !== told) io.err(`bridgekeeper: ${message} [${code}]`);
    told = message;
  };
  try {
    const cosigner = await cosignerOf(values, log);
    const commands = new AgentCommands();
    const view = { status, state: () => agent.state };
    servers.push(await serveSocket(values.state, agentListener(view, commands)));
    if (values.logPort !== undefined) {
      const { consoleListener } = await import('@bridgekeeper/console');
      const listener = consoleListener('log', logListener(log));
      const server = createServer(listener).listen(values.logPort, values.logHost);
      await once(server, 'listening');
      servers.push(server);
      const { port } = server.address() as AddressInfo;
      const url = `http://${values.logHost}:${port}`;
      say({ log: { vkey: log.vkey, url } }, `${log.vkey}\n${url}`);
    }
    const quoted = await quoteLogKey(values, log.vkey);
    if (quoted !== null) io.err(`bridgekeeper: ${quoted}`);
    if (values.clear !== undefined) await agent.clear(values.clear);
    // It rests between two rounds: a command that does nothing ends that.
    stop.addEventListener('abort', () => void commands.run(async () => undefined));
    await runAgent({
      agent,
      clock,
      commands,
      roundNs: values.round * 1e9,
      desired: () => (desired === undefined ? null : desiredAgain(desired)),
      isStopping: () => stop.aborted,
      onTrouble: trouble,
      // It never rejects, and is not waited for: tenants do not wait for witnesses.
      onRound: () => void cosigner?.round().then((errors) => errors.forEach(trouble)),
    });
    await cosigner?.round();
    return 0;
  } finally {
    for (const server of servers) {
      server.close();
      server.closeAllConnections();
    }
    close();
  }
}

/** Null: there are no witnesses. Throws UsageError. */
async function cosignerOf({ witness = [], witnessMin }: AgentFlags, log: CosignedLog) {
  if (witness.length === 0) return null;
  const { AttestError, readNoteKey } = await import('@bridgekeeper/attest/log');
  const { Cosigner } = await import('@bridgekeeper/fabric');
  try {
    const places = await Promise.all(
      witness.map(async ({ url, vkey }) => ({ url, key: await readNoteKey(vkey) })),
    );
    return new Cosigner(log, places, witnessMin ?? places.length, postToWitness);
  } catch (cause) {
    if (!(cause instanceof AttestError)) throw cause;
    throw new UsageError('bad-value', `--witness: ${cause.message}`, { cause });
  }
}

const LIMIT = flag(integer(1, 86_400), 300, 'seconds after which it is given up');

const ACTIVATE_FLAGS = {
  id: requiredArgument(text('id'), 'a name for the tenancy'),
  ...HOST_FLAGS,
  modules: flag(modules, undefined, 'the GPUs, by their places on the board'),
  tenant: flag(text('name'), undefined, 'whose it is; default: the id'),
  order: flag(oneOf('stop-first', 'deactivate-first'), 'stop-first', 'how it will go down'),
  limit: LIMIT,
  round: ROUND,
  json: flag(onOff(), false, 'as one JSON document'),
};

export const FABRIC_ACTIVATE: CliCommand<typeof ACTIVATE_FLAGS> = {
  name: 'fabric activate',
  summary: 'bring up one partition on this host, for a VM of your own',
  flags: ACTIVATE_FLAGS,
  notes: 'Fences and resets its GPUs first. Exits with 1 if it does not come up, and says why.',
  run: ({ values }, io) => activate(values, io),
};

async function activate(values: Values<typeof ACTIVATE_FLAGS>, io: CliIo): Promise<0 | 1> {
  const { arrivalOf, runUntil, withTenancy } = await import('@bridgekeeper/fabric');
  const { id, tenant = id, order, limit } = values;
  if (values.modules === undefined) {
    throw new UsageError('bad-combination', '--modules: say which, such as 1,2');
  }
  const wanted = { id, tenant, modules: values.modules, order, guest: null };
  const { clock } = await hostSettings(values);
  const say = ({ isThere, why }: { readonly isThere: boolean; readonly why: string }) => {
    if (values.json) io.out(JSON.stringify({ id, isThere, why }));
    else io.out(isThere ? `${id} is ${why}` : `${id} did not come up: ${why}`);
    return isThere ? 0 : 1;
  };
  const late = { isThere: false, why: `it took over ${limit} s` };
  const { guest: _, ...asked } = wanted;
  if ((await askAgent(values.state, 'POST', '/v1/tenancies', asked)) !== null) {
    const reached = (state: AgentState) => arrivalOf(state, id);
    return say((await waitForAgent(values, clock, limit, reached)) ?? late);
  }
  const { agent, close } = await openHostAgent(values, io);
  try {
    await agent.round();
    await agent.apply(withTenancy(agent.state, wanted));
    const reached = (state: AgentState) => arrivalOf(state, id);
    return say((await runUntil(agent, clock, limit, reached, values.round * 1e9)) ?? late);
  } finally {
    close();
  }
}

const DEACTIVATE_FLAGS = {
  id: requiredArgument(text('id'), 'the tenancy’s name'),
  ...HOST_FLAGS,
  limit: LIMIT,
  round: ROUND,
  json: flag(onOff(), false, 'as one JSON document'),
};

export const FABRIC_DEACTIVATE: CliCommand<typeof DEACTIVATE_FLAGS> = {
  name: 'fabric deactivate',
  summary: 'take one partition of this host down, and reset its GPUs',
  flags: DEACTIVATE_FLAGS,
  run: ({ values }, io) => deactivate(values, io),
};

async function deactivate(values: Values<typeof DEACTIVATE_FLAGS>, io: CliIo): Promise<0 | 1> {
  const { runUntil, withoutTenancy } = await import('@bridgekeeper/fabric');
  const { id, limit } = values;
  const { clock } = await hostSettings(values);
  const say = (isGone: true | null) => {
    if (values.json) io.out(JSON.stringify({ id, isGone: isGone === true }));
    else io.out(isGone === true ? `${id} is released` : `${id} is not down after ${limit} s`);
    return isGone === true ? 0 : 1;
  };
  const reached = ({ tenancies }: AgentState) =>
    tenancies.some((tenancy) => tenancy.id === id) ? null : true;
  const path = `/v1/tenancies/${encodeURIComponent(id)}`;
  if ((await askAgent(values.state, 'DELETE', path)) !== null) {
    return say(await waitForAgent(values, clock, limit, reached));
  }
  const { agent, close } = await openHostAgent(values, io);
  try {
    await agent.apply(withoutTenancy(agent.state, id));
    return say(await runUntil(agent, clock, limit, reached, values.round * 1e9));
  } finally {
    close();
  }
}

const ASK_NS = 2e8;

/** Until the agent that runs has brought something about; null: the time was over first. */
export async function waitForAgent<T>(
  { state: folder }: { readonly state: string },
  clock: Clock,
  limitSeconds: number,
  reached: (state: AgentState) => T | null,
): Promise<T | null> {
  const endNs = clock.nowNs() + limitSeconds * 1e9;
  while (clock.nowNs() < endNs) {
    // One that ended meanwhile is started again by somebody, or the time is over.
    const state = (await askAgent(folder, 'GET', '/v1/state')) as AgentState | null;
    const result = state === null ? null : reached(state);
    if (result !== null) return result;
    await clock.sleepUntilNs(clock.nowNs() + ASK_NS);
  }
  return null;
}
