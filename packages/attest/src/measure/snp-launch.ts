import { type Bytes, concatBytes } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';
import { demand } from '../core/errors.ts';
import { FIRMWARE_GUID, guidBytes, readFirmwareTable, readPointed } from './firmware-table.ts';
import { makeVmsa, RESET_VECTOR, type SnpVmm } from './snp-vcpu.ts';

/** What of OVMF the launch digest depends on. */
export interface SnpFirmware {
  /** The launch digest once the firmware's own pages are added (48 bytes). */
  readonly digest: Bytes;
  /** The pages that it asks for besides, in its order. */
  readonly sections: readonly SnpSection[];
  /** Where the hashes of a kernel belong; null: nowhere. */
  readonly hashTableAddress: number | null;
  /** Where vCPUs but the first one begin; null: it does not say. */
  readonly resetAddress: number | null;
}

export interface SnpSection {
  readonly address: number;
  readonly bytes: number;
  /** As OVMF numbers them. */
  readonly type: number;
}

/** What an SEV-SNP guest is started with. */
export interface SnpLaunch {
  readonly firmware: SnpFirmware;
  readonly vmm: SnpVmm;
  readonly vcpus: number;
  /** See `SNP_VCPU_SIGNATURES`. */
  readonly vcpuSignature: number;
  /** SEV_FEATURES; KVM's own default is 1, SNP alone. */
  readonly guestFeatures: bigint;
  /** null: the firmware finds its kernel on a disk, which the digest then does not cover. */
  readonly boot: MeasuredBoot | null;
}

/** What QEMU starts directly (`kernel-hashes=on`). */
export interface MeasuredBoot {
  readonly kernelSha256: Bytes;
  /** Of no bytes where there is no initrd. */
  readonly initrdSha256: Bytes;
  readonly commandLine: string;
}

const PAGE_BYTES = 4096;
const FOUR_GIB = 0x1_0000_0000;
const DIGEST_BYTES = 48;
const VCPUS_MAX = 4096;
const SECTIONS_MAX = 64;
const SECTION_BYTES_MAX = 256 * 1024 * 1024;
const METADATA_VERSION = 1;
/** Where the firmware's ABI says that pages with the state of vCPUs are. */
const VMSA_ADDRESS = 0xffff_ffff_f000n;

/** PAGE_TYPE of SNP_LAUNCH_UPDATE (AMD's SNP firmware ABI 56860). */
const PAGE = { normal: 1, vmsa: 2, zero: 3, unmeasured: 4, secrets: 5, cpuid: 6 } as const;

/** What OVMF asks of whoever starts it, by type. */
const SECTION = { memory: 1, secrets: 2, cpuid: 3, callingArea: 4, kernelHashes: 0x10 } as const;

/** Reads OVMF.fd, to the byte. Throws AttestError with a reading code. */
export async function readSnpFirmware(firmware: Bytes): Promise<SnpFirmware> {
  const isWhole = firmware.length > 0 && firmware.length % PAGE_BYTES === 0;
  demand(isWhole, 'malformed', `the firmware has ${firmware.length} bytes: no whole pages`);
  const table = readFirmwareTable(firmware);
  const launch = new LaunchDigest();
  await launch.addPages(FOUR_GIB - firmware.length, firmware);
  return {
    digest: launch.value,
    sections: readSections(firmware, table.get(FIRMWARE_GUID.sevMetadata)),
    hashTableAddress: addressIn(table.get(FIRMWARE_GUID.sevHashTable)),
    resetAddress: addressIn(table.get(FIRMWARE_GUID.sevResetBlock)),
  };
}

/** null, too, where it is 0: older firmware reserves the place and does not use it. */
function addressIn(entry: Bytes | undefined): number | null {
  if (entry === undefined || entry.length < 4) return null;
  return new DataView(entry.buffer, entry.byteOffset).getUint32(0, true) || null;
}

