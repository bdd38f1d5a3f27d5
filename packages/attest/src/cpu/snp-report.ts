import { ByteReader, type Bytes, concatBytes } from '../core/bytes.ts';
import { demand } from '../core/errors.ts';

const REPORT_BYTES = 1184;
const SIGNED_BYTES = 0x2a0;
const SIGNATURE_BYTES = 512;
/** Coordinates are padded to 72 bytes, little endian; those of P-384 need 48. */
const COORDINATE = { padded: 72, used: 48 } as const;
const ECDSA_P384_SHA384 = 1;
const VERSIONS = [2, 3, 5];
const SIGNING_KEYS: Readonly<Record<number, 'VCEK' | 'VLEK'>> = { 0: 'VCEK', 1: 'VLEK' };

const POLICY = { migration: 1n << 18n, debug: 1n << 19n, reservedOne: 1n << 17n } as const;
/** ABI version, SMT, the above, single socket, CXL, AES-256-XTS, RAPL, ciphertext hiding, swap. */
const POLICY_KNOWN = (1n << 26n) - 1n;

/** What AMD's secure processor reports of a guest. */
export interface SnpReport {
  readonly version: number;
  readonly guestSvn: number;
  /** The guest's policy, as the host launched it. */
  readonly policy: bigint;
  readonly allowsDebug: boolean;
  readonly allowsMigration: boolean;
  readonly familyId: Bytes;
  readonly imageId: Bytes;
  /** Privilege level of the software that asked for the report; 0 is the highest. */
  readonly vmpl: number;
  readonly platformInfo: bigint;
  /** The key that signed: the chip's own, or one that AMD made for a cloud provider. */
  readonly signingKey: 'VCEK' | 'VLEK';
  readonly reportData: Bytes;
  readonly measurement: Bytes;
  readonly hostData: Bytes;
  readonly idKeyDigest: Bytes;
  readonly authorKeyDigest: Bytes;
  /** TCB versions of 8 bytes, as the product lays them out. */
  readonly reportedTcb: Bytes;
  readonly committedTcb: Bytes;
  readonly currentTcb: Bytes;
  readonly launchTcb: Bytes;
  /** Family, model and stepping; null before version 3. */
  readonly cpuid: { readonly family: number; readonly model: number } | null;
  /** 64 bytes; zeros where the host hides it. */
  readonly chipId: Bytes;
  readonly signed: Bytes;
  /** Raw r and s, big endian. */
  readonly signature: Bytes;
}

/**
 * Reads a SEV-SNP attestation report of version 2, 3 or 5. Source: AMD's "SEV secure nested paging
 * firmware ABI", ATTESTATION_REPORT. Throws AttestError 'malformed', 'trailing-bytes',
 * 'unsupported-version' or 'unsupported-algorithm'.
 */
export function readSnpReport(bytes: Bytes): SnpReport {
  demand(bytes.length <= REPORT_BYTES, 'trailing-bytes', `the report has ${bytes.length} bytes`);
  const reader = new ByteReader(bytes, 'SNP report');
  const version = reader.u32le();
  const isKnown = VERSIONS.includes(version);
  demand(isKnown, 'unsupported-version', `the SNP report has version ${version}, not 2, 3 or 5`);
  const guestSvn = reader.u32le();
  const policy = readPolicy(reader.u64le());
  const [familyId, imageId] = [reader.bytes(16), reader.bytes(16)];
  const vmpl = reader.u32le();
  const algorithm = reader.u32le();
  const isP384 = algorithm === ECDSA_P384_SHA384;
  demand(isP384, 'unsupported-algorithm', `the SNP report is signed with algorithm ${algorithm}`);
  const currentTcb = reader.bytes(8);
  const platformInfo = reader.u64le();
  const signingKey = readSigningKey(reader.u32le());
  zeros(reader, 4);
  const body = {
    reportData: reader.bytes(64),
    measurement: reader.bytes(48),
    hostData: reader.bytes(32),
    idKeyDigest: reader.bytes(48),
    authorKeyDigest: reader.bytes(48),
  };
  // The guest's own report id and its migration agent's.
  reader.bytes(64);
  const reportedTcb = reader.bytes(8);
  const [family, model, stepping] = [reader.u8(), reader.u8(), reader.u8()];
  const cpuid = version >= 3 ? { family, model } : null;
  const isBlank = cpuid !== null || family + model + stepping === 0;
  demand(isBlank, 'malformed', 'the SNP report names a CPU, which its version does not');
  zeros(reader, 21);
  const chipId = reader.bytes(64);
  const committedTcb = reader.bytes(8);
  readFirmwareVersion(reader);
  readFirmwareVersion(reader);
  const launchTcb = reader.bytes(8);
  // Version 5 tells which mitigations were on, at launch and now.
  if (version >= 5) reader.bytes(16);
  else zeros(reader, 16);
  zeros(reader, SIGNED_BYTES - reader.offset);
  const signed = bytes.subarray(0, reader.offset);
  const signature = concatBytes(readCoordinate(reader), readCoordinate(reader));
  zeros(reader, SIGNATURE_BYTES - 2 * COORDINATE.padded);
  reader.end();
  return {
    version,
    guestSvn,
    policy,
    familyId,
    imageId,
    vmpl,
    platformInfo,
    signingKey,
    ...body,
    allowsDebug: (policy & POLICY.debug) !== 0n,
    allowsMigration: (policy & POLICY.migration) !== 0n,
    reportedTcb,
    committedTcb,
    currentTcb,
    launchTcb,
    cpuid,
    chipId,
    signed,
    signature,
  };
}

function readPolicy(policy: bigint): bigint {
  const isFormed = (policy & POLICY.reservedOne) !== 0n && (policy & ~POLICY_KNOWN) === 0n;
  demand(isFormed, 'malformed', `the SNP policy ${policy.toString(16)} has reserved bits`);
  return policy;
}

/** Bits: author key in use, chip key masked, and three that say which key signed. */
function readSigningKey(flags: number): 'VCEK' | 'VLEK' {
  const key = SIGNING_KEYS[(flags >>> 2) & 7];
  const isSigned = key !== undefined && flags >>> 5 === 0;
  demand(isSigned, 'malformed', `the SNP report has the key flags ${flags}: no key that signs`);
  return key;
}

/** Build, minor, major and a reserved byte. */
function readFirmwareVersion(reader: ByteReader): void {
  reader.bytes(3);
  zeros(reader, 1);
}

function readCoordinate(reader: ByteReader): Bytes {
  const used = reader.bytes(COORDINATE.used);
  zeros(reader, COORDINATE.padded - COORDINATE.used);
  return used.slice().reverse();
}

function zeros(reader: ByteReader, count: number): void {
  const at = reader.offset;
  const isZero = reader.bytes(count).every((byte) => byte === 0);
  demand(isZero, 'malformed', `the SNP report's reserved bytes from ${at} on are not zero`);
}
