import { describe, expect, it } from 'vitest';
import type { Claim } from '../claims/claim.ts';
import type { AppraisalContext, ReferenceSource } from '../claims/context.ts';
import { fromHex, fromUtf8 } from '../core/bytes.ts';
import { type DeviceArch, readDeviceReport } from '../nvidia/device-report.ts';
import { isReferenceFile } from '../services/references.ts';
import { makeContext } from '../testing/appraisal.ts';
import { hasVectors, readVector } from '../testing/vectors.ts';
import { appraiseMeasurements } from './appraise.ts';
import { appraiseReference } from './reference.ts';
import { NVIDIA_RIM_ROOTS } from './roots.ts';

const isAtHand = hasVectors('references of real devices');
const SWITCH_RIM = 'switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml';
const VBIOS_RIM = 'NV_GPU_VBIOS_1010_0200_882_96005E0001.xml';
const DRIVER_RIM = 'NV_GPU_DRIVER_GH100_550.144.03.xml';

function context(references: ReferenceSource | null): AppraisalContext {
  const { anchors, ...rest } = makeContext({ nowMs: Date.UTC(2026, 8, 1), references });
  return { ...rest, anchors: { ...anchors, nvidiaRim: NVIDIA_RIM_ROOTS } };
}

const rims = (...names: string[]): ReferenceSource => ({
  async rim(id) {
    const name = names.find((one) => isReferenceFile(one, id));
    return name === undefined ? null : readVector(`nvidia/${name}`);
  },
});
const short = ({ kind, status, code, value }: Claim) =>
  [kind, code ?? status, value].filter((part) => part !== undefined).join(' ');

async function compare(file: string, arch: DeviceArch, references: ReferenceSource) {
  const hex = fromUtf8(readVector(`nvidia/${file}`), file).trim();
  const report = readDeviceReport(fromHex(hex, file), arch);
  const device = { subject: 'DEVICE-0', report, isAuthentic: true };
  return appraiseMeasurements([device], context(references));
}

describe('real references', () => {
  it('of the switch: all 31 measurements match', async () => {
    if (!isAtHand) return;
    const claims = await compare('switchAttestationReport.txt', 'ls10', rims(SWITCH_RIM));
    expect(claims.map(short)).toEqual([
      'rim.chain verified NV_SWITCH_BIOS_5612_0002_890_9610550001',
      'rim.signature verified',
      'rim.version verified 96.10.55.00.01',
      'rim.expiry verified',
      'rim.revocation unverified',
      'switch.measurements verified 31 of 31',
    ]);
  });

  it('of the VBIOS: all 12 measurements match, and its signer has lapsed', async () => {
    if (!isAtHand) return;
    const claims = await compare('hopper-535.86.09-report.txt', 'hopper', rims(VBIOS_RIM));
    expect(claims.map(short)).toEqual([
      'rim.chain verified NV_GPU_VBIOS_1010_0200_882_96005E0001',
      'rim.signature verified',
      'rim.version verified 96.00.5E.00.01',
      'rim.expiry certificate-expired',
      'rim.revocation unverified',
      'gpu.measurements reference-missing',
      'gpu.measurements verified 12 of 12',
    ]);
  });

  it.each([
    [DRIVER_RIM, ['verified', 'verified', 'unverified', 'verified', 'unverified']],
    [
      'incorrect_signature_driver_rim.xml',
      ['verified', 'signature-invalid', 'unverified', 'verified', 'unverified'],
    ],
  ])('%s: chain, signature, version, expiry, revocation', async (name, expected) => {
    if (!isAtHand) return;
    const bytes = readVector(`nvidia/${name}`);
    const reference = { subject: 'RIM-0', id: name, bytes, versions: [] };
    const { claims } = await appraiseReference(reference, context(null));
    expect(claims.map(({ status, code }) => code ?? status)).toEqual(expected);
  });
});
