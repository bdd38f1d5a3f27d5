import {
  flag,
  integer,
  kindOf,
  oneOf,
  onOff,
  requiredArgument,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import type { CliCommand } from './command.ts';
import { HOST_FLAGS, hostSettings, openHostAgent } from './fabric-host.ts';
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

const AGENT_FLAGS = {
  ...HOST_FLAGS,
  desired: flag(text('file'), undefined, 'what shall be on this host; read again when it changes'),
  clear: flag(modules, undefined, 'take these modules back from quarantine: you have looked'),
};

export const FABRIC_AGENT: CliCommand<typeof AGENT_FLAGS> = {
  name: 'fabric agent',
  summary: 'hold this host to what is desired, until interrupted',
  flags: AGENT_FLAGS,
  notes: 'Stopping it is harmless: tenants stay, and the next agent goes on.',
  run: ({ values }, io) => runHostAgent(values, io),
};

async function runHostAgent(values: Values<typeof AGENT_FLAGS>, io: CliIo): Promise<0> {
  const { runAgent } = await import('@bridgekeeper/fabric');
  const { clock } = await hostSettings(values);
  const { agent, close } = await openHostAgent(values);
  const stop = stopSignal(io);
  const { desired } = values;
  try {
    if (values.clear !== undefined) await agent.clear(values.clear);
    await runAgent({
      agent,
      clock,
      desired: () => (desired === undefined ? null : readDesiredText(desired, io)),
      isStopping: () => stop.aborted,
      onTrouble: ({ code, message }) => io.err(`bridgekeeper: ${message} [${code}]`),
    });
    return 0;
  } finally {
    close();
  }
}

/** Throws UsageError. */
function readDesiredText(path: string, io: CliIo): string {
  try {
    return io.readFile(path);
  } catch (cause) {
    const message = `--desired: ${path} cannot be read: ${(cause as Error).message}`;
    throw new UsageError('bad-file', message, { cause });
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
  const { agent, close } = await openHostAgent(values);
  try {
    await agent.round();
    await agent.apply(withTenancy(agent.state, wanted));
    const arrival = await runUntil(agent, clock, limit, (state) => arrivalOf(state, id));
    const { isThere, why } = arrival ?? { isThere: false, why: `it took over ${limit} s` };
    if (values.json) io.out(JSON.stringify({ id, isThere, why }));
    else io.out(isThere ? `${id} is ${why}` : `${id} did not come up: ${why}`);
    return isThere ? 0 : 1;
  } finally {
    close();
  }
}

const DEACTIVATE_FLAGS = {
  id: requiredArgument(text('id'), 'the tenancy’s name'),
  ...HOST_FLAGS,
  limit: LIMIT,
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
  const { agent, close } = await openHostAgent(values);
  try {
    await agent.apply(withoutTenancy(agent.state, id));
    const isGone = await runUntil(agent, clock, limit, ({ tenancies }) =>
      tenancies.some((tenancy) => tenancy.id === id) ? null : true,
    );
    if (values.json) io.out(JSON.stringify({ id, isGone: isGone === true }));
    else io.out(isGone === true ? `${id} is released` : `${id} is not down after ${limit} s`);
    return isGone === true ? 0 : 1;
  } finally {
    close();
  }
}
