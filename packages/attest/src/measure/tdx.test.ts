import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { type Bytes, fromBase64, fromHex, toBase64, toHex, utf8 } from '../core/bytes.ts';
import { makeFirmware, type TestTdvfSection } from '../testing/firmware.ts';
import { readTdvf, type TdvfSection, tdxMrtd } from './tdvf.ts';
import {
  commandLineDigest,
  tdHobDigest,
  tdxRtmr0,
  tdxRtmr0Of,
  tdxRtmr1,
  tdxRtmr2,
} from './tdx-registers.ts';

const GIB = 2 ** 30;
const hex = (text: string) => fromHex(text, 'a digest');
const sha384 = (bytes: Uint8Array): string => createHash('sha384').update(bytes).digest('hex');

const TDX: readonly TestTdvfSection[] = [
  {
    at: 0,
    contentBytes: 0x2000,
    address: 0xffff_c000,
    bytes: 0x2000,
    type: 0,
    attributes: 1,
  },
  {
    at: 0x2000,
    contentBytes: 0x1000,
    address: 0xffff_e000,
    bytes: 0x2000,
    type: 1,
    attributes: 0,
  },
  { at: 0, contentBytes: 0, address: 0x80_9000, bytes: 0x2000, type: 2, attributes: 0 },
  { at: 0, contentBytes: 0, address: 0x81_0000, bytes: 0x1000, type: 3, attributes: 2 },
];

/** The ranges of the firmware that dstack's images have. */
const RANGES = [
  [0x81_0000, 0x1_0000, 3],
  [0x80_b000, 0x2000, 3],
  [0x80_9000, 0x2000, 2],
  [0x80_0000, 0x6000, 3],
].map(([address, bytes, type]) => ({ address: address!, bytes: bytes!, type: type! }));

describe('MRTD', () => {
  /** By the module's own words: one record after the other into one running hash. */
  function expectedMrtd(firmware: Bytes, isTwoPass: boolean): string {
    const hash = createHash('sha384');
    const record = (name: string, address: number) => {
      const bytes = Buffer.alloc(128);
      bytes.write(name);
      bytes.writeBigUInt64LE(BigInt(address), 16);
      hash.update(bytes);
    };
    for (const { at, address, bytes, attributes } of TDX) {
      const steps: (() => void)[][] = [[], []];
      for (let page = 0; page < bytes; page += 4096) {
        if ((attributes & 2) === 0) {
          steps[0]!.push(() => record('MEM.PAGE.ADD', address + page));
        }
        const extend = () => {
          for (let chunk = page; chunk < page + 4096; chunk += 256) {
            record('MR.EXTEND', address + chunk);
            hash.update(firmware.subarray(at + chunk, at + chunk + 256));
          }
        };
        if ((attributes & 1) !== 0) steps[isTwoPass ? 1 : 0]!.push(extend);
      }
      for (const step of steps.flat()) step();
    }
    return hash.digest('hex');
  }

  test('is the digest of what is added and measured, in the order of the VMM', async () => {
    const firmware = makeFirmware({ tdx: TDX });
    const sections = readTdvf(firmware);
    const twoPass = toHex(await tdxMrtd(sections, 'two-pass'));
    const singlePass = toHex(await tdxMrtd(sections, 'single-pass'));
    expect(twoPass).toBe(expectedMrtd(firmware, true));
    expect(singlePass).toBe(expectedMrtd(firmware, false));
    expect(twoPass).not.toBe(singlePass);
  });

  test.each([
    [{ address: 0x81_0001 }, 'malformed'],
    [{ bytes: 0x1001 }, 'malformed'],
    [{ contentBytes: 0x2000, at: 0x3000 }, 'malformed'],
    [{ contentBytes: 0x3000 }, 'malformed'],
    [{ bytes: 0x2000_0000 }, 'too-large'],
    [{ attributes: 4 }, 'unsupported-version'],
  ])('is not computed of a firmware that says %j', (change, code) => {
    const tdx = [{ ...TDX[0]!, ...change }];
    expect(() => readTdvf(makeFirmware({ tdx }))).toThrow(expect.objectContaining({ code }));
  });

  test('is not computed of what is no firmware for TDX', () => {
    expect(() => readTdvf(makeFirmware({}))).toThrow('cannot be started with TDX');
    expect(() => readTdvf(new Uint8Array(4096))).toThrow('does not end in the table of OVMF');
  });
});

const digest = (text: string) => fromBase64(text, 'a digest');

