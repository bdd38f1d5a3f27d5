import { beforeAll, describe, expect, test } from 'vitest';
import type { Bytes } from '../core/bytes.ts';
import { readEvidenceList } from '../nvidia/evidence.ts';
import { OPAQUE } from '../nvidia/opaque.ts';
import { brief, inFull, makeContext, wordless } from '../testing/appraisal.ts';
import {
  type DeviceAuthority,
  makeDevice,
  makeDeviceAuthority,
  type TestDevice,
} from '../testing/device-authority.ts';
import {
  goodFields,
  makeEvidenceItem,
  makeReport,
  type OpaqueField,
  withFields,
} from '../testing/device-reports.ts';
import { appraiseDevices } from './device-set.ts';

const nonce = new Uint8Array(32).fill(7);
let authority: DeviceAuthority;
let gpu: TestDevice;
let blackwell: TestDevice;
let nvswitch: TestDevice;

beforeAll(async () => {
  authority = await makeDeviceAuthority();
  gpu = await makeDevice(authority, { arch: 'hopper', pdi: '0123456789abcdef' });
  blackwell = await makeDevice(authority, { arch: 'blackwell', pdi: '00000000000000b2' });
  nvswitch = await makeDevice(authority, { arch: 'ls10', pdi: 'a123456789abcdef' });
});

/** The fields of a switch that says where it is. */
function placed(device: TestDevice): OpaqueField[] {
  const ports = new Uint8Array(8 * 8 + 64).fill(0xff);
  return [...goodFields(device), [OPAQUE.switchGpuPorts, ports]];
}

describe('sets of devices', () => {
  const set = async (items: [TestDevice, Bytes][]) => {
    const entries = items.map(([device, report]) => makeEvidenceItem(device, report));
    const evidence = await readEvidenceList(JSON.stringify(entries));
    const { anchors, ...rest } = makeContext();
    const trusted = { ...anchors, nvidiaDevice: authority.rootSha256 };
    return appraiseDevices(evidence, { ...rest, anchors: trusted });
  };

  test('two GPUs are two', async () => {
    const two = await set([
      [gpu, await makeReport(gpu, { nonce })],
      [blackwell, await makeReport(blackwell, { nonce })],
    ]);
    const machine = two.claims.filter(({ subject }) => subject === 'MACHINE');
    expect(machine.map(brief)).toEqual([
      'MACHINE devices.distinct verified',
      'MACHINE devices.nonce verified',
    ]);
  });

  test('one GPU that is shown twice, and reports of two times', async () => {
    const other = new Uint8Array(32).fill(8);
    const twice = await set([
      [gpu, await makeReport(gpu, { nonce })],
      [gpu, await makeReport(gpu, { nonce: other })],
    ]);
    const machine = twice.claims.filter(({ subject }) => subject === 'MACHINE');
    expect(machine.map(brief)).toEqual([
      'MACHINE devices.distinct refused identity-mismatch',
      'MACHINE devices.nonce refused nonce-mismatch',
    ]);
  });

  test('are numbered by kind, in the order they come in', async () => {
    const { devices, claims } = await set([
      [gpu, await makeReport(gpu, { nonce })],
      [nvswitch, await makeReport(nvswitch, { nonce, fields: placed(nvswitch) })],
      [blackwell, await makeReport(blackwell, { nonce })],
    ]);
    expect(devices.map(({ subject }) => subject)).toEqual(['GPU-0', 'SWITCH-0', 'GPU-1']);
    const reports = 'GPU-0 report, SWITCH-0 report, GPU-1 report';
    expect(claims.filter(({ subject }) => subject === 'MACHINE').map(inFull)).toEqual([
      `MACHINE devices.distinct verified by device-signed: 3 [${reports}]`,
      `MACHINE devices.nonce verified by device-signed [${reports}]`,
    ]);
    expect(wordless(claims)).toEqual([]);
  });

  test('of which one is not proven to be what it says prove nothing of the whole', async () => {
    const machine = async (other: TestDevice, fields = goodFields(other)) => {
      const { claims } = await set([
        [gpu, await makeReport(gpu, { nonce })],
        [other, await makeReport(other, { nonce, fields })],
      ]);
      const own = claims.filter(({ subject }) => subject === 'MACHINE');
      return own.map((claim) => `${brief(claim)}: ${claim.why}`);
    };
    const doubt = (subject: string) => [
      expect.stringContaining(
        `devices.distinct unverified: ${subject} is not proven to be what it says`,
      ),
      expect.stringContaining(
        `devices.nonce unverified: ${subject} is not proven to be what it says`,
      ),
    ];
    const stranger = await makeDevice(await makeDeviceAuthority(), {
      arch: 'hopper',
      pdi: 'fedcba9876543210',
    });
    expect(await machine(stranger)).toEqual(doubt('GPU-1'));
    // Its report is authentic, and names another device than its certificate does.
    const other = withFields(placed(nvswitch), [OPAQUE.switchPdi, new Uint8Array(8)]);
    expect(await machine(nvswitch, other)).toEqual(doubt('SWITCH-0'));
  });

  test('are refused for what they contradict, whoever vouches for the rest', async () => {
    const other = new Uint8Array(32).fill(8);
    const stranger = await makeDevice(await makeDeviceAuthority(), {
      arch: 'hopper',
      pdi: 'fedcba9876543210',
    });
    const { claims } = await set([
      [gpu, await makeReport(gpu, { nonce })],
      [gpu, await makeReport(gpu, { nonce })],
      [stranger, await makeReport(stranger, { nonce: other })],
    ]);
    const machine = claims.filter(({ subject }) => subject === 'MACHINE');
    expect(machine.map(brief)).toEqual([
      'MACHINE devices.distinct refused identity-mismatch',
      'MACHINE devices.nonce refused nonce-mismatch',
    ]);
    expect(machine[0]!.statement).toBe('GPU-0 and GPU-1 are one device');
  });

  test('that nobody vouches for are not taken for one device', async () => {
    const stranger = await makeDeviceAuthority();
    const [one, two] = await Promise.all(
      ['00000000000000c1', '00000000000000c2'].map((pdi) =>
        makeDevice(stranger, { arch: 'hopper', pdi }),
      ),
    );
    const { claims } = await set([
      [one!, await makeReport(one!, { nonce })],
      [two!, await makeReport(two!, { nonce })],
    ]);
    expect(claims.map(brief)).toContain('MACHINE devices.distinct unverified');
  });

  test('the form of the service’s requests, and lists that contradict certificates', async () => {
    const { evidence, certificate } = makeEvidenceItem(gpu, await makeReport(gpu, { nonce }));
    const request = {
      nonce: '07'.repeat(32),
      arch: 'HOPPER',
      evidence_list: [{ evidence, certificate }],
    };
    const [device] = await readEvidenceList(JSON.stringify(request));
    expect(device?.stated.nonce).toEqual(nonce);
    const bad = [
      { ...request, arch: 'BLACKWELL' },
      { ...request, evidence_list: [] },
      { ...request, nonce: '07' },
      [{ evidence, certificate: '????' }],
      [{ evidence: `${evidence.slice(0, -4)}`, certificate }],
      'nothing',
    ];
    for (const document of bad) {
      const reading = readEvidenceList(JSON.stringify(document));
      await expect(reading).rejects.toMatchObject({ code: 'malformed' });
    }
  });
});
