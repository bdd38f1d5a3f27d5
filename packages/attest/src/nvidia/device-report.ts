import { type Bytes, toHex } from '../core/bytes.ts';
import { AttestError, demand } from '../core/errors.ts';
import { OPAQUE, type OpaqueData, readOpaqueData } from './opaque.ts';
import { readSpdmReport, type SpdmReport } from './spdm.ts';

export type AttestedDeviceKind = 'gpu' | 'switch';
export type DeviceArch = 'hopper' | 'blackwell' | 'ls10';

/** How a GPU works with others: not at all, by encrypted links, or over plain NVLink. */
export type MultiGpuMode = 'single' | 'multi' | 'protected-pcie';

/**
 * Which processor of a GPU reports: the one that its driver's firmware runs on (GSP), or the one
 * that boots it (FSP), which knows of no driver and no mode.
 */
export type GpuReporter = 'gsp' | 'fsp';

/** The ids under which the vendor publishes a device's reference measurements. */
export interface RimIds {
  /** GPUs only; to be asked in this order. Empty where the report does not say which. */
  readonly driver: readonly string[];
  readonly vbios: string | null;
}

/** What a switch says of its place. */
export interface SwitchPlace {
  /** 16 hexadecimal digits, as in its certificate. */
  readonly pdi: string;
  /** The switch's number on its board, less 1. */
  readonly position: number;
  /** Whether the host can no longer change its routing. */
  readonly isLocked: boolean;
  /** The GPUs it is linked to, in an order of its own: 16 hexadecimal digits each. */
  readonly gpuPdis: readonly string[];
  /** By port, the index of the GPU (in `gpuPdis`) or null. */
  readonly gpuOfPort: readonly (number | null)[];
}

/** What a device's signed report says, whether or not the signature holds. Plain data. */
export interface DeviceReport {
  readonly kind: AttestedDeviceKind;
  readonly arch: DeviceArch;
  /** null for a switch. */
  readonly reporter: GpuReporter | null;
  readonly spdm: SpdmReport;
  /** 32 bytes, the requester's. */
  readonly nonce: Bytes;
  /** Digests (48 bytes) by RIM index (the SPDM index less one). */
  readonly measurements: ReadonlyMap<number, Bytes>;
  /** Like `550.144.03`; null for a switch. */
  readonly driverVersion: string | null;
  /** Of the GPU's VBIOS or the switch's BIOS, upper case, like `96.00.5E.00.01`. */
  readonly vbiosVersion: string | null;
  readonly rimIds: RimIds;
  /** Whether NVDEC0 is on; where it is not, RIM index 35 is not measured. null: not reported. */
  readonly isNvdec0On: boolean | null;
  /** The security version of the FSP's microcode, where the report has it (NVDAOD). */
  readonly fspUcodeSvn: number | null;
  readonly isProtectedPcie: boolean | null;
  readonly multiGpuMode: MultiGpuMode | null;
  /** Whether NVLink is encrypted (NVDAOD alone reports it). */
  readonly isNvlinkEncrypted: boolean | null;
  /** The digest of the firmware, to be equal to the leaf certificate's. 48 bytes. */
  readonly fwid: Bytes | null;
  /** The PDI that an FSP repeats of its certificate, 16 hexadecimal digits. */
  readonly ownPdi: string | null;
  /** Of a GPU in Protected PCIe mode: by link, the switch's PDI, or null where none is linked. */
  readonly switchOfLink: readonly (string | null)[] | null;
  readonly place: SwitchPlace | null;
}

const DIGEST_BYTES = 48;
/** DMTF's types: digests of mutable firmware, or of anything; bit 7 says that bytes are raw. */
const MUTABLE_FIRMWARE = 1;
const DIGEST_TYPES = [0, 1, 2, 3];
const RAW = 0x80;
/** By its SPDM index: the FSP's own PDI. */
const FSP_PDI_INDEX = 26;
const PDI_BYTES = 8;
const LINKS = 18;
const SWITCH_GPUS = 8;
const SWITCH_PORTS = 64;
const NO_GPU = 0xff;
const MODES: readonly MultiGpuMode[] = ['single', 'multi', 'protected-pcie'];
/** Chip and board of the only switch that attests (LS10), as its RIMs are named. */
const LS10_PROJECT = '5612_0002_890';

