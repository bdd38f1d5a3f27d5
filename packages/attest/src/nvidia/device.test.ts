import { beforeAll, describe, expect, test } from 'vitest';
import type { RevocationSource, RevocationStatus } from '../claims/context.ts';
import { equalBytes, fromBase64, toHex, utf8 } from '../core/bytes.ts';
import { nameOf, parseCertificate } from '../core/certificate.ts';
import { appraiseDevices } from '../hgx/device-set.ts';
import { judge } from '../policy/judge.ts';
import { policySchema, TOLERABLE_CODES } from '../policy/policy.ts';
import { brief, inFull, makeContext, notVerified, wordless } from '../testing/appraisal.ts';
import { makeCertificate, NAME, type TestIssuer, toPem } from '../testing/certificates.ts';
import {
  type DeviceAuthority,
  makeDevice,
  makeDeviceAuthority,
  type TestDevice,
  u16le,
} from '../testing/device-authority.ts';
import {
  goodFields,
  makeEvidenceItem,
  makeReport,
  type OpaqueField,
  withFields,
} from '../testing/device-reports.ts';
import type { AppraisedDevice } from './device.ts';
import { appraiseDevice } from './device.ts';
import { readEvidenceList, readSingleReport } from './evidence.ts';
import { DEVICE_CLAIM_KINDS } from './kinds.ts';
import { OPAQUE } from './opaque.ts';

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

/** Answers as told, about every certificate. */
const revocation = (status: RevocationStatus) => ({ status: async () => status });

function context(changes: Parameters<typeof makeContext>[0] = {}) {
  const { anchors, ...rest } = makeContext();
  const trusted = { ...anchors, nvidiaDevice: authority.rootSha256 };
  return { ...rest, anchors: trusted, nonce, revocation: revocation('good'), ...changes };
}

async function appraise(
  device: TestDevice,
  changes: Parameters<typeof makeContext>[0] = {},
  fields?: OpaqueField[],
): Promise<AppraisedDevice> {
  const report = await makeReport(device, fields === undefined ? { nonce } : { nonce, fields });
  const evidence = await readSingleReport(report, toPem(device.chain), 'the report');
  return appraiseDevice('D', evidence, context(changes));
}

/** The claims but for those that good evidence of that kind leaves open. */
function problems({ claims }: AppraisedDevice): string[] {
  const open = ['D gpu.nvlink-encryption unverified', 'D switch.firmware unverified'];
  return notVerified(claims).filter((text) => !open.includes(text));
}

