import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { referenceProfile } from '@bridgekeeper/bridge';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AssumedProfile, assumeProfile, type MachineFacts } from './assume-profile.ts';
import { measuredProfilePath, readMeasuredProfile } from './measured-profiles.ts';

const PATH = '/profiles/GPU-a.json';
const holding = (text: string | null) => () => ({ path: PATH, text });

const assume = (facts: Partial<MachineFacts>): AssumedProfile =>
  assumeProfile({
    deviceKind: 'cuda',
    gpuName: 'NVIDIA H100 80GB HBM3',
    gpuUuid: 'GPU-a',
    confidential: false,
    readProfile: holding(null),
    ...facts,
  });

/** A profile that no reference has the name of. */
const measured = (confidential: boolean) => ({
  ...referenceProfile('h100-native'),
  name: 'measured-here',
  confidential,
});

describe('a measured profile', () => {
  test.each([true, false])('is taken when CC is as it was: %s', (confidential) => {
    const readProfile = holding(JSON.stringify(measured(confidential)));
    const { profile, ...why } = assume({ confidential, readProfile });
    expect(profile).toEqual(measured(confidential));
    expect(why).toEqual({ reason: `measured on this machine: ${PATH}` });
  });

  test.each([true, false])('is taken when the CC state is not known', (confidential) => {
    const readProfile = holding(JSON.stringify(measured(confidential)));
    expect(assume({ confidential: null, readProfile }).profile?.name).toBe('measured-here');
  });

  test('is looked for by the UUID of the GPU', () => {
    const asked: string[] = [];
    const readProfile = (uuid: string) => {
      asked.push(uuid);
      return { path: PATH, text: null };
    };
    assume({ gpuUuid: 'GPU-b', readProfile });
    assume({ gpuUuid: null, readProfile });
    expect(asked).toEqual(['GPU-b']);
  });

  test('is left out when it was measured in the other CC state', () => {
    const readProfile = holding(JSON.stringify(measured(false)));
    const { profile, warning } = assume({ confidential: true, readProfile });
    expect(profile?.name).toBe('h100-cc');
    expect(warning).toContain('confidential computing is on now');
    expect(warning).toContain(`${PATH} was measured with it off`);
  });

  test.each([
    ['is no JSON', '{', 'JSON'],
    ['has another version', '{"schema":"bridgekeeper.profile/9"}', 'bridgekeeper.profile/9'],
    ['lacks members', '{"schema":"bridgekeeper.profile/1"}', 'at "name"'],
  ])('that %s gives way to the reference, with a warning', (_, text, fault) => {
    const { profile, warning } = assume({ readProfile: holding(text) });
    expect(profile?.name).toBe('h100-native');
    expect(warning).toContain(`${PATH} cannot be used`);
    expect(warning).toContain(fault);
  });

  test('that cannot be read gives way to the reference, with a warning', () => {
    const readProfile = () => {
      throw new Error('EACCES: permission denied');
    };
    const { profile, warning } = assume({ readProfile });
    expect(profile?.name).toBe('h100-native');
    expect(warning).toContain('the measured profile cannot be used: EACCES');
  });
});