/**
 * Reads a GPU's or a switch's report; the architecture and a GPU's reporter come from its
 * certificate. Throws AttestError with a reading code.
 */
export function readDeviceReport(
  bytes: Bytes,
  arch: DeviceArch,
  reporter: GpuReporter = 'gsp',
): DeviceReport {
  const spdm = readSpdmReport(bytes);
  const opaque = readOpaqueData(spdm.opaque);
  const isFsp = arch !== 'ls10' && reporter === 'fsp';
  const common = {
    arch,
    spdm,
    nonce: spdm.nonce,
    measurements: readMeasurements(spdm, isFsp),
    fwid: opaque.bytes(OPAQUE.fwid, DIGEST_BYTES),
    ownPdi: isFsp ? readOwnPdi(spdm) : null,
  };
  return arch === 'ls10'
    ? { ...common, kind: 'switch', reporter: null, ...readSwitchFields(opaque) }
    : { ...common, kind: 'gpu', reporter, ...readGpuFields(opaque, arch) };
}

function readOwnPdi({ blocks }: SpdmReport): string {
  const block = blocks.find(({ index }) => index === FSP_PDI_INDEX);
  const isPdi = block !== undefined && (block.type & RAW) !== 0 && block.value.length === PDI_BYTES;
  demand(isPdi, 'malformed', `measurement ${FSP_PDI_INDEX} of the FSP is no PDI`);
  return toHex(block.value);
}

/** An FSP measures configurations as well, and shows some as they are: those are no digests. */
function readMeasurements({ blocks }: SpdmReport, isFsp: boolean): Map<number, Bytes> {
  const measurements = new Map<number, Bytes>();
  for (const { index, type, value } of blocks) {
    if (isFsp && (type & RAW) !== 0) continue;
    const isDigest = isFsp ? DIGEST_TYPES.includes(type) : type === MUTABLE_FIRMWARE;
    if (!isDigest || value.length !== DIGEST_BYTES) {
      const what = `measurement ${index} (type ${type}, ${value.length} bytes)`;
      throw new AttestError('unsupported-version', `${what} is no digest of firmware`);
    }
    measurements.set(index - 1, value);
  }
  return measurements;
}

type CommonFields =
  | 'arch'
  | 'spdm'
  | 'nonce'
  | 'measurements'
  | 'fwid'
  | 'ownPdi'
  | 'kind'
  | 'reporter';
type KindFields = Omit<DeviceReport, CommonFields>;

function readGpuFields(opaque: OpaqueData, arch: DeviceArch): KindFields {
  const driverVersion = opaque.text(OPAQUE.driverVersion);
  const vbiosVersion = readVbiosVersion(opaque);
  const flag = opaque.u16(OPAQUE.featureFlag);
  const multiGpuMode = flag === null ? null : MODES[flag];
  demand(multiGpuMode !== undefined, 'malformed', `the report has feature flag ${flag}`);
  const links = opaque.bytes(OPAQUE.gpuSwitchPdis, LINKS * PDI_BYTES);
  // The first byte is 0xaa for on and 0x55 for off, as elsewhere; the second one is 0.
  const encryption = opaque.bytes(OPAQUE.nvlinkEncryption, 2);
  return {
    driverVersion,
    vbiosVersion,
    rimIds: {
      driver: driverRimIds(opaque, arch, driverVersion),
      vbios: gpuVbiosRimId(opaque, vbiosVersion),
    },
    isNvdec0On: opaque.onOff(OPAQUE.nvdec0),
    fspUcodeSvn: opaque.u16(OPAQUE.fspUcodeSvn),
    isProtectedPcie: opaque.onOff(OPAQUE.protectedPcie),
    multiGpuMode,
    isNvlinkEncrypted: encryption === null ? null : toHex(encryption) === 'aa00',
    switchOfLink: links === null ? null : readPdis(links, true),
    place: null,
  };
}

