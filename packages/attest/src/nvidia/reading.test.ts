import { beforeAll, describe, expect, test } from 'vitest';
import { type Bytes, concatBytes, toBase64, toHex, utf8 } from '../core/bytes.ts';
import type { AttestErrorCode } from '../core/errors.ts';
import { toPem } from '../testing/certificates.ts';
import {
  makeDevice,
  makeDeviceAuthority,
  type TestDevice,
  u16le,
} from '../testing/device-authority.ts';
import { goodFields, makeReport, type OpaqueField, withFields } from '../testing/device-reports.ts';
import { readDeviceReport } from './device-report.ts';
import { readSingleReport } from './evidence.ts';
import { OPAQUE, readOpaqueData } from './opaque.ts';

const nonce = new Uint8Array(32).fill(1);
let gpu: TestDevice;
let report: Bytes;

beforeAll(async () => {
  gpu = await makeDevice(await makeDeviceAuthority(), { arch: 'hopper', pdi: '00000000000000a1' });
  report = await makeReport(gpu, { nonce });
});

/** The report with some bytes exchanged. */
function withBytes(at: number, ...bytes: number[]): Bytes {
  const changed = report.slice();
  changed.set(bytes, at);
  return changed;
}

function expectCode(bytes: Bytes, code: AttestErrorCode): void {
  expect(() => readDeviceReport(bytes, 'hopper')).toThrowError(expect.objectContaining({ code }));
}

describe('reports are read strictly', () => {
  test('to the last byte', () => {
    expectCode(concatBytes(report, Uint8Array.of(0)), 'trailing-bytes');
    expectCode(report.subarray(0, -1), 'malformed');
    expectCode(new Uint8Array(0), 'malformed');
    expectCode(new Uint8Array(9000), 'too-large');
  });

  test('request and response', () => {
    expectCode(withBytes(0, 0x12), 'unsupported-version');
    expectCode(withBytes(1, 0xe1), 'malformed');
    expectCode(withBytes(2, 0x00), 'malformed');
    expectCode(withBytes(3, 0x01), 'malformed');
    expectCode(withBytes(36, 1), 'malformed');
    expectCode(withBytes(37, 0x10), 'unsupported-version');
    expectCode(withBytes(38, 0x7f), 'malformed');
    expectCode(withBytes(39, 1), 'malformed');
  });

  test('counts and lengths of measurements', () => {
    expectCode(withBytes(41, 63), 'trailing-bytes');
    expectCode(withBytes(41, 65), 'malformed');
    expectCode(withBytes(42, 0xff, 0xff, 0xff), 'malformed');
    expectCode(withBytes(45, 0), 'malformed');
    expectCode(withBytes(45, 2), 'malformed');
    expectCode(withBytes(46, 0), 'malformed');
    expectCode(withBytes(47, 52), 'malformed');
    expectCode(withBytes(49, 0x82), 'unsupported-version');
  });

  test('types of measurements, which an FSP has more of', async () => {
    const options = { arch: 'blackwell', reporter: 'fsp', pdi: '00000000000000b1' } as const;
    const fsp = await makeDevice(await makeDeviceAuthority(), options);
    const bytes = await makeReport(fsp, { nonce });
    const { measurements, ownPdi } = readDeviceReport(bytes, 'blackwell', 'fsp');
    expect([measurements.size, ownPdi]).toEqual([25, '00000000000000b1']);
    const code = (wanted: string) => expect.objectContaining({ code: wanted });
    expect(() => readDeviceReport(bytes, 'blackwell')).toThrow(code('unsupported-version'));
    expect(() => readDeviceReport(report, 'hopper', 'fsp')).toThrow(code('malformed'));
    const typed = bytes.slice();
    typed[49] = 4;
    expect(() => readDeviceReport(typed, 'blackwell', 'fsp')).toThrow(code('unsupported-version'));
  });

  test('measurements by the index of the reference', () => {
    const { measurements } = readDeviceReport(report, 'hopper');
    expect([...measurements.keys()]).toEqual(Array.from({ length: 64 }, (_, i) => i));
    expect(measurements.get(35)).toEqual(new Uint8Array(48).fill(36));
  });
});