/**
 * The launch digest (48 bytes) that AMD's processor reports of a guest that is started so: the
 * firmware, what it asks for in its metadata, and the state of each vCPU, page by page, as QEMU,
 * EC2 and GCE add them. An SVSM and an IGVM file are not computed. Throws AttestError 'malformed'
 * for what cannot be started.
 */
export async function snpLaunchDigest(launch: SnpLaunch): Promise<Bytes> {
  const { firmware, vmm, vcpus, vcpuSignature, guestFeatures, boot } = launch;
  const { sections, resetAddress } = firmware;
  const isCount = Number.isSafeInteger(vcpus) && vcpus >= 1 && vcpus <= VCPUS_MAX;
  demand(isCount, 'malformed', `a guest has 1 to ${VCPUS_MAX} vCPUs, not ${vcpus}`);
  const hashPage = boot === null ? null : await kernelHashPage(boot, firmware);

  const digests = new LaunchDigest(firmware.digest);
  // EC2 adds the page for CPUID last, whatever the order of the metadata.
  const isLate = ({ type }: SnpSection) => vmm === 'ec2' && type === SECTION.cpuid;
  const inOrder = [...sections.filter((one) => !isLate(one)), ...sections.filter(isLate)];
  for (const section of inOrder) await addSection(digests, section, vmm, hashPage);

  const state = { vmm, signature: vcpuSignature, guestFeatures };
  const first = makeVmsa({ ...state, instructionPointer: RESET_VECTOR });
  await digests.add(PAGE.vmsa, VMSA_ADDRESS, await digest('SHA-384', first));
  if (vcpus === 1) return digests.value;
  const lacks = 'the firmware does not say where vCPUs but the first one begin';
  demand(resetAddress !== null, 'malformed', lacks);
  const page = makeVmsa({ ...state, instructionPointer: resetAddress });
  const other = await digest('SHA-384', page);
  for (let i = 1; i < vcpus; i++) await digests.add(PAGE.vmsa, VMSA_ADDRESS, other);
  return digests.value;
}

async function addSection(
  digests: LaunchDigest,
  { type, address, bytes }: SnpSection,
  vmm: SnpVmm,
  hashPage: Bytes | null,
): Promise<void> {
  switch (type) {
    case SECTION.memory:
      return digests.addRange(vmm === 'gce' ? PAGE.unmeasured : PAGE.zero, address, bytes);
    case SECTION.secrets:
      return digests.add(PAGE.secrets, BigInt(address));
    case SECTION.cpuid:
      return digests.add(PAGE.cpuid, BigInt(address));
    case SECTION.callingArea:
      return digests.addRange(PAGE.zero, address, bytes);
    default: {
      if (hashPage === null) return digests.addRange(PAGE.zero, address, bytes);
      const isPage = bytes === PAGE_BYTES;
      demand(isPage, 'malformed', `the firmware wants kernel hashes in ${bytes} bytes, not a page`);
      return digests.addPages(address, hashPage);
    }
  }
}

/** The digest as it grows: each page's PAGE_INFO holds the one before (56860, section 8.17.2). */
class LaunchDigest {
  value: Bytes;

  constructor(value: Bytes = new Uint8Array(DIGEST_BYTES)) {
    this.value = value;
  }

  /** Of what is not measured, or zero by its type, the content's digest is zero too. */
  async add(type: number, address: bigint, content?: Bytes): Promise<void> {
    const info = new Uint8Array(2 * DIGEST_BYTES + 16);
    const view = new DataView(info.buffer);
    info.set(this.value);
    if (content !== undefined) info.set(content, DIGEST_BYTES);
    view.setUint16(96, info.length, true);
    view.setUint8(98, type);
    view.setBigUint64(104, address, true);
    this.value = await digest('SHA-384', info);
  }

  async addRange(type: number, address: number, bytes: number): Promise<void> {
    for (let at = 0; at < bytes; at += PAGE_BYTES) await this.add(type, BigInt(address + at));
  }