/** Eight bytes, least significant first: four of the version, then the fifth. */
function readVbiosVersion(opaque: OpaqueData): string | null {
  const field = opaque.bytes(OPAQUE.vbiosVersion, 8);
  if (field === null) return null;
  const order = [field[3]!, field[2]!, field[1]!, field[0]!, field[4]!];
  return order
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('.')
    .toUpperCase();
}

function driverRimIds(
  opaque: OpaqueData,
  arch: DeviceArch,
  driverVersion: string | null,
): string[] {
  if (driverVersion === null) return [];
  if (arch === 'hopper') return [`NV_GPU_DRIVER_GH100_${driverVersion}`];
  return [`NV_GPU_CC_DRIVER_${opaque.text(OPAQUE.chipInfo) ?? 'GB100'}_${driverVersion}`];
}

function gpuVbiosRimId(opaque: OpaqueData, vbiosVersion: string | null): string | null {
  const project = opaque.text(OPAQUE.project);
  const sku = opaque.text(OPAQUE.projectSku);
  const chip = opaque.text(OPAQUE.chipSku);
  if (project === null || sku === null || chip === null || vbiosVersion === null) return null;
  return `NV_GPU_VBIOS_${project}_${sku}_${chip}_${vbiosVersion.replaceAll('.', '')}`;
}

function readSwitchFields(opaque: OpaqueData): KindFields {
  const vbiosVersion = opaque.text(OPAQUE.vbiosVersion)?.toUpperCase() ?? null;
  const vbios =
    vbiosVersion === null
      ? null
      : `NV_SWITCH_BIOS_${LS10_PROJECT}_${vbiosVersion.replaceAll('.', '')}`;
  return {
    driverVersion: null,
    vbiosVersion,
    rimIds: { driver: [], vbios },
    isNvdec0On: null,
    fspUcodeSvn: null,
    isProtectedPcie: opaque.onOff(OPAQUE.protectedPcie),
    multiGpuMode: null,
    isNvlinkEncrypted: null,
    switchOfLink: null,
    place: readPlace(opaque),
  };
}

function readPlace(opaque: OpaqueData): SwitchPlace | null {
  const pdi = opaque.bytes(OPAQUE.switchPdi, PDI_BYTES);
  const position = opaque.u16(OPAQUE.switchPosition);
  const lock = opaque.u16(OPAQUE.switchLock);
  const gpus = opaque.bytes(OPAQUE.switchGpuPorts, SWITCH_GPUS * PDI_BYTES + SWITCH_PORTS);
  if (pdi === null || position === null || lock === null || gpus === null) return null;
  const ports = [...gpus.subarray(SWITCH_GPUS * PDI_BYTES)];
  const stray = ports.find((gpu) => gpu >= SWITCH_GPUS && gpu !== NO_GPU);
  demand(stray === undefined, 'malformed', `a port of the switch leads to GPU ${stray}`);
  return {
    pdi: toHex(pdi),
    position,
    isLocked: lock === 1,
    gpuPdis: readPdis(gpus.subarray(0, SWITCH_GPUS * PDI_BYTES), false).map((one) => one ?? ''),
    gpuOfPort: ports.map((gpu) => (gpu === NO_GPU ? null : gpu)),
  };
}

/** GPUs write the PDIs of switches in the other byte order than switches and certificates do. */
function readPdis(field: Bytes, isReversed: boolean): (string | null)[] {
  const pdis: (string | null)[] = [];
  for (let at = 0; at < field.length; at += PDI_BYTES) {
    const pdi = field.slice(at, at + PDI_BYTES);
    const isNone = pdi.every((byte) => byte === 0);
    pdis.push(isNone ? null : toHex(isReversed ? pdi.reverse() : pdi));
  }
  return pdis;
}
