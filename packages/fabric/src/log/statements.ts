import { z } from 'zod';
import type { Grade, LogEntry } from './entries.ts';
import { isActive, type Replay, type ReplayedLife } from './replay.ts';

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
    | 'driver'
    | 'links'
    | 'remap-table'
    | 'encryption';
  readonly status: 'verified' | 'asserted' | 'refused' | 'absent';
  readonly voucher: StatementVoucher;
  readonly why: string;
  /** What policies compare, where there is more to say than that it is so. */
  readonly value?: boolean;
}

/** What the tenant has besides the log; all of it already appraised. */
export interface TenantEvidence {
  /** The GPUs' identities by their certificates: device-signed. */
  readonly identities: readonly string[];
  /** What NVML said in the guest, for each GPU; null: not looked at. */
  readonly links: readonly { readonly isComplete: boolean; readonly isAssigned: boolean }[] | null;
  /** Keys that a quote of a measured VM has in its report data: vkeys of logs. */
  readonly quotedLogKeys: readonly string[];
  /**
   * The place of each of the identities, in their order, by signed wiring, as Hopper's reports give
   * it; null: they do not.
   */
  readonly wiredModules: readonly number[] | null;
  /** The driver's versions as the GPUs' signed reports say. */
  readonly driverVersions: readonly string[];
  /** What NVML said in the guest of each GPU's NVLink remap table; null: it says nothing. */
  readonly remapTables: readonly RemapTable[] | null;
  /** Whether NVML said in the guest of each GPU that its NVLink is encrypted; null: nothing. */
  readonly encryption: readonly boolean[] | null;
}

/** Where one GPU's NVLink addresses lead: equal among the GPUs of a tenant, and locked. */
export interface RemapTable {
  /** Null: only who locks it is told. */
  readonly isLocked: boolean | null;
  /** SHA-256 of the table, 64 hex digits. */
  readonly digest: string;
}

const GRADES: readonly Grade[] = ['host', 'service-vm', 'guest'];

/** The least that any of a log's entries claims: who could write one could write them all. */
export function gradeOf(entries: readonly LogEntry[]): Grade {
  const grades = entries.map(({ grade }) => GRADES.indexOf(grade));
  return GRADES[Math.min(...grades, GRADES.length - 1)] ?? 'host';
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
  const modules = life.modules.join(', ');
  return [
    ofLog(
      'exclusive',
      found('overlap').length === 0 && found('intent').length === 0,
      first('overlap', first('intent', 'no module was ever in two active partitions')),
    ),
    ofLog(
      'activated',
      isActive(life),
      isActive(life) ? `modules ${modules}` : 'it is not active at the end',
    ),
    ofLog('reset', found('reset').length === 0, first('reset', 'after the last tenant')),
    devicesOf(life, replay, evidence, ofLog),
    countOf(life, evidence),
    driverOf(replay, evidence, ofLog),
    linksOf(life, evidence),
    remapTableOf(life, evidence),
    encryptionOf(life, evidence),
  ];
}

/** In shared mode Fabric Manager of another version than the guest's driver breaks the fabric. */
function driverOf(
  { fmVersion }: Replay,
  { driverVersions }: TenantEvidence,
  ofLog: (about: 'driver', isSo: boolean, why: string) => FabricStatement,
): FabricStatement {
  const other = driverVersions.find((version) => version !== fmVersion);
  if (fmVersion === null || driverVersions.length === 0) {
    const why = 'one of the two versions is not known: the driver’s, Fabric Manager’s';
    return { about: 'driver', status: 'absent', voucher: 'operator', why };
  }
  const why =
    other === undefined
      ? `Fabric Manager and the driver are both ${fmVersion}`
      : `Fabric Manager is ${fmVersion}, a GPU’s driver ${other}`;
  return ofLog('driver', other === undefined, why);
}

/** Device-signed on one side alone: who put them there is still the log's word. */
function devicesOf(
  { modules }: ReplayedLife,
  { devices }: Replay,
  { identities, wiredModules }: TenantEvidence,
  ofLog: (about: 'devices', isSo: boolean, why: string) => FabricStatement,
): FabricStatement {
  const logged = modules.map((module) => devices[module] ?? '');
  const isSame =
    sorted(logged) === sorted(identities) && new Set(identities).size === modules.length;
  const statement = { about: 'devices', voucher: 'device' } as const;
  if (!isSame) {
    const why = 'the devices of the log are not those whose certificates you were shown';
    return { ...statement, status: 'refused', why };
  }
  const moved = wiredModules?.find((module, i) => devices[module] !== identities[i]);
  if (moved !== undefined || (wiredModules !== null && wiredModules.length !== modules.length)) {
    const why = `by its signed wiring another device is at module ${moved ?? 'that is not named'}`;
    return { ...statement, status: 'refused', why };
  }
  if (wiredModules === null) {
    const why = 'their identities are signed; their places are the word of the log';
    return ofLog('devices', true, why);
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

function remapTableOf({ modules }: ReplayedLife, { remapTables }: TenantEvidence): FabricStatement {
  const statement = { about: 'remap-table', voucher: 'guest' } as const;
  if (remapTables === null) {
    const why = 'this driver does not tell whether NVLink’s remap tables are locked and equal';
    return { ...statement, status: 'absent', why };
  }
  const isEqual = new Set(remapTables.map(({ digest }) => digest)).size === 1;
  const isSo =
    isEqual &&
    remapTables.length === modules.length &&
    remapTables.every(({ isLocked }) => isLocked !== false);
  const isLocked = remapTables.every((each) => each.isLocked === true);
  const why = !isSo
    ? 'NVLink’s remap tables differ, or one is open'
    : isLocked
      ? 'NVLink’s remap tables are equal and locked'
      : 'NVLink’s remap tables are equal; whether they are locked is not told';
  return { ...statement, status: isSo ? 'asserted' : 'refused', why };
}

/** Off is no fault where switches are attested and inside the boundary; some on and some off is. */
function encryptionOf({ modules }: ReplayedLife, { encryption }: TenantEvidence): FabricStatement {
  const statement = { about: 'encryption', voucher: 'guest' } as const;
  if (encryption === null) {
    const why = 'this driver does not tell whether NVLink is encrypted';
    return { ...statement, status: 'absent', why };
  }
  const [value] = encryption;
  const isSame = encryption.length === modules.length && encryption.every((isOn) => isOn === value);
  if (!isSame) {
    const on = encryption.filter((isOn) => isOn).length;
    const why = `NVLink is encrypted on ${on} of ${modules.length} GPUs`;
    return { ...statement, status: 'refused', why };
  }
  const why =
    value === true
      ? 'NVLink is encrypted on every GPU'
      : 'NVLink is not encrypted: its switches can read what GPUs send each other';
  return { ...statement, status: 'asserted', why, value: value === true };
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
  driverVersions: texts.default([]),
  remapTables: z
    .array(
      z.strictObject({
        isLocked: z.boolean().nullable(),
        digest: z.string().regex(/^[0-9a-f]{64}$/),
      }),
    )
    .max(64)
    .nullable()
    .default(null),
  encryption: z.array(z.boolean()).max(64).nullable().default(null),
});

/** What a tenant has appraised, as JSON; null: it is not that. */
export function readTenantEvidence(text: string): TenantEvidence | null {
  try {
    return evidenceSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
