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