  async addPages(address: number, bytes: Bytes): Promise<void> {
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      const content = await digest('SHA-384', bytes.subarray(at, at + PAGE_BYTES));
      await this.add(PAGE.normal, BigInt(address + at), content);
    }
  }
}

/** OVMF’s SEV metadata: the pages that it wants. */
function readSections(firmware: Bytes, entry: Bytes | undefined): SnpSection[] {
  const what = "the firmware's SEV metadata";
  demand(entry !== undefined, 'malformed', `${what} is missing: it cannot be started with SEV-SNP`);
  const reader = readPointed(firmware, entry, what);
  const signature = String.fromCharCode(...reader.bytes(4));
  demand(signature === 'ASEV', 'malformed', `${what} does not begin with ASEV`);
  const bytes = reader.u32le();
  const version = reader.u32le();
  const isKnown = version === METADATA_VERSION;
  demand(isKnown, 'unsupported-version', `${what} is of version ${version}`);
  const count = reader.u32le();
  demand(count <= SECTIONS_MAX, 'too-large', `${what} has ${count} sections`);
  demand(bytes === 16 + 12 * count, 'malformed', `${what} says it has ${bytes} bytes`);
  return Array.from({ length: count }, () => {
    const section = { address: reader.u32le(), bytes: reader.u32le(), type: reader.u32le() };
    demandSection(section, what);
    return section;
  });
}

function demandSection({ address, bytes, type }: SnpSection, what: string): void {
  const isAligned = address % PAGE_BYTES === 0 && bytes % PAGE_BYTES === 0 && bytes > 0;
  demand(isAligned, 'malformed', `${what}: a section is not of whole pages`);
  demand(bytes <= SECTION_BYTES_MAX, 'too-large', `${what}: a section has ${bytes} bytes`);
  const isKnown = Object.values(SECTION).some((known) => known === type);
  demand(isKnown, 'unsupported-version', `${what}: a section is of the unknown type ${type}`);
}

const HASH_TABLE_GUID = '9438d606-4f22-4cc9-b479-a793d411fd21';
const KERNEL_GUID = '4de79437-abd2-427f-b835-d5b172d2045b';
const INITRD_GUID = '44baf731-3a2f-4bd7-9af1-41e29169781d';
const COMMAND_LINE_GUID = '97d02dd8-bd20-4c94-aa78-e7714d36ab2a';

/** The page with SHA-256 of what is booted, as QEMU puts it where the firmware says. */
async function kernelHashPage(
  { kernelSha256, initrdSha256, commandLine }: MeasuredBoot,
  { hashTableAddress, sections }: SnpFirmware,
): Promise<Bytes> {
  const isPlace = sections.some(({ type }) => type === SECTION.kernelHashes);
  demand(
    hashTableAddress !== null && isPlace,
    'malformed',
    'this firmware has no place for the hashes of a kernel: OvmfPkg/AmdSev has one',
  );
  // QEMU hashes the command line with the zero at its end.
  const line = await digest('SHA-256', new TextEncoder().encode(`${commandLine}\0`));
  const hashes = guided(
    HASH_TABLE_GUID,
    concatBytes(
      guided(COMMAND_LINE_GUID, line),
      guided(INITRD_GUID, initrdSha256),
      guided(KERNEL_GUID, kernelSha256),
    ),
  );
  const page = new Uint8Array(PAGE_BYTES);
  const at = hashTableAddress % PAGE_BYTES;
  demand(at + hashes.length <= PAGE_BYTES, 'malformed', 'the hashes of a kernel cross a page');
  page.set(hashes, at);
  return page;
}

/** GUID, length with this head, content. */
function guided(guid: string, content: Bytes): Bytes {
  const bytes = new Uint8Array(18 + content.length);
  bytes.set(guidBytes(guid));
  new DataView(bytes.buffer).setUint16(16, bytes.length, true);
  bytes.set(content, 18);
  return bytes;
}
