import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import type { AcpiDigests, ExpectedGuest } from '@bridgekeeper/attest';
import {
  digest,
  flag,
  integer,
  kindOf,
  oneOf,
  requiredArgument,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import { choosePolicy } from './choose-policy.ts';
import type { CliCommand } from './command.ts';

const FILE_BYTES_MAX = 2 ** 30;

const sha384 = kindOf('hex', '96 hex digits', (value) =>
  /^[0-9a-f]{96}$/i.test(value) ? value.toLowerCase() : undefined,
);
const features = kindOf('hex', 'up to 64 bits in hexadecimal, such as 0x1', (value) =>
  /^(0x)?[0-9a-f]{1,16}$/i.test(value) ? BigInt(`0x${value.replace(/^0x/i, '')}`) : undefined,
);

const COMMON = {
  firmware: requiredArgument(text('firmware'), 'the firmware that the guest is started with'),
  initrd: flag(text('file'), undefined, 'the initial RAM disk'),
  cmdline: flag(text('text'), undefined, 'the kernel’s command line, to the character'),
  bundleDigest: flag(digest(), undefined, 'the offline bundle that the image must hold'),
  policy: flag(text('name|file'), 'service', 'the policy that the expectation is put into'),
};

const SNP = {
  ...COMMON,
  vcpus: flag(integer(1, 4096), undefined, 'how many vCPUs the guest has'),
  vcpuType: flag(text('model'), undefined, 'QEMU’s name of their model, such as EPYC-v4'),
  vmm: flag(oneOf('qemu', 'ec2', 'gce'), 'qemu', 'who starts the guest'),
  guestFeatures: flag(features, undefined, 'SEV_FEATURES; default: 0x1, SEV-SNP alone'),
  kernel: flag(text('file'), undefined, 'the kernel that QEMU starts; without: found by firmware'),
};

const TDX = {
  ...COMMON,
  pageOrder: flag(
    oneOf('two-pass', 'single-pass'),
    undefined,
    'how pages are added: QEMU 8, QEMU 9; default: either',
  ),
  memory: flag(integer(2 ** 24, 2 ** 46), undefined, 'bytes that the guest has, such as 64G'),
  acpiLoader: flag(sha384, undefined, 'SHA-384 of QEMU’s ACPI loader commands'),
  acpiRsdp: flag(sha384, undefined, 'SHA-384 of QEMU’s ACPI root pointer'),
  acpiTables: flag(sha384, undefined, 'SHA-384 of QEMU’s ACPI tables'),
  kernelAuthenticode: flag(
    sha384,
    undefined,
    'SHA-384 of the kernel as QEMU hands it over, after Authenticode',
  ),
  appCompose: flag(text('file'), undefined, 'dstack’s app-compose.json'),
};

const NOTES =
  'Prints a policy for `verify --policy`; what it leaves open is said on standard error.';

const MEASURE_SNP: CliCommand<typeof SNP> = {
  name: 'measure snp',
  summary: 'the launch digest of an AMD SEV-SNP guest, as a policy',
  flags: SNP,
  notes: NOTES,
  run: ({ values }, io) => measure(() => expectSnp(values, io), values, io),
};

const MEASURE_TDX: CliCommand<typeof TDX> = {
  name: 'measure tdx',
  summary: 'MRTD and registers of an Intel TDX guest, as a policy',
  flags: TDX,
  notes: NOTES,
  run: ({ values }, io) => measure(() => expectTdx(values, io), values, io),
};

export const MEASURE: readonly CliCommand[] = [MEASURE_SNP, MEASURE_TDX];

type Expected = Pick<ExpectedGuest, 'launch' | 'registers'> & Partial<ExpectedGuest>;

/** Resolves to the exit code. Throws UsageError, also for firmware that cannot be read. */
async function measure(
  expect: () => Promise<Expected>,
  { policy, bundleDigest }: Pick<Values<typeof COMMON>, 'policy' | 'bundleDigest'>,
  io: CliIo,
): Promise<0> {
  const { AttestError, expectGuest } = await import('@bridgekeeper/attest');
  const base = await choosePolicy(policy, io);
  try {
    const guest = { appCompose: null, bundle: bundleDigest ?? null, ...(await expect()) };
    io.out(JSON.stringify(expectGuest(base, guest), null, 2));
    return 0;
  } catch (error) {
    if (!(error instanceof AttestError)) throw error;
    throw new UsageError('bad-file', error.message, { cause: error });
  }
}

async function expectSnp(flags: Values<typeof SNP>, io: CliIo): Promise<Expected> {
  const { readSnpFirmware, SNP_VCPU_SIGNATURES, snpLaunchDigest } = await import(
    '@bridgekeeper/attest'
  );
  const { vmm, vcpus, vcpuType, kernel, initrd, cmdline } = flags;
  if (vcpus === undefined) throw new UsageError('bad-value', '--vcpus: say how many there are');
  const models = Object.keys(SNP_VCPU_SIGNATURES);
  const signature = SNP_VCPU_SIGNATURES[vcpuType ?? ''];
  if (vmm === 'qemu' && signature === undefined) {
    throw new UsageError('bad-value', `--vcpu-type: must be one of ${models.join(', ')}`);
  }
  if (kernel === undefined && (initrd ?? cmdline) !== undefined) {
    throw new UsageError('bad-combination', '--initrd and --cmdline: give --kernel, too');
  }
  if (kernel === undefined) {
    const open = 'whatever the firmware finds to boot is not covered by the launch digest';
    io.err(`bridgekeeper: the kernel is left open: ${open}`);
  }
  const measured = await snpLaunchDigest({
    firmware: await readSnpFirmware(readBytes('firmware', flags.firmware)),
    vmm,
    vcpus,
    vcpuSignature: signature ?? 0,
    guestFeatures: flags.guestFeatures ?? 1n,
    boot:
      kernel === undefined
        ? null
        : {
            kernelSha256: hash('sha256', readBytes('--kernel', kernel)),
            initrdSha256: hash('sha256', initrd === undefined ? '' : readBytes('--initrd', initrd)),
            commandLine: cmdline ?? '',
          },
  });
  const launch = toHex(measured);
  return { launch: [launch], registers: { measurement: launch } };
}

async function expectTdx(flags: Values<typeof TDX>, io: CliIo): Promise<Expected> {
  const attest = await import('@bridgekeeper/attest');
  const { kernelAuthenticode, initrd, cmdline, appCompose, memory, pageOrder } = flags;
  const sections = attest.readTdvf(readBytes('firmware', flags.firmware));
  const orders = pageOrder === undefined ? attest.PAGE_ORDERS : [pageOrder];
  const launch = await Promise.all(orders.map((order) => attest.tdxMrtd(sections, order)));

  const registers: Record<string, string> = {};
  const open = (register: string, why: string) =>
    io.err(`bridgekeeper: ${register} is left open: ${why}`);
  const acpi = acpiOf(flags);
  if (memory !== undefined && acpi !== null) {
    registers.rtmr0 = toHex(await attest.tdxRtmr0(sections, memory, acpi));
  } else {
    open('RTMR0', 'it has the ACPI tables that QEMU generates: give --memory and their digests');
  }
  if (kernelAuthenticode !== undefined) {
    registers.rtmr1 = toHex(await attest.tdxRtmr1(fromHex(kernelAuthenticode)));
  } else {
    open('RTMR1', 'QEMU patches the kernel that it hands over: give --kernel-authenticode');
  }
  if (initrd !== undefined && cmdline !== undefined) {
    const line = await attest.commandLineDigest(cmdline);
    const disk = hash('sha384', readBytes('--initrd', initrd));
    registers.rtmr2 = toHex(await attest.tdxRtmr2(line, disk));
  } else {
    open('RTMR2', 'it has the command line and the initial RAM disk: give --cmdline and --initrd');
  }
  open('RTMR3', 'it differs from instance to instance; claims about the app replay its events');
  return {
    launch: launch.map(toHex),
    registers,
    appCompose:
      appCompose === undefined
        ? null
        : toHex(hash('sha256', readBytes('--app-compose', appCompose))),
  };
}

/** null: not given. Throws UsageError for some of them. */
function acpiOf({ acpiLoader, acpiRsdp, acpiTables }: Values<typeof TDX>): AcpiDigests | null {
  if (acpiLoader === undefined && acpiRsdp === undefined && acpiTables === undefined) return null;
  if (acpiLoader === undefined || acpiRsdp === undefined || acpiTables === undefined) {
    const flags = '--acpi-loader, --acpi-rsdp and --acpi-tables';
    throw new UsageError('bad-combination', `${flags}: give all three`);
  }
  return { loader: fromHex(acpiLoader), rsdp: fromHex(acpiRsdp), tables: fromHex(acpiTables) };
}

/** Throws UsageError. */
function readBytes(flagName: string, path: string): Uint8Array<ArrayBuffer> {
  try {
    const info = statSync(path);
    if (!info.isFile()) throw new Error('it is not a file');
    if (info.size > FILE_BYTES_MAX) throw new Error(`it has ${info.size} bytes`);
    return new Uint8Array(readFileSync(path));
  } catch (cause) {
    const { message } = cause as Error;
    throw new UsageError('bad-file', `${flagName}: ${path} cannot be read: ${message}`, { cause });
  }
}

const hash = (name: 'sha256' | 'sha384', bytes: Uint8Array | '') =>
  new Uint8Array(createHash(name).update(bytes).digest());
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const fromHex = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'));
