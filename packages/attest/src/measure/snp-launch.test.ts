import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { fromBase64, fromHex, toBase64, utf8 } from '../core/bytes.ts';
import { makeFirmware, type TestFirmware } from '../testing/firmware.ts';
import {
  type MeasuredBoot,
  readSnpFirmware,
  type SnpLaunch,
  snpLaunchDigest,
} from './snp-launch.ts';
import { SNP_VCPU_SIGNATURES } from './snp-vcpu.ts';

const SEV = [
  { address: 0x80_0000, bytes: 0x3000, type: 1 },
  { address: 0x80_d000, bytes: 0x1000, type: 2 },
  { address: 0x80_e000, bytes: 0x1000, type: 3 },
  { address: 0x80_f000, bytes: 0x1000, type: 4 },
  { address: 0x81_0000, bytes: 0x1000, type: 0x10 },
];
const DIRECT: TestFirmware = { sev: SEV, hashTableAddress: 0x81_0c00, resetAddress: 0x80_b004 };
const PLAIN: TestFirmware = {
  sev: [{ address: 0x80_0000, bytes: 0x1000, type: 1 }],
  resetAddress: 0x80_b004,
};

const sha256 = (text: string) => new Uint8Array(createHash('sha256').update(text).digest());
const BOOT: MeasuredBoot = {
  kernelSha256: sha256('a kernel'),
  initrdSha256: sha256('a disk'),
  commandLine: 'console=ttyS0',
};

async function digestOf(firmware: TestFirmware, more: Partial<SnpLaunch> = {}): Promise<string> {
  const launch = {
    firmware: await readSnpFirmware(makeFirmware(firmware)),
    vmm: 'qemu' as const,
    vcpus: 1,
    vcpuSignature: SNP_VCPU_SIGNATURES['EPYC-Milan']!,
    guestFeatures: 1n,
    boot: null,
    ...more,
  };
  return toBase64(await snpLaunchDigest(launch));
}

// Digests are in base64: they fit into a line.

describe('the launch digest of a firmware of ours', () => {
  // Computed from the same bytes by sev-snp-measure 0.0.13.
  test.each<[Partial<SnpLaunch>, string]>([
    [{ boot: BOOT }, 'vFGFURH7HA25pnCm/psBZhPQr8lQ2Cz3LRP3ZVx3DcwKEy2s3y1bGq+HI7Ha9FoG'],
    [{}, '9IBiVhgZwOuyTvsEWQkYNzU47LYBWcypY0vRReVXwZ2PXnjHQycFKxHOnc1BmOp8'],
    [
      { vcpus: 4, guestFeatures: 0x21n, boot: BOOT },
      'I2p7yqsbDguL6qsfdgRxShOVnD4OW8DTKL7wFeqQjfBdcieyGqQXy6h+sqr5EFjG',
    ],
    [
      { vcpus: 4, guestFeatures: 0x21n },
      'KA44qY77h+mqvTloK189968hZ4p2ucHhKuoCgrjFWpfhaVCYpmgC1xvJ3c+EXhBF',
    ],
    [
      { vmm: 'ec2', vcpus: 2, boot: BOOT },
      'cJIP28PURIpBhaxebYTG64JnjtnYgtcJRMVQm4uaw/cThs+LsyGAiLlV2qXg1FBn',
    ],
    [{ vmm: 'ec2', vcpus: 2 }, 'z0Pe4Ogd/Nzd5LGCJlovhpbi+FQ5fNsTojRTSd8LLvxziiYzcqf+AL+2S2yaT0Z+'],
    [
      { vmm: 'gce', vcpus: 3, boot: BOOT },
      'mzUuwNezuCm/P9kREvQECKbdOSwf4IcllOIa/4YI/VGWfYkkxbGV+3Qx4oF0wtYt',
    ],
    [{ vmm: 'gce', vcpus: 3 }, 'ne95Eer7/siB7Q6QH1Rzy5kgps5AmqRHYN31lnQ3H6+BRmTjVmpEUtdX1uWHhyMz'],
  ])('is that of another implementation: %o', async (launch, expected) => {
    expect(await digestOf(DIRECT, launch)).toBe(expected);
  });

  test('needs no place for a kernel where none is measured', async () => {
    const turin = { vcpus: 2, vcpuSignature: SNP_VCPU_SIGNATURES['EPYC-Turin']! };
    expect(await digestOf(PLAIN, turin)).toBe(
      'z8eYgaBYIAdRJNgH/LOw7afuzoCgkLAQUwOXLjk2pemLJmgyOKDpD3K0QHN4ypzm',
    );
    await expect(digestOf(PLAIN, { boot: BOOT })).rejects.toThrow('no place for the hashes');
  });

  test('changes with firmware, vCPUs and all that is booted', async () => {
    const base = await digestOf(DIRECT, { boot: BOOT });
    const others = await Promise.all([
      digestOf({ ...DIRECT, bytes: 5 * 4096 }, { boot: BOOT }),
      digestOf(DIRECT, { boot: BOOT, vcpus: 2 }),
      digestOf(DIRECT, { boot: BOOT, vcpuSignature: SNP_VCPU_SIGNATURES['EPYC-Genoa']! }),
      digestOf(DIRECT, { boot: { ...BOOT, kernelSha256: sha256('x') } }),
      digestOf(DIRECT, { boot: { ...BOOT, initrdSha256: sha256('x') } }),
      digestOf(DIRECT, { boot: { ...BOOT, commandLine: 'console=ttyS1' } }),
    ]);
    expect(new Set([base, ...others]).size).toBe(7);
  });
});

