import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { type Bytes, fromHex, toHex, utf8 } from '../core/bytes.ts';
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

describe('registers that a processor signed', () => {
  // The event logs and quotes of two guests of dstack's on real machines: 2 GiB on QEMU 8.2.2 with
  // an image 0.6.0, 64 GiB and a GPU on QEMU 9.2.1 with an image 0.5.
  const VARIABLES = hex(
    '344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790',
  );
  const SMALL = {
    memoryBytes: 2 * GIB,
    hob: '0b8772e5b0b41b83e6044a68397e02f49fb47066b4fbe4917ea2c45c64f323fdacbb37948f821ebaf8bc9c938ba8a749',
    loader:
      '095d04cf26fe03aef6e3561fa24c1aa1cea93f4aeaf563b1f9f7616184c53454875925759434769cec2490acb563a337',
    rsdp: '8d9a4d4777a1bc77ecd9d8d37a4628129a80052a510320159a20a923bd07a0e90d8d1f2e1ebf088992b25f0d0fa672ef',
    tables:
      '3070721e169bc41884724cb0e6b3082e1baf249083d8b389181ba50b9afa951057876c380b8870e8c2facf2eff67a2b6',
    kernel:
      'ac7e632dcf5cd2a1fe5c1f41f4d9b8219570e64ed3c61038fdbf25404e6f542ffd57f276bc5076307efaf882e6d64177',
    line: '786280842b7364287a3a70d96f7e309252857beb45fb1f91314a2ea863db0adc04c8431ecbf29a966405604631a5aab8',
    disk: '4fe4f7710134a61d7def357add6ac50bdbfeee5032a4c100375e207216ffe42a3bd5822b24e679f91501fff795b81521',
    rtmr0:
      'f8438db36b96f85d8752ff7f24a89ec05c79ec9eda2ba732c897fb970ca429365b7471b1c054cb84f17b1c2b23ba6640',
    rtmr1:
      '2023546e7f3b9d1228e274f70c44d481162540f8452544520a796a52f06879709b81a824a26792a7822327504b0d2aee',
    rtmr2:
      '4c1b739ed451a637b0f82642e48a5ea83925d23633c72e7385c8e9aca4175e133ed1625b7d92eb39edf509c27ff392dc',
  };
  const LARGE = {
    memoryBytes: 64 * GIB,
    hob: '8ae1e425351df7992c444586eff99d35af3b779aa2b0e981cb4b73bc5b279f2ade19b6a62a203fc3c3bbdaae80af596d',
    loader:
      '2065dd48d647e4377db277ba203526901a17845e93e0df4c2dfc3ce136e0910324ead1e1c86b8d90c2acdf9c85ffac53',
    rsdp: '772b0169c66b52e4453fff9e3c6257635ea950ebcc8edd7ef2e2f8241cf6a155f39df01a7c7a194b6bc0abe5de11861d',
    tables:
      'abfb2256644b5786eefdcb92303d2008c36cb9500d98997e215ef5080745d4bf2e5b3629090918e193e7f05b173d48c5',
    kernel:
      '0761fbfa317a42d8edbe9e404178d102adc059cface98c5e07d1d535371c145c3497fd2a19b8398568b8c8a6f95e0a86',
    line: '4027cb4ec64dbc24b6d98d9470daeefc749bbb6a9b011762d215f6ed3eb833d58fd72d9ad850958f72878182e6f61924',
    disk: '63e06e29cf98f2fce71abd3a9629dff48457b47c010b64e11f7a2b42dd99bfa14ee35660b3f5d3fc376261d6ba9a6d6b',
    rtmr0:
      '2e3843265f8ecdd4e2282694747f6f2f111605c33f2a8882f5734ee6f3a6ce63d8f34aeef06093dcda76fa5f9d33d8d6',
    rtmr1:
      'a1b79d76021970f57c45c4a7c395f780bab37011a4df27fe44e8559bd1abb4d6e52f12f866d1d08405448eb797a5970f',
    rtmr2:
      '1e31b59d605df7ee8160cf7966be9bafa6d0e1905de7e09695a24cd9748e71a603a51fae1297619fa0c30517addbcd07',
  };

  test.each([
    ['of 2 GiB', SMALL],
    ['of 64 GiB', LARGE],
  ])('of a guest %s follow from its memory, firmware, ACPI and boot', async (_, guest) => {
    const hob = await tdHobDigest(RANGES, guest.memoryBytes);
    expect(toHex(hob)).toBe(guest.hob);
    const acpi = {
      loader: hex(guest.loader),
      rsdp: hex(guest.rsdp),
      tables: hex(guest.tables),
    };
    expect(toHex(await tdxRtmr0Of(hob, VARIABLES, acpi))).toBe(guest.rtmr0);
    expect(toHex(await tdxRtmr1(hex(guest.kernel)))).toBe(guest.rtmr1);
    expect(toHex(await tdxRtmr2(hex(guest.line), hex(guest.disk)))).toBe(guest.rtmr2);
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