describe('registers that a processor signed', () => {
  // The event logs and quotes of two guests of dstack's on real machines: 2 GiB on QEMU 8.2.2 with
  // an image 0.6.0, 64 GiB and a GPU on QEMU 9.2.1 with an image 0.5.
  const VARIABLES = digest('NEvFHJgLpiGqoA2j7XQ299blSRl9/mmVFd+ixlg9leZBKvIcCX1HMVWHX/1WHWeQ');
  const SMALL = {
    memoryBytes: 2 * GIB,
    hob: 'C4dy5bC0G4PmBEpoOX4C9J+0cGa0++SRfqLEXGTzI/2suzeUj4Ieuvi8nJOLqKdJ',
    loader: 'CV0Ezyb+A67241Yfokwaoc6pP0rq9WOx+fdhYYTFNFSHWSV1lDR2nOwkkKy1Y6M3',
    rsdp: 'jZpNR3ehvHfs2djTekYoEpqABSpRAyAVmiCpI70HoOkNjR8uHr8IiZKyXw0PpnLv',
    tables: 'MHByHhabxBiEckyw5rMILhuvJJCD2LOJGBulC5r6lRBXh2w4C4hw6ML6zy7/Z6K2',
    kernel: 'rH5jLc9c0qH+XB9B9Nm4IZVw5k7TxhA4/b8lQE5vVC/9V/J2vFB2MH76+ILm1kF3',
    line: 'eGKAhCtzZCh6OnDZb34wklKFe+tF+x+RMUouqGPbCtwEyEMey/KalmQFYEYxpaq4',
    disk: 'T+T3cQE0ph197zV63WrFC9v+7lAypMEAN14gchb/5Co71YIrJOZ5+RUB//eVuBUh',
    rtmr0: '+EONs2uW+F2HUv9/JKiewFx57J7aK6cyyJf7lwykKTZbdHGxwFTLhPF7HCsjumZA',
    rtmr1: 'ICNUbn87nRIo4nT3DETUgRYlQPhFJURSCnlqUvBoeXCbgagkomeSp4IjJ1BLDSru',
    rtmr2: 'TBtzntRRpjew+CZC5IpeqDkl0jYzxy5zhcjprKQXXhM+0WJbfZLrOe31CcJ/85Lc',
  };
  const LARGE = {
    memoryBytes: 64 * GIB,
    hob: 'iuHkJTUd95ksREWG7/mdNa87d5qisOmBy0tzvFsnnyreGbamKiA/w8O72q6Ar1lt',
    loader: 'IGXdSNZH5Dd9sne6IDUmkBoXhF6T4N9MLfw84TbgkQMk6tHhyGuNkMKs35yF/6xT',
    rsdp: 'dysBacZrUuRFP/+ePGJXY16pUOvMjt1+8uL4JBz2oVXznfAafHoZS2vAq+XeEYYd',
    tables: 'q/siVmRLV4bu/cuSMD0gCMNsuVANmJl+IV71CAdF1L8uWzYpCQkY4ZPn8FsXPUjF',
    kernel: 'B2H7+jF6Qtjtvp5AQXjRAq3AWc+s6YxeB9HVNTccFFw0l/0qGbg5hWi4yKb5XgqG',
    line: 'QCfLTsZNvCS22Y2UcNru/HSbu2qbARdi0hX27T64M9WP1y2a2FCVj3KHgYLm9hkk',
    disk: 'Y+BuKc+Y8vznGr06linf9IRXtHwBC2ThH3orQt2Zv6FO41Zgs/XT/DdiYda6mm1r',
    rtmr0: 'LjhDJl+OzdTiKCaUdH9vLxEWBcM/KoiC9XNO5vOmzmPY80ru8GCT3Np2+l+dM9jW',
    rtmr1: 'obeddgIZcPV8RcSnw5X3gLqzcBGk3yf+ROhVm9GrtNblLxL4ZtHQhAVEjreXpZcP',
    rtmr2: 'HjG1nWBd9+6BYM95Zr6br6bQ4ZBd5+CWlaJM2XSOcaYDpR+uEpdhn6DDBRet280H',
  };

  test.each([
    ['of 2 GiB', SMALL],
    ['of 64 GiB', LARGE],
  ])('of a guest %s follow from its memory, firmware, ACPI and boot', async (_, guest) => {
    const hob = await tdHobDigest(RANGES, guest.memoryBytes);
    expect(toBase64(hob)).toBe(guest.hob);
    const acpi = {
      loader: digest(guest.loader),
      rsdp: digest(guest.rsdp),
      tables: digest(guest.tables),
    };
    expect(toBase64(await tdxRtmr0Of(hob, VARIABLES, acpi))).toBe(guest.rtmr0);
    expect(toBase64(await tdxRtmr1(digest(guest.kernel)))).toBe(guest.rtmr1);
    expect(toBase64(await tdxRtmr2(digest(guest.line), digest(guest.disk)))).toBe(guest.rtmr2);
  });
});

describe('registers', () => {
  const acpi = {
    loader: hex('11'.repeat(48)),
    rsdp: hex('22'.repeat(48)),
    tables: hex('33'.repeat(48)),
  };
  const sections = readTdvf(makeFirmware({ tdx: TDX }));

  test('take the variables from the firmware', async () => {
    const hob = await tdHobDigest(sections, GIB);
    const variables = sections.find(({ type }) => type === 1)!;
    const expected = await tdxRtmr0Of(hob, hex(sha384(variables.content)), acpi);
    expect(toHex(await tdxRtmr0(sections, GIB, acpi))).toBe(toHex(expected));
  });

  test('are refused where the firmware or the memory does not have what they need', async () => {
    const without = (type: number) => sections.filter((one: TdvfSection) => one.type !== type);
    await expect(tdxRtmr0(without(1), GIB, acpi)).rejects.toThrow('no section for variables');
    await expect(tdxRtmr0(without(2), GIB, acpi)).rejects.toThrow('no section for a TD HOB');
    await expect(tdHobDigest(RANGES, 0x1000)).rejects.toThrow('do not hold the firmware');
    const twice = [...RANGES, RANGES[0]!];
    await expect(tdHobDigest(twice, GIB)).rejects.toThrow('overlap');
    await expect(tdxRtmr1(utf8('short'))).rejects.toThrow('48 bytes');
  });

  test('hold a command line as UTF-16 with its zero', async () => {
    const expected = sha384(Buffer.from('root=/dev/vda\0', 'utf16le'));
    expect(toHex(await commandLineDigest('root=/dev/vda'))).toBe(expected);
  });
});
