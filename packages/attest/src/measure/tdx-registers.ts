import { type Bytes, concatBytes, utf8 } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';
import { AttestError, demand } from '../core/errors.ts';
import { guidBytes } from './firmware-table.ts';
import { TDVF_SECTION, type TdvfSection } from './tdvf.ts';

/** SHA-384 of what QEMU generates for the guest's ACPI, in the order in which OVMF measures it. */
export interface AcpiDigests {
  readonly loader: Bytes;
  readonly rsdp: Bytes;
  readonly tables: Bytes;
}

const REGISTER_BYTES = 48;
const SEPARATOR = new Uint8Array(4);
const GIB = 2 ** 30;
const FOUR_GIB = 4 * GIB;
/** From here on QEMU's q35 puts what is above 2 GiB behind 4 GiB. */
const SPLIT_BYTES = 0xb000_0000;
const LOW_BYTES = 2 * GIB;
const EFI_GLOBAL = '8be4df61-93ca-11d2-aa0d-00e098032b8c';
const EFI_SECURITY = 'd719b2cb-3d3a-4596-a3bc-dad00e67656f';

/**
 * RTMR0 of a guest that OVMF of before 2025-05 starts on QEMU, without secure boot and without a
 * boot order of its own: the memory, the variables that the firmware brings along, ACPI.
 */
export async function tdxRtmr0(
  sections: readonly TdvfSection[],
  memoryBytes: number,
  acpi: AcpiDigests,
): Promise<Bytes> {
  const variables = sections.find(({ type }) => type === TDVF_SECTION.variables);
  demand(variables !== undefined, 'malformed', 'the firmware has no section for variables');
  return tdxRtmr0Of(
    await tdHobDigest(sections, memoryBytes),
    await digest('SHA-384', variables.content),
    acpi,
  );
}

/** The same, from the digests of memory and variables. */
export async function tdxRtmr0Of(
  hob: Bytes,
  variables: Bytes,
  { loader, rsdp, tables }: AcpiDigests,
): Promise<Bytes> {
  return extended([
    hob,
    variables,
    await variableDigest(EFI_GLOBAL, 'SecureBoot'),
    await variableDigest(EFI_GLOBAL, 'PK'),
    await variableDigest(EFI_GLOBAL, 'KEK'),
    await variableDigest(EFI_SECURITY, 'db'),
    await variableDigest(EFI_SECURITY, 'dbx'),
    await digest('SHA-384', SEPARATOR),
    loader,
    rsdp,
    tables,
    await digest('SHA-384', new Uint8Array(2)), // BootOrder: the first entry alone
    await digest('SHA-384', setupEntry()), // Boot0000
  ]);
}

/** RTMR1: the kernel, by the Authenticode digest of the bytes that QEMU hands over. */
export async function tdxRtmr1(kernelAuthenticode: Bytes): Promise<Bytes> {
  return extended([
    kernelAuthenticode,
    await digest('SHA-384', utf8('Calling EFI Application from Boot Option')),
    await digest('SHA-384', SEPARATOR),
    await digest('SHA-384', utf8('Exit Boot Services Invocation')),
    await digest('SHA-384', utf8('Exit Boot Services Returned with Success')),
  ]);
}

/** RTMR2: what Linux's EFI stub measures; see `commandLineDigest`. */
export function tdxRtmr2(commandLineSha384: Bytes, initrdSha384: Bytes): Promise<Bytes> {
  return extended([commandLineSha384, initrdSha384]);
}

/** The digest of a command line as the stub measures it. */
export function commandLineDigest(commandLine: string): Promise<Bytes> {
  return digest('SHA-384', utf16(`${commandLine}\0`));
}

/** A register is extended with one digest after the other. */
async function extended(digests: readonly Bytes[]): Promise<Bytes> {
  let register: Bytes = new Uint8Array(REGISTER_BYTES);
  for (const one of digests) {
    const isDigest = one.length === REGISTER_BYTES;
    demand(isDigest, 'malformed', `a register is extended with 48 bytes, not ${one.length}`);
    register = await digest('SHA-384', concatBytes(register, one));
  }
  return register;
}

/** An EFI variable that is not set (UEFI_VARIABLE_DATA of the TCG's PC client specification). */
function variableDigest(vendor: string, name: string): Promise<Bytes> {
  const lengths = new Uint8Array(16);
  new DataView(lengths.buffer).setUint32(0, name.length, true);
  return digest('SHA-384', concatBytes(guidBytes(vendor), lengths, utf16(name)));
}

