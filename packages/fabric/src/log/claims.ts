import type { FabricClaimKind, Found } from '@bridgekeeper/attest';
import { type Claim, claim } from '@bridgekeeper/attest/log';
import { FabricError } from '../errors.ts';
import { type ReaderTrust, verifyEntries } from './bundle.ts';
import type { LogEntry, Opening } from './entries.ts';
import { type ReplayFinding, replayLog } from './replay.ts';
import { type FabricStatement, gradeOf, statementsOf, type TenantEvidence } from './statements.ts';

/** A host's log as it was given to a tenant; nothing of it is verified yet. */
export interface GivenLog {
  readonly entries: readonly LogEntry[];
  readonly checkpoint: string;
  /** Checkpoints that the tenant kept. */
  readonly earlier: readonly string[];
}

export interface LogQuestion {
  readonly trust: ReaderTrust;
  /** The same key as it is written. */
  readonly vkey: string;
  readonly openings: readonly Opening[];
  /**
   * Whether a quote of a VM whose measurements are the expected has the log's key; null: no quote
   * was given.
   */
  readonly isQuoted: boolean | null;
  readonly nowMs: number;
}

const SUBJECT = 'FABRIC';
const EVIDENCE = ['the host’s log'];
const ASSERTED = 'the log’s key is on the host: its operator can have written what he likes';

/**
 * What a host's log, or why it cannot be read, says of the machine that the evidence is of, and on
 * whose word. Never throws for a log that is wrong: it is refused. What the operator says is never
 * verified (`claim` holds to that).
 */
export async function fabricClaims(
  given: GivenLog | FabricError,
  { trust, vkey, openings, isQuoted, nowMs }: LogQuestion,
  found: Found,
): Promise<readonly Claim[]> {
  if (given instanceof FabricError) return [refused('fabric.log', given.message)];
  let seen: Awaited<ReturnType<typeof verifyEntries>>;
  try {
    seen = await verifyEntries(given.entries, given.checkpoint, given.earlier, trust);
  } catch (error) {
    if (!(error instanceof FabricError)) throw error;
    return [refused('fabric.log', error.message)];
  }
  const entries = given.entries.slice(0, seen.size);
  const grade = gradeOf(entries);
  const replay = replayLog(entries, openings);
  const evidence = evidenceOf(found, isQuoted === true ? vkey : null);
  const isProven = isQuoted === true && grade !== 'host';
  const statements = statementsOf(replay, grade, vkey, evidence);
  const observer = observerOf(found);
  return [
    logClaim(replay.findings, seen.size, trust.log.name, isProven),
    keyClaim(isQuoted, isProven),
    ...seenClaims(seen.witnesses, nowMs),
    ...statements.map((statement) => claimOf(statement, observer)),
  ];
}

function logClaim(
  findings: readonly ReplayFinding[],
  size: number,
  name: string,
  isProven: boolean,
): Claim {
  const [first] = findings;
  if (first !== undefined) {
    return refused('fabric.log', `entry ${first.index}, ${first.rule}: ${first.message}`);
  }
  const statement = `${size} entries, as ${name} signed for; nothing in them speaks against it`;
  return said('fabric.log', statement, isProven, size);
}

function keyClaim(isQuoted: boolean | null, isProven: boolean): Claim {
  if (isQuoted === false) {
    return refused('fabric.key', 'the quote that was given does not hold the log’s key');
  }
  const statement = isProven
    ? 'the log’s key is in a measured VM, whose quote has it'
    : isQuoted === true
      ? 'the log says itself that it was written on the host, whatever quotes its key'
      : 'nothing says where the log’s key is';
  return said('fabric.key', statement, isProven);
}

/** Its value is how long ago, in seconds: what the operator leaves out later, nobody has seen. */
function seenClaims(
  witnesses: readonly { readonly name: string; readonly seenAtSeconds: number }[],
  nowMs: number,
): Claim[] {
  return witnesses.map(({ name, seenAtSeconds }) => {
    const when = timeOf(seenAtSeconds);
    return claim({
      kind: 'fabric.seen',
      subject: SUBJECT,
      status: 'unverified',
      voucher: 'operator-asserted',
      statement: `${name} saw it go on from what it saw before, at ${when}`,
      evidence: EVIDENCE,
      value: Math.floor(nowMs / 1000) - seenAtSeconds,
      why: 'a witness is believed by whoever names its key; no vendor vouches for it',
    });
  });
}

/** A witness may say any number: one that is no date is said as it is. */
function timeOf(seconds: number): string {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? `second ${seconds}` : date.toISOString();
}

