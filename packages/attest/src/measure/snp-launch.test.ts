import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { fromHex, toHex, utf8 } from '../core/bytes.ts';
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
  return toHex(await snpLaunchDigest(launch));
}

describe('the launch digest of a firmware of ours', () => {
  // Computed from the same bytes by sev-snp-measure 0.0.13.
  test.each<[Partial<SnpLaunch>, string]>([
    [
      { boot: BOOT },
      'bc51855111fb1c0db9a670a6fe9b016613d0afc950d82cf72d13f7655c770dcc0a132dacdf2d5b1aaf8723b1daf45a06',
    ],
    [
      {},
      'f48062561819c0ebb24efb04590918373538ecb60159cca9634bd145e557c19d8f5e78c74327052b11ce9dcd4198ea7c',
    ],
    [
      { vcpus: 4, guestFeatures: 0x21n, boot: BOOT },
      '236a7bcaab1b0e0b8beaab1f7604714a13959c3e0e5bc0d328bef015ea908df05d7227b21aa417cba87eb2aaf91058c6',
    ],
    [
      { vcpus: 4, guestFeatures: 0x21n },
      '280e38a98efb87e9aabd39682b5f3df7af21678a76b9c1e12aea0282b8c55a97e1695098a66802d71bc9ddcf845e1045',
    ],
    [
      { vmm: 'ec2', vcpus: 2, boot: BOOT },
      '70920fdbc3d4448a4185ac5e6d84c6eb82678ed9d882d70944c5509b8b9ac3f71386cf8bb3218088b955daa5e0d45067',
    ],
    [
      { vmm: 'ec2', vcpus: 2 },
      'cf43dee0e81dfcdcdde4b182265a2f8696e2f854397cdb13a2345349df0b2efc738a263372a7fe00bfb64b6c9a4f467e',
    ],
    [
      { vmm: 'gce', vcpus: 3, boot: BOOT },
      '9b352ec0d7b3b829bf3fd91112f40408a6dd392c1fe0872594e21aff8608fd51967d8924c5b195fb7431e28174c2d62d',
    ],
    [
      { vmm: 'gce', vcpus: 3 },
      '9def7911eafbfec881ed0e901f5473cb9920a6ce409aa44760ddf59674371faf814664e3566a4452d757d6e587872333',
    ],
  ])('is that of another implementation: %o', async (launch, expected) => {
    expect(await digestOf(DIRECT, launch)).toBe(expected);
  });

  test('needs no place for a kernel where none is measured', async () => {
    const turin = { vcpus: 2, vcpuSignature: SNP_VCPU_SIGNATURES['EPYC-Turin']! };
    expect(await digestOf(PLAIN, turin)).toBe(
      'cfc79881a05820075124d807fcb3b0eda7eece80a090b0105303972e3936a5e98b26683238a0e90f72b4407378ca9ce6',
    );
    await expect(digestOf(PLAIN, { boot: BOOT })).rejects.toThrow('no place for the hashes');
  });

  test('changes with the firmware, the model and the number of vCPUs, and all that is booted', async () => {
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

test('the digest that a processor signed follows from what its guest was started with', async () => {
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
      digest: fromHex(
        'ffb57e393469a497c0e3b07bd1c97d8611e555f464d14491837665893ac642b263a71f9507ff100a847897fe0c3f8c6f',
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
  expect(toHex(measured)).toBe(
    '7f51e17f72a04d5422cb2c00998166536019a217376f3aa45a630e59c805a599847ff250dbffcd07e1ba639771d6f05d',
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
    await expect(digestOf(alone)).resolves.toMatch(/^[0-9a-f]{96}$/);
    await expect(digestOf(alone, { vcpus: 2 })).rejects.toThrow('vCPUs but the first');
    await expect(digestOf(alone, { vcpus: 0 })).rejects.toThrow('1 to 4096');
  });
});
