import { z } from 'zod';
import type { Grade } from './entries.ts';
import type { Replay, ReplayedLife } from './replay.ts';

/** Whose word a statement is. */
export type StatementVoucher = 'operator' | 'service-vm' | 'guest' | 'device';

/**
 * `verified`: by a signature that hardware vouches for. `asserted`: it is consistent, and
 * somebody's word. `refused`: it is not so. `absent`: nothing says so here.
 */
export interface FabricStatement {
  readonly about:
    | 'exclusive'
    | 'activated'
    | 'reset'
    | 'devices'
    | 'count'
    | 'links'
    | 'remap-table';
  readonly status: 'verified' | 'asserted' | 'refused' | 'absent';
  readonly voucher: StatementVoucher;
  readonly why: string;
}

/** What the tenant has besides the log; all of it already appraised. */
export interface TenantEvidence {
  /** The GPUs' identities by their certificates: device-signed. */
  readonly identities: readonly string[];
  /** What NVML said in the guest, for each GPU; null: not looked at. */
  readonly links: readonly { readonly isComplete: boolean; readonly isAssigned: boolean }[] | null;
  /** Keys that a quote of a measured VM has in its report data: vkeys of logs. */
  readonly quotedLogKeys: readonly string[];
  /** Places on the board by signed wiring, as Hopper's reports give them; null: they do not. */
  readonly wiredModules: readonly number[] | null;
}

/**
 * What a tenant may say of his partition, and on whose word. A log's statements are as good as the
 * place that its key is in: a host's are the operator's and never become verified.
 */
export function statementsOf(
  replay: Replay,
  grade: Grade,
  vkey: string,
  evidence: TenantEvidence,
): readonly FabricStatement[] {
  const life = replay.lives.findLast(({ isMine }) => isMine);
  const isQuoted = grade !== 'host' && evidence.quotedLogKeys.includes(vkey);
  const voucher: StatementVoucher = isQuoted
    ? grade === 'guest'
      ? 'guest'
      : 'service-vm'
    : 'operator';
  const ofLog = (about: FabricStatement['about'], isSo: boolean, why: string): FabricStatement => ({
    about,
    status: isSo ? (isQuoted ? 'verified' : 'asserted') : 'refused',
    voucher,
    why,
  });
  if (life === undefined) return [ofLog('activated', false, 'the log has no tenancy of yours')];
  const found = (rule: string) => replay.findings.filter((finding) => finding.rule === rule);
  const first = (rule: string, otherwise: string) => found(rule)[0]?.message ?? otherwise;
  const isActive = life.activatedAt !== null && life.deactivatedAt === null;
  const modules = life.modules.join(', ');
  return [
    ofLog(
      'exclusive',
      found('overlap').length === 0 && found('intent').length === 0,
      first('overlap', first('intent', 'no module was ever in two active partitions')),
    ),
    ofLog('activated', isActive, isActive ? `modules ${modules}` : 'it is not active at the end'),
    ofLog('reset', found('reset').length === 0, first('reset', 'after the last tenant')),
    devicesOf(life, replay, evidence),
    countOf(life, evidence),
    linksOf(life, evidence),
    {
      about: 'remap-table',
      status: 'absent',
      voucher: 'guest',
      why: 'no driver here tells whether NVLink’s remap tables are locked and equal',
    },
  ];
}

/** Device-signed on one side alone: who put them there is still the log's word. */
function devicesOf(
  { modules }: ReplayedLife,
  { devices }: Replay,
  { identities, wiredModules }: TenantEvidence,
): FabricStatement {
  const logged = modules.map((module) => devices[module] ?? '');
  const isSame =
    sorted(logged) === sorted(identities) && new Set(identities).size === modules.length;
  const statement = { about: 'devices', voucher: 'device' } as const;
  if (!isSame) {
    const why = 'the devices of the log are not those whose certificates you were shown';
    return { ...statement, status: 'refused', why };
  }
  if (wiredModules !== null && sorted(wiredModules.map(String)) !== sorted(modules.map(String))) {
    const why = `by their signed wiring they are modules ${wiredModules.join(', ')}`;
    return { ...statement, status: 'refused', why };
  }
  if (wiredModules === null) {
    const why = 'their identities are signed; their places are the word of the log';
    return { ...statement, status: 'asserted', voucher: 'operator', why };
  }
  return { ...statement, status: 'verified', why: 'identities and places are signed by devices' };
}

function countOf({ modules }: ReplayedLife, { identities }: TenantEvidence): FabricStatement {
  const count = new Set(identities).size;
  const isSame = count === modules.length && identities.length === count;
  const why = `${count} distinct devices for ${modules.length} modules`;
  return { about: 'count', status: isSame ? 'verified' : 'refused', voucher: 'device', why };
}

/** NVML is software in the guest: true to the tenant who trusts his own guest, signed by nobody. */
function linksOf({ modules }: ReplayedLife, { links }: TenantEvidence): FabricStatement {
  const statement = { about: 'links', voucher: 'guest' } as const;
  if (links === null) return { ...statement, status: 'absent', why: 'NVML was not looked at' };
  const isSo =
    links.length === modules.length &&
    links.every(({ isComplete, isAssigned }) => isComplete && isAssigned);
  const why = isSo ? 'every GPU has joined its partition' : 'a GPU has not joined its partition';
  return { ...statement, status: isSo ? 'asserted' : 'refused', why };
}

function sorted(values: readonly string[]): string {
  return values.toSorted().join(' ');
}

const texts = z.array(z.string().max(512)).max(64);
const evidenceSchema = z.strictObject({
  identities: texts,
  links: z
    .array(z.strictObject({ isComplete: z.boolean(), isAssigned: z.boolean() }))
    .max(64)
    .nullable(),
  quotedLogKeys: texts,
  wiredModules: z.array(z.int().min(1).max(16)).max(16).nullable(),
});

/** What a tenant has appraised, as JSON; null: it is not that. */
export function readTenantEvidence(text: string): TenantEvidence | null {
  try {
    return evidenceSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