describe('a reference profile', () => {
  test.each([
    ['NVIDIA H100 80GB HBM3', 'h100-cc', 'h100-native'],
    ['NVIDIA H100 NVL', 'h100-cc', 'h100-native'],
    ['NVIDIA B300 SXM6 AC', 'b300-cc', 'b300-native'],
  ])('of its own family serves %s', (gpuName, whenOn, whenOff) => {
    const on = assume({ gpuName, confidential: true });
    expect(on.profile?.name).toBe(whenOn);
    expect(on.reason).toBe(
      `reference profile ${whenOn}, published for ${gpuName} with confidential computing on`,
    );
    const off = assume({ gpuName, confidential: false });
    expect(off.profile?.name).toBe(whenOff);
    expect(off.warning).toBe(
      'nothing was measured on this machine, and published tolls differ by 100x: ' +
        `a profile measured here belongs in ${PATH}`,
    );
  });

  test.each([
    ['NVIDIA H200', 'h100-cc', 'h100-native'],
    ['NVIDIA GH200 480GB', 'h100-cc', 'h100-native'],
    ['NVIDIA GB300', 'b300-cc', 'b300-native'],
    ['NVIDIA RTX PRO 6000 Blackwell Server Edition', 'b300-cc', 'h100-native'],
    ['NVIDIA A100-SXM4-80GB', 'b300-cc', 'h100-native'],
    [null, 'b300-cc', 'h100-native'],
  ])('of the nearest family serves %s, with a warning', (gpuName, whenOn, whenOff) => {
    for (const [confidential, name] of [
      [true, whenOn],
      [false, whenOff],
    ] as const) {
      const { profile, reason, warning } = assume({ gpuName, confidential });
      expect(profile?.name).toBe(name);
      expect(reason).toContain(`${name}, nearest to ${gpuName ?? 'a GPU without a name'}`);
      expect(warning).toContain(`${name} is the nearest`);
      expect(warning).toContain('published tolls differ by 100x');
    }
  });

  test('of a B200 was published for CC only', () => {
    const on = assume({ gpuName: 'NVIDIA B200', confidential: true });
    expect(on.profile?.name).toBe('b200-cc');
    expect(on.warning).not.toContain('nearest');
    const off = assume({ gpuName: 'NVIDIA B200', confidential: false });
    expect(off.profile?.name).toBe('b300-native');
    expect(off.warning).toContain('b300-native is the nearest');
  });

  test('is one for CC when the CC state is not known, and the warning says so', () => {
    const { profile, warning } = assume({ confidential: null, gpuUuid: null });
    expect(profile?.name).toBe('h100-cc');
    expect(warning).toBe(
      'whether confidential computing is on is not known, so it is taken to be on; ' +
        'nothing was measured on this machine, and published tolls differ by 100x',
    );
  });
});

test.each(['cpu', 'model'] as const)('the %s device has no bridge', (deviceKind) => {
  const readProfile = () => {
    throw new Error('nothing is to be read');
  };
  const reason = `the ${deviceKind} device has no bridge of its own`;
  expect(assume({ deviceKind, readProfile })).toEqual({ profile: null, reason });
});

test('whatever the machine and the file say, a GPU gets a profile that fits its CC state', () => {
  const texts = fc.oneof(
    fc.string(),
    fc.json(),
    fc.boolean().map((confidential) => JSON.stringify(measured(confidential))),
  );
  fc.assert(
    fc.property(fc.string(), fc.boolean(), texts, (gpuName, confidential, text) => {
      const assumed = assume({ gpuName, confidential, readProfile: holding(text) });
      expect(assumed.profile?.confidential).toBe(confidential);
      expect(assumed.warning === undefined).toBe(assumed.profile?.name === 'measured-here');
    }),
  );
});

describe('the file of a measured profile', () => {
  let home: string;
  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'profiles-'));
  });
  afterEach(() => rmSync(home, { recursive: true }));

  test('lies where XDG says', () => {
    const inside = 'bridgekeeper/profiles/GPU-a.json';
    expect(measuredProfilePath('GPU-a', { XDG_CONFIG_HOME: '/c' })).toBe(`/c/${inside}`);
    expect(measuredProfilePath('GPU-a', {})).toBe(join(homedir(), '.config', inside));
    expect(dirname(measuredProfilePath('../x', { XDG_CONFIG_HOME: '/c' }))).toBe(
      '/c/bridgekeeper/profiles',
    );
  });

  test('is read, or said to be absent; a fault of the file system becomes a warning', () => {
    const variables = { XDG_CONFIG_HOME: home };
    const readProfile = (uuid: string) => readMeasuredProfile(uuid, variables);
    const path = measuredProfilePath('GPU-a', variables);
    expect(readProfile('GPU-a')).toEqual({ path, text: null });
    mkdirSync(path, { recursive: true });
    expect(assume({ readProfile }).warning).toContain('cannot be used: EISDIR');
    rmSync(path, { recursive: true });
    writeFileSync(path, JSON.stringify(measured(false)));
    expect(assume({ readProfile }).profile).toEqual(measured(false));
  });
});