describe('opaque data is read strictly', () => {
  const reading = async (fields: OpaqueField[], isVersioned = false) =>
    readDeviceReport(await makeReport(gpu, { nonce, fields, isVersioned }), 'hopper');
  const codeOf = async (changes: OpaqueField[], isVersioned = false) => {
    const fields = withFields(goodFields(gpu), ...changes);
    return reading(fields, isVersioned).then(
      () => null,
      (error) => error.code,
    );
  };

  test('a type is there once', async () => {
    const twice = [...goodFields(gpu), ...goodFields(gpu).slice(0, 1)];
    await expect(reading(twice)).rejects.toMatchObject({ code: 'malformed' });
    await expect(reading(twice, true)).rejects.toMatchObject({ code: 'malformed' });
  });

  test('types that are not known are kept out of the way', async () => {
    expect(await codeOf([[999, Uint8Array.of(1)]])).toBeNull();
    expect(await codeOf([[999, Uint8Array.of(1)]], true)).toBeNull();
  });

  test('fields have their size and one of their values', async () => {
    expect(await codeOf([[OPAQUE.fwid, new Uint8Array(47)]])).toBe('malformed');
    expect(await codeOf([[OPAQUE.nvdec0, Uint8Array.of(1)]])).toBe('malformed');
    expect(await codeOf([[OPAQUE.nvdec0, Uint8Array.of(0xaa, 0)]])).toBe('malformed');
    expect(await codeOf([[OPAQUE.featureFlag, u16le(3)]])).toBe('malformed');
    expect(await codeOf([[OPAQUE.gpuSwitchPdis, new Uint8Array(143)]])).toBe('malformed');
    expect(await codeOf([[OPAQUE.driverVersion, utf8('../../etc')]])).toBe('malformed');
    expect(await codeOf([[OPAQUE.driverVersion, utf8('5\x1b[2J')]])).toBe('malformed');
    expect(await codeOf([[OPAQUE.driverVersion, utf8('590\0.12')]])).toBe('malformed');
  });

  test('versions', async () => {
    expect(await codeOf([[OPAQUE.legacyVersion, u16le(2)]])).toBe('unsupported-version');
    const header = (...bytes: number[]) => concatBytes(utf8('NVDAOD'), Uint8Array.from(bytes));
    const code = (bytes: Bytes) =>
      expect.objectContaining({ code: bytes.length === 12 ? 'unsupported-version' : 'malformed' });
    expect(() => readOpaqueData(header(0, 0, 2, 0, 0, 0))).not.toThrow();
    for (const bytes of [header(1, 0, 2, 0, 0, 0), header(0, 0, 3, 0, 0, 0), header(0, 0, 2)]) {
      expect(() => readOpaqueData(bytes)).toThrowError(code(bytes));
    }
  });

  test('VBIOS, driver and ids of references', async () => {
    const { vbiosVersion, driverVersion, rimIds } = await reading(goodFields(gpu));
    expect([vbiosVersion, driverVersion]).toEqual(['96.00.A5.00.01', '590.12']);
    expect(rimIds).toEqual({
      driver: ['NV_GPU_DRIVER_GH100_590.12'],
      vbios: 'NV_GPU_VBIOS_G520_0200_885_9600A50001',
    });
  });

  test('references whose ids cannot be told are none', async () => {
    const without = async (type: number) =>
      (await reading(goodFields(gpu).filter(([one]) => one !== type))).rimIds;
    for (const type of [OPAQUE.project, OPAQUE.projectSku, OPAQUE.chipSku, OPAQUE.vbiosVersion]) {
      const rimIds = { driver: ['NV_GPU_DRIVER_GH100_590.12'], vbios: null };
      expect(await without(type)).toEqual(rimIds);
    }
    expect((await without(OPAQUE.driverVersion)).driver).toEqual([]);
    const fields = goodFields({ ...gpu, arch: 'ls10' });
    const read = async (some: OpaqueField[], arch: 'ls10' | 'blackwell') =>
      readDeviceReport(await makeReport(gpu, { nonce, fields: some }), arch);
    const bios = await read(
      withFields(fields, [OPAQUE.vbiosVersion, utf8('96.10.7a.00.01')]),
      'ls10',
    );
    expect(bios).toMatchObject({
      kind: 'switch',
      vbiosVersion: '96.10.7A.00.01',
      rimIds: { driver: [], vbios: 'NV_SWITCH_BIOS_5612_0002_890_96107A0001' },
    });
    const blank = await read(fields.slice(1), 'ls10');
    expect(blank).toMatchObject({ vbiosVersion: null, rimIds: { driver: [], vbios: null } });
    const { rimIds } = await read(goodFields(gpu), 'blackwell');
    expect(rimIds.driver).toEqual(['NV_GPU_CC_DRIVER_GB100_590.12']);
  });

  test('modes, as they are numbered', async () => {
    for (const [flag, mode] of ['single', 'multi', 'protected-pcie'].entries()) {
      const fields = withFields(goodFields(gpu), [OPAQUE.featureFlag, u16le(flag)]);
      expect((await reading(fields)).multiGpuMode).toBe(mode);
    }
    const bare = await reading(goodFields(gpu).slice(0, 1));
    expect(bare).toMatchObject({
      multiGpuMode: null,
      isProtectedPcie: null,
      isNvdec0On: null,
      isNvlinkEncrypted: null,
      switchOfLink: null,
      fwid: null,
      place: null,
    });
  });

  test('measurements are digests of 48 bytes', async () => {
    const measurements = new Map([[1, new Uint8Array(32)]]);
    const bytes = await makeReport(gpu, { nonce, measurements });
    expect(() => readDeviceReport(bytes, 'hopper')).toThrowError(
      expect.objectContaining({ code: 'unsupported-version' }),
    );
  });

  test('the place of a switch, as a whole or not at all', async () => {
    const pdis = [1, 2, 0, 4, 5, 6, 7, 8].map((n) =>
      concatBytes(new Uint8Array(7), Uint8Array.of(n)),
    );
    const ports = new Uint8Array(64).fill(0xff);
    ports.set([0, 1, 7], 3);
    const fields = withFields(
      goodFields({ ...gpu, arch: 'ls10', pdi: 'a123456789abcdef' }),
      [OPAQUE.switchGpuPorts, concatBytes(...pdis, ports)],
      [OPAQUE.switchPosition, u16le(3)],
    );
    const placeOf = async (some: OpaqueField[]) =>
      readDeviceReport(await makeReport(gpu, { nonce, fields: some }), 'ls10').place;
    expect(await placeOf(fields)).toEqual({
      pdi: 'a123456789abcdef',
      position: 3,
      isLocked: true,
      gpuPdis: [1, 2, 0, 4, 5, 6, 7, 8].map((n) => (n === 0 ? '' : n.toString().padStart(16, '0'))),
      gpuOfPort: Array.from({ length: 64 }, (_, port) => {
        return port < 3 || port > 5 ? null : [0, 1, 7][port - 3];
      }),
    });
    for (const lock of [0, 2]) {
      const place = await placeOf(withFields(fields, [OPAQUE.switchLock, u16le(lock)]));
      expect(place?.isLocked).toBe(false);
    }
    const needed = [
      OPAQUE.switchPdi,
      OPAQUE.switchPosition,
      OPAQUE.switchLock,
      OPAQUE.switchGpuPorts,
    ] as number[];
    for (const type of needed) {
      expect(await placeOf(fields.filter(([one]) => one !== type))).toBeNull();
    }
  });

  test('ports of switches lead to one of eight GPUs', async () => {
    const ports = new Uint8Array(128).fill(0xff);
    ports[100] = 8;
    const fields = withFields(goodFields({ ...gpu, arch: 'ls10' }), [OPAQUE.switchGpuPorts, ports]);
    const bytes = await makeReport(gpu, { nonce, fields });
    expect(() => readDeviceReport(bytes, 'ls10')).toThrowError(
      expect.objectContaining({ code: 'malformed' }),
    );
  });
});

test('single reports come as bytes, hexadecimal or base64', async () => {
  const pem = toPem(gpu.chain);
  for (const form of [report, `${toHex(report)}\n`, toBase64(report)]) {
    const evidence = await readSingleReport(form, pem, 'the report');
    expect(evidence.report.spdm.signature).toEqual(report.subarray(-96));
  }
  const reading = readSingleReport('no report!', pem, 'the report');
  await expect(reading).rejects.toMatchObject({ code: 'malformed' });
});