/** The load option of OVMF's own setup, UiApp, of the volume that it is in. */
function setupEntry(): Bytes {
  const attributes = Uint8Array.of(0x09, 0x01, 0, 0); // active, hidden, an application
  const paths = concatBytes(
    Uint8Array.of(4, 7, 20, 0),
    guidBytes('7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1'),
    Uint8Array.of(4, 6, 20, 0),
    guidBytes('462caa21-7614-4503-836e-8ab6f4662331'),
    Uint8Array.of(0x7f, 0xff, 4, 0),
  );
  const length = Uint8Array.of(paths.length, 0);
  return concatBytes(attributes, length, utf16('UiApp\0'), paths);
}

interface MemoryRange {
  readonly start: number;
  readonly end: number;
  readonly isAccepted: boolean;
}

/**
 * The digest of the list that QEMU hands over to say what memory there is (TD HOB): its head, a
 * resource for each range that the firmware has accepted already and for each one between, and what
 * is left, which goes around the hole below 4 GiB.
 */
export async function tdHobDigest(
  sections: readonly Pick<TdvfSection, 'address' | 'bytes' | 'type'>[],
  memoryBytes: number,
): Promise<Bytes> {
  const hob = sections.find(({ type }) => type === TDVF_SECTION.hob);
  demand(hob !== undefined, 'malformed', 'the firmware has no section for a TD HOB');
  const ranges = memoryRanges(sections, memoryBytes);
  const last = ranges.pop()!;
  const resources = ranges.map(resource);
  if (memoryBytes < SPLIT_BYTES) {
    resources.push(resource(last));
  } else {
    resources.push(resource({ ...last, end: LOW_BYTES }));
    const above = memoryBytes - LOW_BYTES;
    resources.push(resource({ start: FOUR_GIB, end: FOUR_GIB + above, isAccepted: false }));
  }
  const head = new Uint8Array(56);
  const view = new DataView(head.buffer);
  view.setUint16(0, 1, true); // EFI_HOB_TYPE_HANDOFF
  view.setUint16(2, head.length, true);
  view.setUint32(8, 9, true); // its version
  const list = concatBytes(head, ...resources);
  new DataView(list.buffer).setBigUint64(48, BigInt(hob.address + list.length + 8), true);
  return digest('SHA-384', list);
}

/** All memory in order: what the firmware accepts itself, and what is between and behind. */
function memoryRanges(
  sections: readonly Pick<TdvfSection, 'address' | 'bytes' | 'type'>[],
  memoryBytes: number,
): MemoryRange[] {
  const accepted = sections
    .filter(({ type }) => type === TDVF_SECTION.hob || type === TDVF_SECTION.temporary)
    .map(({ address: start, bytes }) => ({ start, end: start + bytes, isAccepted: true }))
    .sort((a, b) => a.start - b.start);
  const ranges: MemoryRange[] = [];
  let at = 0;
  for (const range of accepted) {
    demand(range.start >= at, 'malformed', 'sections of the firmware overlap in memory');
    if (range.start > at) ranges.push({ start: at, end: range.start, isAccepted: false });
    ranges.push(range);
    at = range.end;
  }
  if (at >= Math.min(memoryBytes, LOW_BYTES) || !Number.isSafeInteger(memoryBytes)) {
    throw new AttestError('malformed', `${memoryBytes} bytes of memory do not hold the firmware`);
  }
  return [...ranges, { start: at, end: memoryBytes, isAccepted: false }];
}

/** EFI_HOB_RESOURCE_DESCRIPTOR, without an owner. */
function resource({ start, end, isAccepted }: MemoryRange): Bytes {
  const bytes = new Uint8Array(48);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 3, true);
  view.setUint16(2, bytes.length, true);
  view.setUint32(24, isAccepted ? 0 : 7, true); // system memory, or unaccepted memory
  view.setUint32(28, 7, true); // present, initialised, tested
  view.setBigUint64(32, BigInt(start), true);
  view.setBigUint64(40, BigInt(end - start), true);
  return bytes;
}

function utf16(text: string): Bytes {
  const bytes = new Uint8Array(2 * text.length);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < text.length; i++) view.setUint16(2 * i, text.charCodeAt(i), true);
  return bytes;
}