describe('good evidence', () => {
  test('is verified in all its parts', async () => {
    for (const device of [gpu, blackwell, nvswitch]) {
      const appraised = await appraise(
        device,
        {},
        device === nvswitch ? placed(nvswitch) : goodFields(device),
      );
      expect(problems(appraised)).toEqual([]);
      expect(appraised.pdi).toBe(device.pdi);
      expect(appraised.isAuthentic).toBe(true);
    }
  });

  test('says what each claim rests on, who vouches for it and its value', async () => {
    expect((await appraise(gpu)).claims.map(inFull)).toEqual([
      'D gpu.chain verified by vendor-signed [D certificates]',
      'D gpu.expiry verified by vendor-signed [D certificates]',
      'D gpu.revocation verified by vendor-signed [D certificates]',
      'D gpu.signature verified by device-signed [D report, D certificates]',
      'D gpu.nonce verified by device-signed [D report]',
      'D gpu.identity verified by vendor-signed: "0123456789abcdef" [D report]',
      'D gpu.class verified by vendor-signed: "hopper: Test Chip Identity" [D report]',
      `D gpu.firmware verified by device-signed: "${'f1'.repeat(48)}" [D report]`,
      'D gpu.vbios verified by device-signed: "96.00.A5.00.01" [D report]',
      'D gpu.driver verified by device-signed: "590.12" [D report]',
      'D gpu.mode verified by device-signed: "single" [D report]',
      'D gpu.nvdec0 verified by device-signed: false [D report]',
      'D gpu.nvlink-encryption unverified by operator-asserted [D report]',
    ]);
    expect((await appraise(nvswitch, {}, placed(nvswitch))).claims.map(inFull)).toEqual([
      'D switch.chain verified by vendor-signed [D certificates]',
      'D switch.expiry verified by vendor-signed [D certificates]',
      'D switch.revocation verified by vendor-signed [D certificates]',
      'D switch.signature verified by device-signed [D report, D certificates]',
      'D switch.nonce verified by device-signed [D report]',
      'D switch.identity verified by vendor-signed: "a123456789abcdef" [D report]',
      'D switch.class verified by vendor-signed: "ls10: Test Chip Identity" [D report]',
      'D switch.firmware unverified by operator-asserted [D report]',
      'D switch.vbios verified by device-signed: "96.10.73.00.01" [D report]',
      'D switch.lock verified by device-signed: true [D report]',
    ]);
  });

  test('is told in words', async () => {
    const words = async (device: TestDevice, fields: OpaqueField[]) => {
      const { claims } = await appraise(device, {}, fields);
      expect(wordless(claims)).toEqual([]);
      return claims.slice(4).map(({ statement }) => statement);
    };
    expect(
      await words(gpu, withFields(goodFields(gpu), [OPAQUE.nvdec0, Uint8Array.of(0xaa)])),
    ).toEqual([
      'the report answers the nonce that was asked with',
      'it is the device 0123456789abcdef',
      'it is one of hopper: Test Chip Identity',
      'the firmware that reports is the one the certificate was issued to',
      'its VBIOS is 96.00.A5.00.01',
      'its driver is 590.12',
      'its multi-GPU mode is single: it works alone',
      'the first video decoder is on',
      'NVLink encryption is on or off',
    ]);
    expect(await words(nvswitch, placed(nvswitch))).toEqual([
      'the report answers the nonce that was asked with',
      'it is the device a123456789abcdef',
      'it is one of ls10: Test Chip Identity',
      'the firmware that reports is the one the certificate was issued to',
      'its BIOS is 96.10.73.00.01',
      'its routing is locked',
    ]);
    expect(await words(gpu, goodFields(gpu))).toContain('the first video decoder is off');
    await words(gpu, goodFields(gpu).slice(1, 2));
    await words(nvswitch, goodFields(nvswitch).slice(1, 2));
    const { claims } = await appraise(gpu, { revocation: null, nonce: null });
    expect(wordless(claims)).toEqual([]);
    expect(claims[0]!.statement).toMatch(/^its 5 certificates lead to Test Device CA, which is/);
  });

  test('of older drivers has its mode from Protected PCIe', async () => {
    const modeOf = async (...changes: OpaqueField[]) => {
      const fields = goodFields(gpu).filter(
        ([type]) => type !== OPAQUE.featureFlag && type !== OPAQUE.protectedPcie,
      );
      const { claims } = await appraise(gpu, {}, [...fields, ...changes]);
      const {
        code,
        status,
        statement,
        value = null,
      } = claims.find(({ kind }) => kind === 'gpu.mode')!;
      if (code !== undefined) expect(statement).toMatch(/, yet Protected PCIe is (on|off)$/);
      return [code ?? status, value, ...(/is off$/.test(statement) ? ['off'] : [])];
    };
    const on: OpaqueField = [OPAQUE.protectedPcie, Uint8Array.of(0xaa)];
    const off: OpaqueField = [OPAQUE.protectedPcie, Uint8Array.of(0x55)];
    expect(await modeOf(on)).toEqual(['verified', 'protected-pcie']);
    expect(await modeOf(off)).toEqual(['unverified', null]);
    const flag = (mode: number): OpaqueField => [OPAQUE.featureFlag, u16le(mode)];
    expect(await modeOf(flag(0))).toEqual(['verified', 'single']);
    expect(await modeOf(flag(2))).toEqual(['verified', 'protected-pcie']);
    expect(await modeOf(flag(2), on)).toEqual(['verified', 'protected-pcie']);
    expect(await modeOf(flag(2), off)).toEqual(['mode-refused', 'protected-pcie', 'off']);
    expect(await modeOf(flag(1), on)).toEqual(['mode-refused', 'multi']);
  });

  test('may be stated to be what it reports', async () => {
    const item = makeEvidenceItem(gpu, await makeReport(gpu, { nonce }));
    const stated = { driver_version: '590.12', vbios_version: '96.00.A5.00.01' };
    const [evidence] = await readEvidenceList(JSON.stringify([{ ...item, ...stated }]));
    const { claims } = await appraiseDevice('D', evidence!, context());
    expect(notVerified(claims)).toEqual(['D gpu.nvlink-encryption unverified']);
  });

  test('is read from each form of list, in which it is the same evidence', async () => {
    const item = makeEvidenceItem(gpu, await makeReport(gpu, { nonce }));
    const { nonce: _, arch, ...bare } = item;
    const trustee = { ...bare, arch: 'Hopper', uuid: 'GPU-1' };
    const hex = toHex(fromBase64(item.evidence, 'the report'));
    for (const list of [
      [item],
      { nonce: item.nonce, arch, evidence_list: [bare] },
      { result_code: 0, result_message: 'Ok', evidences: [item] },
      { evidences: [item] },
      { device_evidence_list: [trustee] },
      { device_evidence_list: [{ ...trustee, evidence: hex }] },
    ]) {
      const [evidence, ...more] = await readEvidenceList(JSON.stringify(list));
      expect(more).toEqual([]);
      const { claims } = await appraiseDevice('D', evidence!, context());
      expect(notVerified(claims)).toEqual(['D gpu.nvlink-encryption unverified']);
    }
  });

  test.each([
    [{ result_code: 21, evidences: null }, 'result_code: nvattest collected nothing'],
    [{ evidences: [] }, 'evidences: Too small'],
    [{ device_evidence_list: [{ arch: 'Ampere' }] }, 'device_evidence_list.0.arch'],
    [{ device_evidence_list: [{ evidence: '11e0zz', certificate: '' }] }, 'is not hexadecimal'],
  ])('is refused in a list that holds none or another: %j', async (list, message) => {
    await expect(readEvidenceList(JSON.stringify(list))).rejects.toThrow(message);
  });

  test('that names a mode of encrypted links does not say that they are encrypted', async () => {
    const fields = withFields(goodFields(gpu), [OPAQUE.featureFlag, u16le(1)]);
    const { claims } = await appraise(gpu, {}, fields);
    const links = claims.find(({ kind }) => kind === 'gpu.nvlink-encryption')!;
    expect(links).toMatchObject({ status: 'unverified' });
    expect(links.why).toMatch(/^The report names the mode that encrypts links, and not whether/);
  });

  test('by the FSP of a GPU is verified, and says nothing of what the driver set up', async () => {
    const options = { arch: 'blackwell', pdi: blackwell.pdi } as const;
    const fsp = await makeDevice(authority, { ...options, reporter: 'fsp' });
    const { claims, report, isAuthentic, pdi } = await appraise(fsp);
    expect([isAuthentic, pdi]).toEqual([true, blackwell.pdi]);
    expect([...report.measurements.keys()]).toEqual(Array.from({ length: 25 }, (_, i) => i));
    expect(notVerified(claims)).toEqual(
      ['firmware', 'vbios', 'driver', 'mode', 'nvdec0', 'nvlink-encryption'].map(
        (check) => `D gpu.${check} unverified`,
      ),
    );
    expect(claims.find(({ kind }) => kind === 'gpu.mode')?.why).toMatch(/^The FSP reports what/);
    expect(wordless(claims)).toEqual([]);
    const other = await makeReport(fsp, { nonce, ownPdi: 'ffffffffffffffff' });
    const evidence = await readSingleReport(other, toPem(fsp.chain), 'the report');
    expect((await appraiseDevice('D', evidence, context())).claims.map(brief)).toContain(
      'D gpu.identity refused identity-mismatch',
    );
    // Both of one GPU are one GPU: it does not count twice.
    const own = await readSingleReport(await makeReport(fsp, { nonce }), toPem(fsp.chain), 'FSP');
    const gsp = await makeDevice(authority, options);
    const both = await readSingleReport(await makeReport(gsp, { nonce }), toPem(gsp.chain), 'GSP');
    const set = await appraiseDevices([own, both], context());
    expect(set.claims.find(({ kind }) => kind === 'devices.distinct')?.status).toBe('refused');
  });

  test('that says little leaves open what it does not say', async () => {
    const open = async (device: TestDevice) => {
      const { claims } = await appraise(device, {}, goodFields(device).slice(1, 2));
      return claims.filter(({ status }) => status !== 'verified').map(inFull);
    };
    const unsaid = (kinds: string[]) =>
      kinds.map((kind) => `D ${kind} unverified by operator-asserted [D report]`);
    expect(await open(gpu)).toEqual(
      unsaid([
        'gpu.firmware',
        'gpu.vbios',
        'gpu.driver',
        'gpu.mode',
        'gpu.nvdec0',
        'gpu.nvlink-encryption',
      ]),
    );
    expect(await open(nvswitch)).toEqual(
      unsaid(['switch.firmware', 'switch.vbios', 'switch.lock']),
    );
  });

  test('makes claims of listed kinds alone', async () => {
    const seen = [...(await appraise(gpu)).claims, ...(await appraise(nvswitch)).claims];
    expect(new Set(seen.map(({ kind }) => kind))).toEqual(new Set(DEVICE_CLAIM_KINDS));
  });

  test('in the newer format says whether NVLink is encrypted', async () => {
    const fields = withFields(
      goodFields(blackwell),
      [OPAQUE.featureFlag, u16le(1)],
      [OPAQUE.fspUcodeSvn, u16le(5)],
      [OPAQUE.nvlinkEncryption, Uint8Array.of(0xaa, 0)],
      [OPAQUE.chipInfo, utf8('GB20X')],
    );
    const report = await makeReport(blackwell, { nonce, fields, isVersioned: true });
    const evidence = await readSingleReport(report, toPem(blackwell.chain), 'the report');
    expect(evidence.report.fspUcodeSvn).toBe(5);
    expect(evidence.report.rimIds.driver).toEqual(['NV_GPU_CC_DRIVER_GB20X_590.12']);
    const { claims } = await appraiseDevice('D', evidence, context());
    expect(notVerified(claims)).toEqual([]);
    const valueFor = (name: string) => claims.find(({ kind }) => kind === name)?.value;
    expect(valueFor('gpu.nvlink-encryption')).toBe(true);
    expect(valueFor('gpu.mode')).toBe('multi');
  });

  test('in the newer format is refused where several GPUs share plain NVLink', async () => {
    const linked = async (mode: number) => {
      const fields = withFields(
        goodFields(blackwell),
        [OPAQUE.featureFlag, u16le(mode)],
        [OPAQUE.nvlinkEncryption, Uint8Array.of(0x55, 0)],
      );
      const report = await makeReport(blackwell, { nonce, fields, isVersioned: true });
      const evidence = await readSingleReport(report, toPem(blackwell.chain), 'the report');
      const { claims } = await appraiseDevice('D', evidence, context());
      return claims.find(({ kind }) => kind === 'gpu.nvlink-encryption');
    };
    expect(await linked(0)).toMatchObject({ status: 'verified', value: false });
    expect(await linked(1)).toMatchObject({ code: 'mode-refused', value: false });
  });

  test('without a nonce to compare with is not shown to be fresh', async () => {
    const appraised = await appraise(gpu, { nonce: null });
    expect(problems(appraised)).toEqual(['D gpu.nonce unverified']);
  });
});

