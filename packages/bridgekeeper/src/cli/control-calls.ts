import { join } from 'node:path';
import type { ControlAddress } from '@bridgekeeper/control';
import type { Call, OPERATOR_CALLS } from '@bridgekeeper/control/api';
import {
  flag,
  integer,
  oneOf,
  onOff,
  optionalArgument,
  requiredArgument,
  secret,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import type { CliCommand } from './command.ts';
import { CONTROL_FOLDER } from './control-folder.ts';
import { stopSignal } from './stop-signal.ts';
import { webAddress } from './web-address.ts';

/** What every command takes that calls a control that runs. */
const REACH = {
  url: flag(webAddress, 'http://127.0.0.1:7400', 'where control answers'),
  folder: CONTROL_FOLDER,
  key: flag(
    secret(text('key')),
    undefined,
    'the key to show; default: BRIDGEKEEPER_CONTROL_KEY, or operator.key in the folder',
  ),
  json: flag(onOff(), false, 'as one JSON document'),
};

type Reach = Pick<Values<typeof REACH>, 'url' | 'folder' | 'key'>;

function addressOf({ url, folder, key }: Reach, io: CliIo): ControlAddress {
  const given = key ?? io.environment.BRIDGEKEEPER_CONTROL_KEY;
  if (given !== undefined) return { url, key: given };
  const path = join(folder, 'operator.key');
  try {
    return { url, key: io.readFile(path).trim() };
  } catch (cause) {
    const message = `--key: give one, or --folder: ${path} cannot be read`;
    throw new UsageError('bad-file', message, { cause });
  }
}

const NOUNS = ['hosts', 'gpus', 'partitions', 'tenancies', 'pools', 'replicas', 'tenants'] as const;
const LISTS = [...NOUNS, 'policies', 'keys'] as const;
const LIST_CALLS = {
  hosts: 'listHosts',
  gpus: 'listGpus',
  partitions: 'listPartitions',
  tenancies: 'listTenancies',
  pools: 'listPools',
  replicas: 'listReplicas',
  tenants: 'listTenants',
  policies: 'listPolicies',
  keys: 'listKeys',
} as const satisfies Record<(typeof LISTS)[number], keyof typeof OPERATOR_CALLS>;

/** What people look at first, by list. */
const COLUMNS: Readonly<Record<(typeof LISTS)[number], readonly string[]>> = {
  hosts: ['host', 'state', 'lostSinceMs', 'bootId'],
  gpus: ['host', 'module', 'identity', 'ccMode', 'replica'],
  partitions: ['host', 'id', 'modules', 'replicas'],
  tenancies: ['replica', 'tenant', 'host', 'modules', 'epoch', 'phase'],
  pools: ['pool', 'generation', 'trouble'],
  replicas: ['replica', 'pool', 'host', 'modules', 'phase', 'reason'],
  tenants: ['tenant', 'version'],
  policies: ['name', 'version'],
  keys: ['keyId', 'role', 'tenant', 'label', 'digest'],
};

const LIST_FLAGS = { what: requiredArgument(oneOf(...LISTS), 'what to list'), ...REACH };

const LIST: CliCommand<typeof LIST_FLAGS> = {
  name: 'control list',
  summary: 'list hosts, GPUs, pools, replicas and so on',
  flags: LIST_FLAGS,
  async run({ values }, io) {
    const { callControl } = await import('@bridgekeeper/control');
    const { OPERATOR_CALLS: calls } = await import('@bridgekeeper/control/api');
    const call: Call = calls[LIST_CALLS[values.what]];
    const rows: Record<string, unknown>[] = [];
    let after: string | null = null;
    do {
      const query: { after?: string } = after === null ? {} : { after };
      const page = (await callControl(addressOf(values, io), call, { query })) as {
        rows: Record<string, unknown>[];
        next: string | null;
      };
      rows.push(...page.rows);
      after = page.next;
    } while (after !== null);
    if (values.json) io.out(JSON.stringify(rows, null, 1));
    else for (const line of table(rows, COLUMNS[values.what])) io.out(line);
    return 0;
  },
};

const PUTS = ['host', 'pool', 'tenant', 'policy'] as const;
const PUT_CALLS = {
  host: ['putHost', 'host'],
  pool: ['putPool', 'pool'],
  tenant: ['putTenant', 'tenant'],
  policy: ['putPolicy', 'name'],
} as const;

const PUT_FLAGS = {
  what: requiredArgument(oneOf(...PUTS), 'what to change'),
  name: requiredArgument(text('name'), 'its name'),
  spec: requiredArgument(text('json'), 'what it shall be, as JSON; @file: from that file'),
  ifMatch: flag(integer(0, 2 ** 53 - 1), undefined, 'only if this is its version; 0: only if new'),
  operation: flag(text('key'), undefined, 'a key under which this is done once, however often'),
  ...REACH,
};

const PUT: CliCommand<typeof PUT_FLAGS> = {
  name: 'control put',
  summary: 'say what a host, pool, tenant or policy shall be',
  flags: PUT_FLAGS,
  async run({ values }, io) {
    const { callControl } = await import('@bridgekeeper/control');
    const { OPERATOR_CALLS: calls } = await import('@bridgekeeper/control/api');
    const { what, name, spec, ifMatch, operation } = values;
    const [call, param] = PUT_CALLS[what];
    const answer = await callControl(addressOf(values, io), calls[call], {
      params: { [param]: name },
      body: readJson(spec, io),
      ...(ifMatch === undefined ? {} : { ifMatch }),
      ...(operation === undefined ? {} : { operation }),
    });
    io.out(values.json ? JSON.stringify(answer) : `${what} ${name}: version ${answer.version}`);
    return 0;
  },
};

const DELETE_CALLS = {
  host: ['deleteHost', 'host'],
  pool: ['deletePool', 'pool'],
  tenant: ['deleteTenant', 'tenant'],
  policy: ['deletePolicy', 'name'],
  key: ['deleteKey', 'digest'],
} as const;

const DELETE_FLAGS = {
  what: requiredArgument(oneOf('host', 'pool', 'tenant', 'policy', 'key'), 'what to remove'),
  name: requiredArgument(text('name'), 'its name; of a key, its digest'),
  ...REACH,
};

const DELETE: CliCommand<typeof DELETE_FLAGS> = {
  name: 'control delete',
  summary: 'remove a host, pool, tenant, policy or key',
  flags: DELETE_FLAGS,
  async run({ values }, io) {
    const { callControl } = await import('@bridgekeeper/control');
    const { OPERATOR_CALLS: calls } = await import('@bridgekeeper/control/api');
    const [call, param] = DELETE_CALLS[values.what];
    await callControl(addressOf(values, io), calls[call], { params: { [param]: values.name } });
    io.out(values.json ? '{}' : `${values.what} ${values.name} is removed`);
    return 0;
  },
};

const DRAIN_FLAGS = { replica: requiredArgument(text('id'), 'the replica'), ...REACH };

const DRAIN: CliCommand<typeof DRAIN_FLAGS> = {
  name: 'control drain',
  summary: 'let a replica’s streams end, then stop it',
  flags: DRAIN_FLAGS,
  async run({ values }, io) {
    const params = { replica: values.replica };
    return show(await one('drainReplica', { params }, values, io), values, io);
  },
};

const TOKEN_FLAGS = {
  host: requiredArgument(text('name'), 'what the host shall be called'),
  ...REACH,
};

const TOKEN: CliCommand<typeof TOKEN_FLAGS> = {
  name: 'control token',
  summary: 'make a token with which one host may join, within an hour',
  flags: TOKEN_FLAGS,
  async run({ values }, io) {
    const answer = await one('makeJoinToken', { body: { host: values.host } }, values, io);
    io.out(values.json ? JSON.stringify(answer) : (answer as { token: string }).token);
    return 0;
  },
};

const KEY_FLAGS = {
  role: requiredArgument(oneOf('operator', 'gateway', 'tenant', 'metrics'), 'what it is for'),
  tenant: flag(text('name'), undefined, 'whose it is, for the role tenant'),
  label: flag(text('text'), '', 'a remark'),
  ...REACH,
};

const KEY: CliCommand<typeof KEY_FLAGS> = {
  name: 'control key',
  summary: 'make an API key; it is told this once',
  flags: KEY_FLAGS,
  async run({ values }, io) {
    const { role, tenant = null, label } = values;
    const answer = await one('makeKey', { body: { role, tenant, label } }, values, io);
    io.out(values.json ? JSON.stringify(answer) : (answer as { key: string }).key);
    return 0;
  },
};

const PLAN_FLAGS = {
  request: requiredArgument(text('json'), 'pool, spec and load as JSON; @file: from that file'),
  commit: flag(onOff(), false, 'make it, if it fits'),
  ...REACH,
};

const PLAN: CliCommand<typeof PLAN_FLAGS> = {
  name: 'control plan',
  summary: 'what a pool would cost and where it would go',
  flags: PLAN_FLAGS,
  async run({ values }, io) {
    const body = readJson(values.request, io);
    const plan = (await one('plan', { body }, values, io)) as { plan: string; trouble: unknown };
    show(plan, values, io);
    if (!values.commit) return plan.trouble === null ? 0 : 1;
    const params = { plan: plan.plan };
    return show(await one('commitPlan', { params }, values, io), values, io);
  },
};

const GET_CALLS = {
  host: ['getHost', 'host'],
  pool: ['getPool', 'pool'],
  replica: ['getReplica', 'replica'],
  evidence: ['getEvidence', 'evidence'],
  operation: ['operation', 'key'],
  status: ['status', ''],
  audit: ['audit', ''],
} as const;

const GET_FLAGS = {
  what: requiredArgument(
    oneOf('status', 'audit', 'host', 'pool', 'replica', 'evidence', 'operation'),
    'what to show',
  ),
  name: optionalArgument(text('name'), 'its name'),
  after: flag(integer(0, 2 ** 53 - 1), 0, 'of the audit log: what came after this number'),
  ...REACH,
};

const GET: CliCommand<typeof GET_FLAGS> = {
  name: 'control get',
  summary: 'show one thing whole',
  flags: GET_FLAGS,
  async run({ values }, io) {
    const [call, param] = GET_CALLS[values.what];
    if (param !== '' && values.name === undefined) {
      throw new UsageError('bad-combination', `name: say which ${values.what}`);
    }
    const params = param === '' ? {} : { [param]: values.name! };
    const query = values.what === 'audit' ? { after: values.after } : {};
    return show(await one(call, { params, query }, values, io), values, io);
  },
};

const EVENTS_FLAGS = {
  from: flag(integer(0, 2 ** 53 - 1), undefined, 'events after this number; default: new ones'),
  ...REACH,
};

const EVENTS: CliCommand<typeof EVENTS_FLAGS> = {
  name: 'control events',
  summary: 'follow what changes, one JSON document a line, until interrupted',
  flags: EVENTS_FLAGS,
  async run({ values }, io) {
    const { watchControl } = await import('@bridgekeeper/control');
    const { OPERATOR_CALLS: calls } = await import('@bridgekeeper/control/api');
    const stop = stopSignal(io);
    const { from } = values;
    const query: { from?: number } = from === undefined ? {} : { from };
    const events = watchControl(addressOf(values, io), calls.events, query, stop);
    for await (const event of events) io.out(JSON.stringify(event));
    return 0;
  },
};

export const CONTROL_CALLS: readonly CliCommand[] = [
  GET,
  LIST,
  PUT,
  DELETE,
  PLAN,
  DRAIN,
  TOKEN,
  KEY,
  EVENTS,
];

async function one(
  name: keyof typeof OPERATOR_CALLS,
  input: Parameters<typeof import('@bridgekeeper/control').callControl>[2],
  reach: Reach,
  io: CliIo,
): Promise<unknown> {
  const { callControl } = await import('@bridgekeeper/control');
  const { OPERATOR_CALLS: calls } = await import('@bridgekeeper/control/api');
  return callControl(addressOf(reach, io), calls[name] as Call, input);
}

function show(answer: unknown, { json }: { readonly json: boolean }, io: CliIo): 0 {
  io.out(json ? JSON.stringify(answer) : JSON.stringify(answer, null, 2));
  return 0;
}

/** Throws UsageError. */
function readJson(given: string, io: CliIo): unknown {
  const text = given.startsWith('@') ? readGiven(given.slice(1), io) : given;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UsageError('bad-value', `${given.slice(0, 80)}: this is no JSON`, { cause });
  }
}

function readGiven(path: string, io: CliIo): string {
  try {
    return io.readFile(path);
  } catch (cause) {
    throw new UsageError('bad-file', `${path} cannot be read`, { cause });
  }
}

function table(rows: readonly Record<string, unknown>[], columns: readonly string[]): string[] {
  const cells = rows.map((row) => columns.map((column) => cell(row[column])));
  const widths = columns.map((column, index) =>
    Math.max(column.length, ...cells.map((row) => row[index]!.length)),
  );
  return [columns, ...cells].map((row) =>
    row
      .map((value, index) => value.padEnd(widths[index]!))
      .join('  ')
      .trimEnd(),
  );
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return '-';
  if (Array.isArray(value)) return value.join(',') || '-';
  if (typeof value === 'object') return String((value as { cause?: string }).cause ?? '...');
  return String(value);
}
