import { z } from 'zod';
import { QUARANTINE_REASONS } from '../log/entries.ts';

/*
 * What an agent knows, as one document that is replaced as a whole: at every moment the disk has
 * the state before a change or the one after it. It is read back as strictly as strangers' input.
 */

const TENANCIES_MAX = 64;
const MODULES_MAX = 16;

const name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/, {
  error: 'must be 1 to 64 of letters, digits and . _ : -',
});
const count = z.int().min(0);
const nanoseconds = z.number().min(0);
const moduleId = z.int().min(1).max(MODULES_MAX);
const modules = z
  .array(moduleId)
  .min(1)
  .max(MODULES_MAX)
  .refine((list) => new Set(list).size === list.length, { error: 'names a module twice' })
  .readonly();

const guest = z.strictObject({
  image: z.string().min(1).max(512),
  memoryBytes: z
    .int()
    .min(1)
    .max(2 ** 46),
});

/**
 * How a tenancy ends. Both orders are in use: NVIDIA's DRA driver stops the VM, takes the GPUs back
 * and then deactivates; ubicloud deactivates first.
 */
export const DOWN_ORDERS = ['stop-first', 'deactivate-first'] as const;
const order = z.enum(DOWN_ORDERS);

const wanted = z.strictObject({
  id: name,
  tenant: name,
  modules,
  order: order.default('stop-first'),
  /** Null: the partition alone, for somebody else's VM. */
  guest: guest.nullable(),
});

/** Everything that shall be on a host. What is not in it shall not be: also if it is empty. */
const desired = z
  .strictObject({
    host: name,
    /** Of who commands: a lower one than an earlier command's is refused. */
    epoch: count,
    /** Within the epoch. The same one again is the same command. */
    sequence: count,
    tenancies: z.array(wanted).max(TENANCIES_MAX),
  })
  .refine(({ tenancies }) => new Set(tenancies.map(({ id }) => id)).size === tenancies.length, {
    error: 'two tenancies have one id',
  })
  .refine(
    ({ tenancies }) => {
      const all = tenancies.flatMap((tenancy) => tenancy.modules);
      return new Set(all).size === all.length;
    },
    { error: 'a module is in two tenancies' },
  );

/** In the order of a whole life; the two of `DOWN_ORDERS` differ in where `deactivated` is. */
export const PHASES = [
  'requested',
  'claimed',
  'fenced',
  'sanitized',
  'activated',
  'bound',
  'booting',
  'attesting',
  'admitted',
  'draining',
  'stopping',
  'unbound',
  'deactivated',
  'released',
] as const;

const evidence = z.strictObject({
  digest: z.string(),
  identities: z.array(z.string()).max(MODULES_MAX * 2),
  refusals: z.array(z.string()),
  atNs: nanoseconds,
});

const tenancy = wanted.extend({
  /** Which life it is: its VM, its log entries and its evidence are of one. */
  epoch: count,
  /** Opens its commitment in the log; 64 hex digits. */
  salt: z.string().regex(/^[0-9a-f]{64}$/),
  partition: count,
  /** The last step that was observed to be done. */
  phase: z.enum(PHASES),
  /** The next step's intent is in the log: it may have been begun. */
  isIntended: z.boolean(),
  /** When the next step was begun, on the clock of this boot. */
  begunNs: nanoseconds,
  /** Why it goes down; null: it goes up, or is up. */
  leaving: z.string().nullable(),
  /** The start of Fabric Manager under which its GPUs were reset. */
  sanitizedUnder: z.string().nullable(),
  evidence: evidence.nullable(),
});

const definition = z.strictObject({ id: count, modules });

const state = z.strictObject({
  host: name,
  bootId: z.string(),
  desired: desired.nullable(),
  tenancies: z.array(tenancy).max(TENANCIES_MAX),
  /** Module to tenancy. One key has one value: this is the exclusivity. */
  claims: z.record(z.string(), name),
  /** Of the last life that began on this host: no two have one. */
  epoch: count,
  /** How often in a row lives of an id failed, and when the next one may begin. */
  failures: z.record(z.string(), z.strictObject({ count, notBeforeNs: nanoseconds })),
  quarantine: z.record(z.string(), z.enum(QUARANTINE_REASONS)),
  /** By module, learnt while NVIDIA's driver has the GPU and kept: afterwards none can be seen. */
  devices: z.record(z.string(), z.strictObject({ bdf: z.string(), identity: z.string() })),
  faultsJudged: count,
  daemon: z.strictObject({
    instance: z.string().nullable(),
    version: z.string().nullable(),
    table: z.strictObject({ digest: z.string(), partitions: z.array(definition) }).nullable(),
    /** A start of ours that was not seen to its end. */
    starting: z.enum(['resume', 'plain']).nullable(),
    /** How many starts to resume were begun since it last ran. */
    resumes: count,
    /** A table that is to be loaded, by digest, once the host is empty. */
    maintenance: z.string().nullable(),
  }),
});

export type Phase = (typeof PHASES)[number];
export type WantedTenancy = z.infer<typeof wanted>;
export type Desired = z.infer<typeof desired>;
export type Tenancy = z.infer<typeof tenancy>;
export type AgentState = z.infer<typeof state>;

export function emptyState(host: string): AgentState {
  return {
    host,
    bootId: '',
    desired: null,
    tenancies: [],
    claims: {},
    epoch: 0,
    failures: {},
    quarantine: {},
    devices: {},
    faultsJudged: 0,
    daemon: {
      instance: null,
      version: null,
      table: null,
      starting: null,
      resumes: 0,
      maintenance: null,
    },
  };
}

/** What is wrong with a document, in words; or the document. */
export type Read<T> = { readonly value: T } | { readonly wrong: string };

export function readDesired(document: unknown): Read<Desired> {
  return readWith(desired, document);
}

export function readState(document: unknown): Read<AgentState> {
  return readWith(state, document);
}

function readWith<T>(schema: z.ZodType<T>, document: unknown): Read<T> {
  const result = schema.safeParse(document);
  if (result.success) return { value: result.data };
  const [issue] = result.error.issues;
  const path = issue!.path.map(String).join('.');
  return { wrong: path === '' ? issue!.message : `${path}: ${issue!.message}` };
}

/** The VM of one life: another life's is never taken for it. */
export function vmOf({ id, epoch }: Pick<Tenancy, 'id' | 'epoch'>): string {
  return `${id}/${epoch}`;
}

export function isQuarantined({ quarantine }: AgentState, modules: readonly number[]): boolean {
  return modules.some((module) => quarantine[module] !== undefined);
}