describe('each fault has its code', () => {
  test('another nonce', async () => {
    const appraised = await appraise(gpu, { nonce: new Uint8Array(32) });
    expect(problems(appraised)).toEqual(['D gpu.nonce refused nonce-mismatch']);
  });

  test('a nonce stated beside the report that the report does not answer', async () => {
    const item = makeEvidenceItem(gpu, await makeReport(gpu, { nonce }));
    const [evidence] = await readEvidenceList(
      JSON.stringify([{ ...item, nonce: '00'.repeat(32) }]),
    );
    const { claims } = await appraiseDevice('D', evidence!, context({ nonce: null }));
    expect(claims.map(brief)).toContain('D gpu.nonce refused nonce-mismatch');
  });

  test('a driver stated beside the report that is not the one reported', async () => {
    const item = makeEvidenceItem(gpu, await makeReport(gpu, { nonce }));
    const list = JSON.stringify([{ ...item, driver_version: '999.99' }]);
    const [evidence] = await readEvidenceList(list);
    const { claims } = await appraiseDevice('D', evidence!, context());
    expect(claims.map(brief)).toContain('D gpu.driver refused binding-mismatch');
  });

  test("another device's certificates", async () => {
    const other = await makeDevice(authority, { arch: 'hopper', pdi: 'ffffffffffffffff' });
    const appraised = await appraise({ ...gpu, chain: [gpu.chain[0]!, ...other.chain.slice(1)] });
    expect(problems(appraised)[0]).toBe('D gpu.chain refused chain-broken');
    expect(problems(appraised)).toContain('D gpu.signature unverified');
    expect(appraised.isAuthentic).toBe(false);
  });

  test('a report by another device than the certificates are for', async () => {
    const other = await makeDevice(authority, { arch: 'hopper', pdi: 'ffffffffffffffff' });
    const report = await makeReport(other, { nonce });
    const evidence = await readSingleReport(report, toPem(gpu.chain), 'the report');
    const { claims } = await appraiseDevice('D', evidence, context());
    expect(claims.map(brief)).toContain('D gpu.signature refused signature-invalid');
    expect(
      claims.filter(({ voucher, status }) => `${voucher} ${status}` === 'device-signed verified'),
    ).toEqual([]);
  });

  test('a good signature under a root that is not pinned', async () => {
    const stranger = await makeDeviceAuthority();
    const device = await makeDevice(stranger, { arch: 'hopper', pdi: gpu.pdi });
    const appraised = await appraise(device);
    const refused = appraised.claims.filter(({ status }) => status === 'refused');
    expect(refused.map(brief)).toEqual(['D gpu.chain refused root-not-pinned']);
    expect(appraised.isAuthentic).toBe(false);
    expect(appraised.pdi).toBeNull();
  });

  test('firmware that is not the certified one', async () => {
    const fields = withFields(goodFields(gpu), [OPAQUE.fwid, new Uint8Array(48)]);
    expect(problems(await appraise(gpu, {}, fields))).toEqual([
      'D gpu.firmware refused firmware-mismatch',
    ]);
    const other = withFields(goodFields(blackwell), [OPAQUE.fwid, new Uint8Array(48)]);
    expect(problems(await appraise(blackwell, {}, other))).toEqual([
      'D gpu.firmware refused firmware-mismatch',
    ]);
  });

  test('revoked, unknown to the issuer, not to be asked', async () => {
    const cases: [RevocationStatus, string][] = [
      ['revoked', 'refused certificate-revoked'],
      ['held', 'refused certificate-held'],
      ['unknown', 'refused revocation-unknown'],
    ];
    for (const [status, outcome] of cases) {
      const appraised = await appraise(gpu, { revocation: revocation(status) });
      expect(problems(appraised)).toEqual([`D gpu.revocation ${outcome}`]);
    }
    const without = await appraise(gpu, { revocation: null });
    expect(problems(without)).toEqual(['D gpu.revocation unverified']);
  });

  test('revoked behind others on hold and unknown: these hide nothing', async () => {
    const [, ...issued] = gpu.chain;
    const [device, provisioner, family] = await Promise.all(
      issued.map((one) => parseCertificate(one.der, 'a certificate')),
    );
    const states = new Map<string, RevocationStatus>([
      [device!.sha256, 'unknown'],
      [provisioner!.sha256, 'held'],
      [family!.sha256, 'revoked'],
    ]);
    const source: RevocationSource = { status: async ({ sha256 }) => states.get(sha256)! };
    const { claims } = await appraise(gpu, { revocation: source });
    const found = claims.filter(({ kind }) => kind === 'gpu.revocation');
    expect(found.map(({ code }) => code)).toEqual([
      'revocation-unknown',
      'certificate-held',
      'certificate-revoked',
    ]);
    expect(found[0]!.statement).toMatch(
      /is not known: the responder of its issuer does not know it$/,
    );
    expect(found[1]!.statement).toBe(`${nameOf(provisioner!)} is on hold`);
    const tolerate = [{ kind: 'gpu.revocation', codes: TOLERABLE_CODES, because: 'all of it' }];
    const policy = policySchema.parse({ version: 2, name: 'x', minimum: [{ gpu: 1 }], tolerate });
    const reasons = judge(
      claims.map((claim) => ({ ...claim, subject: 'GPU-0' })),
      policy,
    ).reasons.map(({ code }) => code);
    expect(reasons).toEqual(['certificate-revoked']);
  });

  test('on hold, unless a policy allows it', async () => {
    const { claims } = await appraise(gpu, { revocation: revocation('held') });
    const named = claims.map((claim) => ({ ...claim, subject: 'GPU-0' }));
    const under = (codes: string[]) => {
      const tolerate = [{ kind: 'gpu.revocation', codes, because: 'as NVIDIA allows it' }];
      const fields = { version: 2, name: 'x', minimum: [{ gpu: 1 }], tolerate };
      return judge(named, policySchema.parse(fields)).result;
    };
    expect(under(['revocation-unknown'])).toBe('refused');
    expect(under(['certificate-held'])).toBe('verified');
  });

  test('revoked, any one of the certificates that its vendor issued', async () => {
    const [, ...issued] = gpu.chain;
    const certificates = await Promise.all(
      issued.map((one) => parseCertificate(one.der, 'a certificate')),
    );
    for (const revoked of certificates.slice(0, -1)) {
      const source: RevocationSource = {
        status: async ({ sha256 }) => (sha256 === revoked.sha256 ? 'revoked' : 'good'),
      };
      const { claims } = await appraise(gpu, { revocation: source });
      const claim = claims.find(({ kind }) => kind === 'gpu.revocation')!;
      expect(claim).toMatchObject({ status: 'refused', code: 'certificate-revoked' });
      expect(claim.statement).toBe(`${nameOf(revoked)} is revoked`);
    }
    const pairs: string[][] = [];
    const source: RevocationSource = {
      async status(certificate, issuer) {
        pairs.push([certificate.sha256, issuer.sha256]);
        return 'good';
      },
    };
    expect(problems(await appraise(gpu, { revocation: source }))).toEqual([]);
    const names = certificates.map(({ sha256 }) => sha256);
    // Each is asked about with its own issuer; nobody revokes a root.
    expect(pairs).toEqual(names.slice(0, -1).map((name, i) => [name, names[i + 1]]));
  });

  test('a responder that cannot be asked, with what it was about', async () => {
    for (const problem of [new Error('no route'), 'no route']) {
      const source = { status: () => Promise.reject(problem) };
      const { claims } = await appraise(gpu, { revocation: source });
      const claim = claims.find(({ kind }) => kind === 'gpu.revocation')!;
      expect(claim.code).toBe('revocation-unknown');
      expect(claim.statement).toMatch(/^whether .*GH100 A01 GSP BROM.* is not known: no route$/);
    }
  });

  test('expired, and not yet valid', async () => {
    const brief2020 = await makeDevice(authority, {
      arch: 'hopper',
      pdi: gpu.pdi,
      notAfter: '20210101000000',
    });
    expect(problems(await appraise(brief2020))).toEqual([
      'D gpu.expiry refused certificate-expired',
    ]);
    const early = await appraise(gpu, { nowMs: Date.UTC(2019, 0, 1) });
    expect(problems(early)).toEqual(['D gpu.expiry refused certificate-expired']);
  });

  test('a mode that contradicts itself', async () => {
    const fields = withFields(goodFields(gpu), [OPAQUE.protectedPcie, Uint8Array.of(0xaa)]);
    const appraised = await appraise(gpu, {}, fields);
    expect(problems(appraised)).toEqual(['D gpu.mode refused mode-refused']);
    const { statement } = appraised.claims.find(({ kind }) => kind === 'gpu.mode')!;
    expect(statement).toBe('its mode is single, yet Protected PCIe is on');
  });

  test('a VBIOS stated beside the report that is not the one reported', async () => {
    const item = makeEvidenceItem(gpu, await makeReport(gpu, { nonce }));
    const list = JSON.stringify([{ ...item, vbios_version: '96.00.A5.00.02' }]);
    const [evidence] = await readEvidenceList(list);
    const { claims } = await appraiseDevice('D', evidence!, context());
    expect(claims.map(brief)).toContain('D gpu.vbios refused binding-mismatch');
  });

  test('what a report says against itself, even where nothing proves it genuine', async () => {
    const stranger = await makeDeviceAuthority();
    const device = await makeDevice(stranger, { arch: 'hopper', pdi: gpu.pdi });
    const fields = withFields(goodFields(device), [OPAQUE.fwid, new Uint8Array(48)]);
    const { claims } = await appraise(device, { nonce: new Uint8Array(32) }, fields);
    expect(claims.map(brief)).toEqual(
      expect.arrayContaining([
        'D gpu.nonce refused nonce-mismatch',
        'D gpu.firmware refused firmware-mismatch',
        'D gpu.driver unverified',
      ]),
    );
  });

  test('a changed report under certificates that are not good either', async () => {
    const stranger = await makeDeviceAuthority();
    const device = await makeDevice(stranger, { arch: 'hopper', pdi: gpu.pdi });
    const changed = await makeReport(device, { nonce });
    changed[60]! ^= 1;
    const evidence = await readSingleReport(changed, toPem(device.chain), 'the report');
    const { claims } = await appraiseDevice('D', evidence, context());
    expect(claims.map(brief)).toContain('D gpu.chain refused root-not-pinned');
    expect(claims.map(brief)).toContain('D gpu.signature refused signature-invalid');
  });

  test('a key that signs no reports', async () => {
    const subject: [string, string][] = [[NAME.common, 'GH100 A01 GSP FMC LF']];
    const report = await makeReport(gpu, { nonce });
    for (const key of [{ isRsaPss: true }, { curve: 'P-256' }] as const) {
      const leaf = await makeCertificate({ subject, issuer: gpu.chain[1]!, ...key });
      const chain = [leaf, ...gpu.chain.slice(1)];
      const evidence = await readSingleReport(report, toPem(chain), 'the report');
      const appraised = await appraiseDevice('D', evidence, context());
      expect(appraised.claims.map(brief)).toContain('D gpu.chain verified');
      expect(appraised.claims.map(brief)).toContain('D gpu.signature refused signature-invalid');
      expect(appraised.isAuthentic).toBe(false);
      expect(appraised.pdi).toBeNull();
    }
  });

  test('a key that is no point of its curve', async () => {
    const [leaf, ...upper] = gpu.chain;
    const raw = new Uint8Array(await crypto.subtle.exportKey('raw', leaf!.keys.publicKey));
    const der = leaf!.der.slice();
    const at = der.findIndex((_, i) => equalBytes(der.subarray(i, i + raw.length), raw));
    der[at + raw.length - 1]! ^= 1;
    const report = await makeReport(gpu, { nonce });
    const chain = toPem([{ ...leaf!, der }, ...upper]);
    const evidence = await readSingleReport(report, chain, 'the report');
    const { claims } = await appraiseDevice('D', evidence, context());
    expect(claims.map(brief)).toContain('D gpu.chain refused chain-broken');
    expect(claims.map(brief)).toContain('D gpu.signature refused signature-invalid');
  });

  test('certificates that name no device, or no firmware', async () => {
    const nameless = await makeCertificate({
      subject: [[NAME.common, 'GH100 A01 GSP BROM']],
      issuer: authority.provisioner,
      isCa: true,
    });
    const leaf = await makeCertificate({
      subject: [[NAME.common, 'GH100 A01 GSP FMC LF']],
      issuer: nameless,
    });
    const chain = [leaf, nameless, authority.provisioner, authority.identity, authority.root];
    const { claims, pdi } = await appraise({ ...gpu, chain });
    expect(pdi).toBeNull();
    expect(claims.map(inFull)).toEqual(
      expect.arrayContaining([
        'D gpu.chain chain-broken by vendor-signed [D certificates]',
        'D gpu.identity identity-mismatch by vendor-signed: "unknown" [D report]',
        `D gpu.firmware firmware-mismatch by device-signed: "${'f1'.repeat(48)}" [D report]`,
      ]),
    );
    expect(claims.find(({ kind }) => kind === 'gpu.firmware')!.statement).toBe(
      'its certificate names no firmware',
    );
  });

  test('a switch that is open to the host, and one that reports another identity', async () => {
    const open = withFields(placed(nvswitch), [OPAQUE.switchLock, u16le(0)]);
    expect(problems(await appraise(nvswitch, {}, open))).toEqual([
      'D switch.lock refused mode-refused',
    ]);
    const other = withFields(placed(nvswitch), [OPAQUE.switchPdi, new Uint8Array(8)]);
    const appraised = await appraise(nvswitch, {}, other);
    expect(problems(appraised)).toEqual(['D switch.identity refused identity-mismatch']);
    expect(appraised.pdi).toBeNull();
  });

  test('a device of one kind with the certificate of the other', async () => {
    const chain = await chainWith({ serial: '500123456789ABCDEF' });
    expect(problems(await appraise({ ...gpu, chain }))).toContain(
      'D gpu.identity refused identity-mismatch',
    );
  });

  test('one device that vouches for another', async () => {
    const [leaf, device] = await chainWith({ serial: '41FFFFFFFFFFFFFFFF' }, gpu.chain[1]!);
    const longer = [leaf!, device!, ...gpu.chain.slice(1)];
    expect(problems(await appraise({ ...gpu, chain: longer }))).toContain(
      'D gpu.chain refused chain-broken',
    );
    const shorter = [leaf!, device!, gpu.chain[1]!, ...gpu.chain.slice(3)];
    expect(problems(await appraise({ ...gpu, chain: shorter }))).toContain(
      'D gpu.chain refused chain-broken',
    );
  });
});

/** A leaf and a device certificate of ours, the latter issued by whoever is given. */
async function chainWith(
  names: { readonly serial: string },
  issuer: TestIssuer = authority.provisioner,
): Promise<TestIssuer[]> {
  const subject: [string, string][] = [
    [NAME.serial, names.serial],
    [NAME.common, 'GH100 A01 GSP BROM'],
  ];
  const device = await makeCertificate({ subject, issuer, isCa: true });
  const leaf = await makeCertificate({
    subject: [[NAME.common, 'GH100 A01 GSP FMC LF']],
    issuer: device,
  });
  return [leaf, device, authority.provisioner, authority.identity, authority.root];
}

function placed(device: TestDevice): OpaqueField[] {
  const ports = new Uint8Array(8 * 8 + 64).fill(0xff);
  return [...goodFields(device), [OPAQUE.switchGpuPorts, ports]];
}
