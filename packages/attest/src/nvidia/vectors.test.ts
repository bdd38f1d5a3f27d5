import { describe, expect, test } from 'vitest';
import { fromUtf8, toHex } from '../core/bytes.ts';
import { appraiseDevices } from '../hgx/device-set.ts';
import { brief, makeContext, notVerified } from '../testing/appraisal.ts';
import { hasVectors, readVector } from '../testing/vectors.ts';
import { readEvidenceList, readSingleReport } from './evidence.ts';
import { NVIDIA_DEVICE_ROOTS } from './roots.ts';

const none: ReadonlySet<string> = new Set();
const anchors = {
  nvidiaDevice: NVIDIA_DEVICE_ROOTS,
  nvidiaRim: none,
  intelSgx: none,
  amdArk: none,
};
const context = makeContext({ anchors });
const isAtHand = hasVectors('devices of NVIDIA');
const text = (path: string) => fromUtf8(readVector(path), path);
const vector = (name: string) => text(`nvidia/${name}`);
const single = (report: string, chain: string) =>
  readSingleReport(vector(report), vector(chain), report);

describe.runIf(isAtHand)('real evidence (needs ../shared/vectors)', () => {
  test('a board of 8 H100 and 4 switches: 12 of 12, and each in its slot', async () => {
    const evidence = [
      ...(await readEvidenceList(vector('hgx-h100-8gpu-evidence.json'))),
      ...(await readEvidenceList(vector('hgx-h100-4switch-evidence.json'))),
    ];
    const nonce = evidence[0]!.report.nonce;
    const { claims } = await appraiseDevices(evidence, { ...context, nonce });
    const verified = claims.filter(({ status }) => status === 'verified');
    for (const check of ['chain', 'signature', 'nonce', 'identity', 'expiry']) {
      expect(verified.filter(({ kind }) => kind.endsWith(`.${check}`))).toHaveLength(
        check === 'nonce' ? 13 : 12,
      );
    }
    expect(claims.filter(({ status }) => status === 'refused')).toEqual([]);
    const slots = claims.find(({ kind }) => kind === 'hgx.slots');
    expect(slots?.status).toBe('verified');
    const modules = [8, 5, 7, 6, 4, 1, 3, 2];
    expect(slots?.value).toEqual(modules.map((slot, i) => `GPU-${i}=${slot}`));
    const ports = claims.find(({ kind }) => kind === 'hgx.ports');
    expect([ports?.status, ports?.value]).toEqual(['verified', 106]);
    expect(claims.filter(({ kind }) => kind.startsWith('hgx.')).map(brief)).toEqual(
      ['set', 'mode', 'identities', 'positions', 'slots', 'ports'].map(
        (check) => `MACHINE hgx.${check} verified`,
      ),
    );
  });

  test('the same board under another nonce is refused', async () => {
    const evidence = await readEvidenceList(vector('hgx-h100-4switch-evidence.json'));
    const nonce = new Uint8Array(32);
    const { claims } = await appraiseDevices(evidence, { ...context, nonce });
    expect(claims.filter(({ status }) => status === 'refused').map(brief)).toEqual(
      [0, 1, 2, 3].map((i) => `SWITCH-${i} switch.nonce refused nonce-mismatch`),
    );
  });

  test('one H100 alone and one switch alone', async () => {
    const [gpu] = await readEvidenceList(vector('hopper-evidence.json'));
    const appraised = await appraiseDevices([gpu!], context);
    expect(appraised.claims.filter(({ status }) => status === 'refused').map(brief)).toEqual([
      'MACHINE hgx.set refused set-incomplete',
    ]);
    const list = await readEvidenceList(vector('ls10-evidence.json'));
    const { devices, claims } = await appraiseDevices(list, context);
    expect(notVerified(claims)).toEqual([
      'SWITCH-0 switch.revocation unverified',
      'SWITCH-0 switch.nonce unverified',
      'SWITCH-0 switch.firmware unverified',
    ]);
    expect(devices[0]!.report.measurements.size).toBe(31);
  });

  test('an H100 with an old driver: ids of its references, and no mode', async () => {
    const evidence = await single('hopper-535.86.09-report.txt', 'hopper-535.86.09-chain.txt');
    expect(evidence.report.rimIds).toEqual({
      driver: ['NV_GPU_DRIVER_GH100_535.86.09'],
      vbios: 'NV_GPU_VBIOS_1010_0200_882_96005E0001',
    });
    const { claims } = await appraiseDevices([evidence], context);
    expect(notVerified(claims)).toEqual([
      'GPU-0 gpu.revocation unverified',
      'GPU-0 gpu.nonce unverified',
      'GPU-0 gpu.firmware unverified',
      'GPU-0 gpu.mode unverified',
      'GPU-0 gpu.nvlink-encryption unverified',
    ]);
  });

  test('a GB100: signature, and firmware by its TcbInfo', async () => {
    const evidence = await single('blackwellAttestationReport.txt', 'blackwellCertChain.txt');
    expect(evidence.report.rimIds.driver).toEqual(['NV_GPU_CC_DRIVER_GB100_575.32']);
    const { claims } = await appraiseDevices([evidence], context);
    const firmware = claims.find(({ kind }) => kind === 'gpu.firmware');
    expect(firmware?.status).toBe('verified');
    expect(firmware?.value).toMatch(/^d090cab1/);
    const signature = claims.find(({ kind }) => kind === 'gpu.signature');
    expect(signature?.status).toBe('verified');
  });

  test('eight Blackwell GPUs of one guest in multi-GPU mode: eight of eight', async () => {
    const evidence = await readEvidenceList(vector('gonv-mpt-8xGB100.json'));
    const nonce = evidence[0]!.report.nonce;
    const { claims, devices } = await appraiseDevices(evidence, { ...context, nonce });
    expect(devices.map(({ isAuthentic }) => isAuthentic)).toEqual(Array(8).fill(true));
    expect(new Set(devices.map(({ pdi }) => pdi)).size).toBe(8);
    const of = (kind: string) => claims.filter((claim) => claim.kind === kind);
    for (const check of [
      'chain',
      'expiry',
      'signature',
      'nonce',
      'identity',
      'firmware',
      'vbios',
    ]) {
      const found = of(`gpu.${check}`).map(({ status }) => status);
      expect([check, found]).toEqual([check, Array(8).fill('verified')]);
    }
    for (const [kind, value] of [
      ['gpu.driver', '590.48.01'],
      ['gpu.mode', 'multi'],
    ] as const) {
      const found = of(kind).map((claim) => [claim.status, claim.voucher, claim.value]);
      expect(found).toEqual(Array(8).fill(['verified', 'device-signed', value]));
    }
    // This driver's reports name the mode, and not the state of the links.
    const links = of('gpu.nvlink-encryption');
    expect(links.map(({ status }) => status)).toEqual(Array(8).fill('unverified'));
    expect(links[0]!.why).toMatch(/^The report names the mode that encrypts links/);
    expect(claims.filter(({ status }) => status === 'refused')).toEqual([]);
  });

  test('a switch: the id of its reference', async () => {
    const { report } = await single('switchAttestationReport.txt', 'switchCertChain.txt');
    expect(report.rimIds).toEqual({
      driver: [],
      vbios: 'NV_SWITCH_BIOS_5612_0002_890_9610550001',
    });
    expect(toHex(report.nonce)).toMatch(/^931d8dd0/);
  });

  test('a report whose signature does not hold is refused for that', async () => {
    const [other] = await readEvidenceList(vector('hopper-evidence.json'));
    const bad = await single(
      'hopperAttestationReportInvalidSignature.txt',
      'hopper-535.86.09-chain.txt',
    );
    for (const evidence of [bad, { ...bad, chain: other!.chain }]) {
      const { claims, devices } = await appraiseDevices([evidence], context);
      expect(claims.map(brief)).toContain('GPU-0 gpu.signature refused signature-invalid');
      expect(devices[0]!.isAuthentic).toBe(false);
    }
  });

  test("the outcome of somebody's own check is no evidence", async () => {
    const outcome = text('dstack/gpu-attestation-h100.json');
    await expect(readEvidenceList(outcome)).rejects.toMatchObject({ code: 'malformed' });
  });
});