const KINDS: Readonly<Record<FabricStatement['about'], FabricClaimKind>> = {
  exclusive: 'fabric.exclusive',
  activated: 'fabric.activated',
  reset: 'fabric.reset',
  devices: 'fabric.devices',
  count: 'fabric.count',
  driver: 'fabric.driver',
  links: 'fabric.links',
  'remap-table': 'fabric.remapTable',
  encryption: 'fabric.encryption',
};

const BY_NVML: readonly FabricStatement['about'][] = ['links', 'remap-table', 'encryption'];

const VOUCHERS = {
  operator: 'operator-asserted',
  'service-vm': 'cpu-signed',
  device: 'device-signed',
} as const;

function claimOf(
  { about, status, voucher, why, value }: FabricStatement,
  observer: 'guest-observed' | 'operator-asserted',
): Claim {
  const kind = KINDS[about];
  const isByNvml = BY_NVML.includes(about);
  // The word `guest` is NVML's for those, and a log's in the tenant's own VM for the others.
  const by = voucher === 'guest' ? (isByNvml ? observer : 'cpu-signed') : VOUCHERS[voucher];
  const valued = value === undefined ? {} : { value };
  const fields = {
    kind,
    subject: SUBJECT,
    statement: why,
    evidence: EVIDENCE,
    voucher: by,
    ...valued,
  };
  switch (status) {
    case 'verified':
      return claim({ ...fields, status: 'verified' });
    case 'refused':
      return claim({ ...fields, status: 'refused', code: 'topology-mismatch' });
    case 'asserted':
      return claim({ ...fields, status: 'unverified', why: isByNvml ? NOBODY : ASSERTED });
    case 'absent':
      return claim({ ...fields, status: 'unverified', why: 'it is not known here' });
  }
}

const NOBODY = 'nobody signed it: NVML is software in the guest';

function refused(kind: FabricClaimKind, statement: string): Claim {
  const fields = { kind, subject: SUBJECT, statement, evidence: EVIDENCE };
  const code = 'binding-mismatch';
  return claim({ ...fields, status: 'refused', voucher: 'operator-asserted', code });
}

function said(kind: FabricClaimKind, statement: string, isProven: boolean, value?: number): Claim {
  const fields = { kind, subject: SUBJECT, statement, evidence: EVIDENCE };
  const valued = value === undefined ? fields : { ...fields, value };
  return isProven
    ? claim({ ...valued, status: 'verified', voucher: 'cpu-signed' })
    : claim({ ...valued, status: 'unverified', voucher: 'operator-asserted', why: ASSERTED });
}

/** Only what was verified of devices counts; what NVML told counts as what it is. */
function evidenceOf({ claims, observed }: Found, quotedKey: string | null): TenantEvidence {
  const verified = claims.filter(({ status }) => status === 'verified');
  const valuesOf = (kind: string) =>
    verified.flatMap((one) => (one.kind === kind && one.value != null ? [one.value] : [])).flat();
  const identified = verified.filter(({ kind }) => kind === 'gpu.identity');
  const slots = new Map(
    valuesOf('hgx.slots').map((slot) => String(slot).split('=') as [string, string]),
  );
  const isWired =
    verified.some(({ kind }) => kind === 'hgx.ports') &&
    identified.every(({ subject }) => slots.has(subject));
  const gpus = observed?.gpus ?? [];
  const tables = gpus.flatMap(({ remapTableSha256: digest }) => digest ?? []);
  const encrypted = gpus.flatMap(({ isNvlinkEncrypted }) => isNvlinkEncrypted ?? []);
  const fabrics = gpus.map(({ fabric }) => fabric);
  return {
    identities: identified.map(({ value }) => String(value)),
    links: fabrics.every((fabric) => fabric === null)
      ? null
      : fabrics.map((fabric) => ({
          isComplete: fabric?.state === 'completed' && fabric.status === 0,
          isAssigned: fabric?.isPartitionAssigned === true,
        })),
    quotedLogKeys: quotedKey === null ? [] : [quotedKey],
    wiredModules: isWired ? identified.map(({ subject }) => Number(slots.get(subject))) : null,
    driverVersions: [...new Set(valuesOf('gpu.driver').map(String))],
    remapTables: tables.length === 0 ? null : tables.map((digest) => ({ isLocked: null, digest })),
    encryption: encrypted.length === 0 ? null : encrypted,
  };
}

/** The guest's word is the guest's only where its quote binds its report. */
function observerOf({ claims }: Found): 'guest-observed' | 'operator-asserted' {
  const said = claims.find(({ kind }) => kind === 'server.observation');
  return said?.voucher === 'guest-observed' ? 'guest-observed' : 'operator-asserted';
}