test('what a processor signed follows from what its guest was started with', async () => {
  // A guest of dstack's on a real machine: measurement.snp.cbor of its image, its vm_config, and
  // MEASUREMENT of its attestation report.
  const commandLine = [
    'console=ttyS0 init=/init panic=1 net.ifnames=0 biosdevname=0 mce=off oops=panic',
    'pci=noearly pci=nommconf random.trust_cpu=y random.trust_bootloader=n',
    'tsc=reliable no-kvmclock',
    'dstack.rootfs_hash=ca5adaef0ac3a36108035925763b48a5818f634e700fbaab561d419fd30d7121',
    'dstack.rootfs_size=490713088',
  ].join(' ');
  const sections = [
    [0x80_0000, 0x9000, 1],
    [0x80_a000, 0x3000, 1],
    [0x80_d000, 0x1000, 2],
    [0x80_e000, 0x1000, 3],
    [0x80_f000, 0x1000, 4],
    [0x81_1000, 0xf000, 1],
    [0x81_0000, 0x1000, 0x10],
  ].map(([address, bytes, type]) => ({ address: address!, bytes: bytes!, type: type! }));
  const measured = await snpLaunchDigest({
    firmware: {
      digest: fromBase64(
        '/7V+OTRppJfA47B70cl9hhHlVfRk0USRg3ZliTrGQrJjpx+VB/8QCoR4l/4MP4xv',
        'the digest',
      ),
      sections,
      hashTableAddress: 0x81_0c00,
      resetAddress: 0x80_b004,
    },
    vmm: 'qemu',
    vcpus: 2,
    vcpuSignature: SNP_VCPU_SIGNATURES['EPYC-v4']!,
    guestFeatures: 1n,
    boot: {
      kernelSha256: fromHex(
        'dd9ea274ce9a07090b22e8284b0c841b65c021c2d15ca57d0f16731089dd226c',
        'the kernel',
      ),
      initrdSha256: fromHex(
        '5f844c4a2ca5a3d0711b3db38293b21ba929bb8e0b3c5bc1a779a57f69221c19',
        'the disk',
      ),
      commandLine,
    },
  });
  expect(toBase64(measured)).toBe(
    'f1Hhf3KgTVQiyywAmYFmU2AZohc3bzqkWmMOWcgFpZmEf/JQ2//NB+G6Y5dx1vBd',
  );
});

describe('a firmware', () => {
  const read = (bytes: Uint8Array<ArrayBuffer>) => readSnpFirmware(bytes);

  test('that is none, or not for SEV-SNP, is refused by name', async () => {
    await expect(read(new Uint8Array(100))).rejects.toThrow('no whole pages');
    await expect(read(new Uint8Array(8192))).rejects.toThrow('does not end in the table of OVMF');
    await expect(read(makeFirmware({}))).rejects.toThrow('cannot be started with SEV-SNP');
  });

  test.each([
    [[{ address: 0x80_0000, bytes: 0x1000, type: 9 }], 'unsupported-version'],
    [[{ address: 0x80_0001, bytes: 0x1000, type: 1 }], 'malformed'],
    [[{ address: 0x80_0000, bytes: 0, type: 1 }], 'malformed'],
    [[{ address: 0, bytes: 0x2000_0000, type: 1 }], 'too-large'],
  ])('with sections that nobody knows how to add is refused: %j', async (sev, code) => {
    await expect(read(makeFirmware({ sev }))).rejects.toMatchObject({ code });
  });

  test('whose descriptor is another, or of another version, is refused', async () => {
    for (const [word, code] of [
      ['ASEV', 'malformed'],
      [String.fromCharCode(1, 0, 0, 0, 5), 'unsupported-version'],
    ] as const) {
      const bytes = makeFirmware(DIRECT);
      const at = Buffer.from(bytes).lastIndexOf(utf8(word));
      bytes[at] = 0x7f;
      await expect(read(bytes)).rejects.toMatchObject({ code });
    }
  });

  test('is asked for the address of other vCPUs only if there are any', async () => {
    const alone = { sev: SEV };
    await expect(digestOf(alone)).resolves.toHaveLength(64);
    await expect(digestOf(alone, { vcpus: 2 })).rejects.toThrow('vCPUs but the first');
    await expect(digestOf(alone, { vcpus: 0 })).rejects.toThrow('1 to 4096');
  });
});
