import { beforeAll, describe, expect, test } from 'vitest';
import { brief, makeContext } from '../testing/appraisal.ts';
import { toPem } from '../testing/certificates.ts';
import { makeDevice, makeDeviceAuthority } from '../testing/device-authority.ts';
import { makeReport } from '../testing/device-reports.ts';
import { type AppraisedDevice, appraiseDevice } from './device.ts';
import { readSingleReport } from './evidence.ts';
import { appraiseObservedMode } from './observed-mode.ts';

const good = {
  environment: 'production',
  isOn: true,
  isDevTools: false,
  multiGpuMode: 'none',
} as const;
let gpu: AppraisedDevice;

beforeAll(async () => {
  const authority = await makeDeviceAuthority();
  const device = await makeDevice(authority, { arch: 'hopper', pdi: '00000000000000a1' });
  const report = await makeReport(device, { nonce: new Uint8Array(32) });
  const evidence = await readSingleReport(report, toPem(device.chain), 'the report');
  const context = makeContext();
  const anchors = { ...context.anchors, nvidiaDevice: authority.rootSha256 };
  gpu = await appraiseDevice('GPU-0', evidence, { ...context, anchors });
});

describe('the mode that the guest was told', () => {
  test('is never verified, whatever it is', async () => {
    const claims = await appraiseObservedMode(good, [gpu], 'guest-observed');
    expect(claims.map(brief)).toEqual([
      'MACHINE devices.confidential unverified',
      'MACHINE devices.devtools unverified',
    ]);
    expect(claims.map(({ voucher }) => voucher)).toEqual(['guest-observed', 'guest-observed']);
    const untold = await appraiseObservedMode(null, [gpu], 'guest-observed');
    expect(untold.map(brief)).toEqual(['MACHINE devices.confidential unverified']);
    expect(untold[0]).toMatchObject({ value: null, voucher: 'guest-observed' });
  });

  test('is as much the guest’s word as the report that it stands in is', async () => {
    for (const state of [good, null]) {
      const claims = await appraiseObservedMode(state, [gpu], 'operator-asserted');
      expect(new Set(claims.map(({ voucher }) => voucher))).toEqual(new Set(['operator-asserted']));
    }
  });

  test('is refused where it is off, or simulated', async () => {
    for (const change of [{ isOn: false }, { environment: 'simulation' }] as const) {
      const state = { ...good, multiGpuMode: null, ...change };
      const [claim] = await appraiseObservedMode(state, [], 'guest-observed');
      expect(claim).toMatchObject({ status: 'refused', code: 'mode-refused' });
      expect(claim!.voucher).toBe('guest-observed');
    }
  });

  test('is refused with developer tools on', async () => {
    const claims = await appraiseObservedMode(
      { ...good, isDevTools: true },
      [gpu],
      'guest-observed',
    );
    expect(claims.map(brief)).toEqual([
      'MACHINE devices.confidential unverified',
      'MACHINE devices.devtools refused devtools-enabled',
    ]);
    expect(claims[1]!.voucher).toBe('guest-observed');
  });

  test('is refused where a GPU signs another one', async () => {
    const state = { ...good, multiGpuMode: 'protected-pcie' } as const;
    const claims = await appraiseObservedMode(state, [gpu], 'guest-observed');
    expect(claims.map(brief)[0]).toBe('MACHINE devices.confidential refused mode-refused');
    const unproven = await appraiseObservedMode(
      state,
      [{ ...gpu, isAuthentic: false }],
      'guest-observed',
    );
    expect(unproven.map(brief)[0]).toBe('MACHINE devices.confidential unverified');
  });
});
