import { type Bytes, concatBytes } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';
import { demand } from '../core/errors.ts';
import { FIRMWARE_GUID, guidBytes, readFirmwareTable, readPointed } from './firmware-table.ts';
import { makeVmsa, RESET_VECTOR, type SnpVmm } from './snp-vcpu.ts';

/** What an SEV-SNP guest is started with. */
export interface SnpLaunch {
  /** OVMF.fd, to the byte. */
  readonly firmware: Bytes;
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
  readonly kernel: Bytes;
  /** null: none. */
  readonly initrd: Bytes | null;
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

interface Section {
  readonly address: number;
  readonly bytes: number;
  readonly type: number;
}

/**
 * The launch digest (48 bytes) that AMD's processor reports of a guest that is started so: the
 * firmware, what it asks for in its metadata, and the state of each vCPU, page by page, as QEMU, EC2
 * and GCE add them. An SVSM and an IGVM file are not computed. Throws AttestError with a reading
 * code.
 */
export async function snpLaunchDigest(launch: SnpLaunch): Promise<Bytes> {
  const { firmware, vmm, vcpus, vcpuSignature, guestFeatures, boot } = launch;
  const isCount = Number.isSafeInteger(vcpus) && vcpus >= 1 && vcpus <= VCPUS_MAX;
  demand(isCount, 'malformed', `a guest has 1 to ${VCPUS_MAX} vCPUs, not ${vcpus}`);
  const isWhole = firmware.length > 0 && firmware.length % PAGE_BYTES === 0;
  demand(isWhole, 'malformed', `the firmware has ${firmware.length} bytes: no whole pages`);
  const table = readFirmwareTable(firmware);
  const sections = readSections(firmware, table.get(FIRMWARE_GUID.sevMetadata));
  const hashPage = boot === null ? null : await kernelHashPage(boot, table);
  demand(
    hashPage === null || sections.some(({ type }) => type === SECTION.kernelHashes),
    'malformed',
    'this firmware has no place for the hashes of a kernel: build it as OvmfPkg/AmdSev',
  );

  const ledger = new LaunchDigest();
  await ledger.addPages(FOUR_GIB - firmware.length, firmware);
  // EC2 adds the page for CPUID last, whatever the order of the metadata.
  const isLate = ({ type }: Section) => vmm === 'ec2' && type === SECTION.cpuid;
  const inOrder = [...sections.filter((one) => !isLate(one)), ...sections.filter(isLate)];
  for (const section of inOrder) await addSection(ledger, section, vmm, hashPage);

  const state = { vmm, signature: vcpuSignature, guestFeatures };
  const first = makeVmsa({ ...state, instructionPointer: RESET_VECTOR });
  await ledger.add(PAGE.vmsa, VMSA_ADDRESS, await digest('SHA-384', first));
  if (vcpus === 1) return ledger.value;
  const instructionPointer = resetAddress(table);
  const other = await digest('SHA-384', makeVmsa({ ...state, instructionPointer }));
  for (let i = 1; i < vcpus; i++) await ledger.add(PAGE.vmsa, VMSA_ADDRESS, other);
  return ledger.value;
}

async function addSection(
  ledger: LaunchDigest,
  { type, address, bytes }: Section,
  vmm: SnpVmm,
  hashPage: Bytes | null,
): Promise<void> {
  switch (type) {
    case SECTION.memory:
      return ledger.addRange(vmm === 'gce' ? PAGE.unmeasured : PAGE.zero, address, bytes);
    case SECTION.secrets:
      return ledger.add(PAGE.secrets, BigInt(address));
    case SECTION.cpuid:
      return ledger.add(PAGE.cpuid, BigInt(address));
    case SECTION.callingArea:
      return ledger.addRange(PAGE.zero, address, bytes);
    default: {
      if (hashPage === null) return ledger.addRange(PAGE.zero, address, bytes);
      const isPage = bytes === PAGE_BYTES;
      demand(isPage, 'malformed', `the firmware wants kernel hashes in ${bytes} bytes, not a page`);
      return ledger.addPages(address, hashPage);
    }
  }
}

/** The digest as it grows: each page's PAGE_INFO holds the one before (56860, section 8.17.2). */
class LaunchDigest {
  value: Bytes = new Uint8Array(DIGEST_BYTES);

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
function readSections(firmware: Bytes, entry: Bytes | undefined): Section[] {
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

function demandSection({ address, bytes, type }: Section, what: string): void {
  const isAligned = address % PAGE_BYTES === 0 && bytes % PAGE_BYTES === 0 && bytes > 0;
  demand(isAligned, 'malformed', `${what}: a section is not of whole pages`);
  demand(bytes <= SECTION_BYTES_MAX, 'too-large', `${what}: a section has ${bytes} bytes`);
  const isKnown = Object.values(SECTION).some((known) => known === type);
  demand(isKnown, 'unsupported-version', `${what}: a section is of the unknown type ${type}`);
}

/** Where the other vCPUs begin. */
function resetAddress(table: ReadonlyMap<string, Bytes>): number {
  const entry = table.get(FIRMWARE_GUID.sevResetBlock);
  const what = 'the address where more vCPUs begin';
  demand(entry !== undefined && entry.length >= 4, 'malformed', `the firmware lacks ${what}`);
  return new DataView(entry.buffer, entry.byteOffset).getUint32(0, true);
}

const HASH_TABLE_GUID = '9438d606-4f22-4cc9-b479-a793d411fd21';
const KERNEL_GUID = '4de79437-abd2-427f-b835-d5b172d2045b';
const INITRD_GUID = '44baf731-3a2f-4bd7-9af1-41e29169781d';
const COMMAND_LINE_GUID = '97d02dd8-bd20-4c94-aa78-e7714d36ab2a';

/** The page with SHA-256 of what is booted, as QEMU puts it where the firmware says. */
async function kernelHashPage(
  { kernel, initrd, commandLine }: MeasuredBoot,
  table: ReadonlyMap<string, Bytes>,
): Promise<Bytes> {
  const entry = table.get(FIRMWARE_GUID.sevHashTable);
  const lacks = 'the firmware does not say where the hashes of a kernel belong';
  demand(entry !== undefined && entry.length >= 4, 'malformed', lacks);
  const address = new DataView(entry.buffer, entry.byteOffset).getUint32(0, true);
  demand(address !== 0, 'malformed', lacks);
  const hashed = async (guid: string, bytes: Bytes) =>
    guided(guid, await digest('SHA-256', bytes));
  // QEMU hashes the command line with the zero at its end, and no initrd as an empty one.
  const hashes = guided(
    HASH_TABLE_GUID,
    concatBytes(
      await hashed(COMMAND_LINE_GUID, new TextEncoder().encode(`${commandLine}\0`)),
      await hashed(INITRD_GUID, initrd ?? new Uint8Array()),
      await hashed(KERNEL_GUID, kernel),
    ),
  );
  const page = new Uint8Array(PAGE_BYTES);
  const at = address % PAGE_BYTES;
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
