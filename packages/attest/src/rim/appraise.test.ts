import { beforeAll, describe, expect, it } from 'vitest';
import type { Claim } from '../claims/claim.ts';
import type { AppraisalContext, ReferenceSource, RevocationSource } from '../claims/context.ts';
import type { Bytes } from '../core/bytes.ts';
import { parseCertificate } from '../core/certificate.ts';
import { AttestError } from '../core/errors.ts';
import type { DeviceReport } from '../nvidia/device-report.ts';
import { CLAIM_KINDS } from '../policy/kinds.ts';
import { inFull, makeContext, wordless } from '../testing/appraisal.ts';
import {
  editXml,
  makeRim,
  makeRimAuthority,
  type RimAuthority,
  type TestRim,
} from '../testing/rim-authority.ts';
import { appraiseMeasurements, type MeasuredDevice } from './appraise.ts';

const NOW_MS = Date.UTC(2026, 5, 1);
const DRIVER = 'NV_GPU_DRIVER_GH100_1.2.3';
const VBIOS = 'NV_GPU_VBIOS_1_2_3_96';
const digestOf = (byte: number): Bytes => new Uint8Array(48).fill(byte);

let authority: RimAuthority;
beforeAll(async () => {
  authority = await makeRimAuthority();
});

type Measured = Pick<
  DeviceReport,
  'kind' | 'reporter' | 'measurements' | 'driverVersion' | 'vbiosVersion' | 'rimIds' | 'isNvdec0On'
> & { readonly fspUcodeSvn: number | null };

/** The part of a report that measurements are compared by. */
function device(changes: Partial<Measured> = {}, isAuthentic = true): MeasuredDevice {
  const measured: Measured = {
    kind: 'gpu',
    reporter: 'gsp',
    measurements: new Map([0, 1, 2, 3, 35].map((index) => [index, digestOf(index + 1)])),
    driverVersion: '1.2.3',
    vbiosVersion: '96.00.AB',
    rimIds: { driver: [DRIVER], vbios: VBIOS },
    isNvdec0On: true,
    fspUcodeSvn: null,
    ...changes,
  };
  return { subject: 'GPU-0', report: measured as DeviceReport, isAuthentic };
}

const driverRim = (changes: Partial<TestRim> = {}): TestRim => ({
  version: '1.2.3',
  measurements: [0, 1].map((index) => ({ index, alternatives: [digestOf(index + 1)] })),
  ...changes,
});
const vbiosRim = (changes: Partial<TestRim> = {}): TestRim => ({
  version: '96.00.ab',
  measurements: [
    { index: 2, alternatives: [digestOf(99), digestOf(3)] },
    { index: 3, isActive: false, alternatives: [digestOf(99)] },
  ],
  ...changes,
});

async function source(
  driver: TestRim | Bytes | null = driverRim(),
  vbios: TestRim | Bytes | null = vbiosRim(),
): Promise<ReferenceSource> {
  const made = async (one: TestRim | Bytes | null) =>
    one === null || one instanceof Uint8Array ? one : makeRim(authority, one);
  const documents: Record<string, Bytes | null> = {
    [DRIVER]: await made(driver),
    [VBIOS]: await made(vbios),
  };
  return { rim: async (id) => documents[id] ?? null };
}

function context(
  references: ReferenceSource | null,
  changes: Partial<AppraisalContext> = {},
): AppraisalContext {
  const { anchors, ...rest } = makeContext({ nowMs: NOW_MS, references, ...changes });
  return { ...rest, anchors: { ...anchors, nvidiaRim: new Set([authority.rootSha256]) } };
}

const short = ({ subject, kind, status, code, value }: Claim) =>
  [subject, kind, code ?? status, value].filter((part) => part !== undefined).join(' ');
const measured = (claims: readonly Claim[]) =>
  claims.filter(({ kind }) => kind.endsWith('.measurements')).map(short);
const find = (claims: readonly Claim[], kind: string) => claims.find((one) => one.kind === kind)!;

describe('measurements', () => {
  it('match one of the alternatives at every active index', async () => {
    const claims = await appraiseMeasurements([device()], context(await source()));
    expect(claims.map(short)).toEqual([
      ...[0, 1].flatMap((n) => [
        `RIM-${n} rim.chain verified ${n === 0 ? DRIVER : VBIOS}`,
        `RIM-${n} rim.signature verified`,
        `RIM-${n} rim.version verified ${n === 0 ? '1.2.3' : '96.00.AB'}`,
        `RIM-${n} rim.expiry verified`,
        `RIM-${n} rim.revocation unverified`,
      ]),
      'GPU-0 gpu.measurements verified 2 of 2',
      'GPU-0 gpu.measurements verified 1 of 1',
    ]);
  });

  it('of an FSP are not compared, and no reference of its is missing', async () => {
    const none = { driver: [], vbios: null };
    const fsp = device({ reporter: 'fsp', rimIds: none });
    const claims = await appraiseMeasurements([fsp, device()], context(await source()));
    expect(measured(claims).sort()).toEqual([
      'GPU-0 gpu.measurements unverified',
      'GPU-0 gpu.measurements verified 1 of 1',
      'GPU-0 gpu.measurements verified 2 of 2',
    ]);
    const [own] = await appraiseMeasurements([fsp], context(await source()));
    expect(own!.why).toMatch(/^An FSP's references are not read here\. /);
  });

  it('say what they rest on: the report, and the reference that it was compared with', async () => {
    const references = await source(driverRim({ minSvn: 7 }));
    const claims = await appraiseMeasurements([device({ fspUcodeSvn: 9 })], context(references));
    const own = claims.filter(({ subject }) => subject === 'GPU-0');
    expect(own.map(inFull)).toEqual([
      `GPU-0 gpu.measurements verified by device-signed: "2 of 2" [GPU-0 report, RIM ${DRIVER}]`,
      `GPU-0 gpu.svn verified by device-signed: 9 [GPU-0 report, RIM ${DRIVER}]`,
      `GPU-0 gpu.measurements verified by device-signed: "1 of 1" [GPU-0 report, RIM ${VBIOS}]`,
    ]);
    expect(own.map(({ statement }) => statement)).toEqual([
      '2 of 2 measurements match the driver reference',
      'Security version 9 is not below the floor 7',
      '1 of 1 measurements match the VBIOS reference',
    ]);
    const none = await appraiseMeasurements([device()], context(null));
    expect(none.map(inFull)).toEqual([
      'GPU-0 gpu.measurements unverified by operator-asserted [GPU-0 report]',
    ]);
    const missing = await appraiseMeasurements([device()], context(await source(null, null)));
    expect(missing.map(inFull)).toEqual([
      'GPU-0 gpu.measurements reference-missing by device-signed [GPU-0 report]',
      'GPU-0 gpu.measurements reference-missing by device-signed [GPU-0 report]',
    ]);
    for (const kinds of [claims, none, missing]) {
      expect(wordless(kinds)).toEqual([]);
      for (const { kind } of kinds) expect(CLAIM_KINDS).toContain(kind);
    }
  });

  it('of a device that does not say which references are its own are refused', async () => {
    const unsaid = { rimIds: { driver: [], vbios: null }, driverVersion: null, vbiosVersion: null };
    const claims = await appraiseMeasurements([device(unsaid)], context(await source()));
    const why = 'the report does not say which it would be';
    expect(claims.map(({ code, statement }) => [code, statement])).toEqual([
      ['reference-missing', `There is no driver reference: ${why}`],
      ['reference-missing', `There is no VBIOS reference: ${why}`],
    ]);
    // A reference is for a version: a report without one cannot be of it.
    for (const version of [{ driverVersion: null }, { vbiosVersion: null }]) {
      const some = await appraiseMeasurements([device(version)], context(await source()));
      expect(some.map(({ code }) => code)).toContain('firmware-mismatch');
    }
  });

  it('are compared with the first reference of several that there is', async () => {
    const rimIds = { driver: ['NV_GPU_DRIVER_OTHER', DRIVER], vbios: VBIOS };
    const claims = await appraiseMeasurements([device({ rimIds })], context(await source()));
    expect(measured(claims)[0]).toBe('GPU-0 gpu.measurements verified 2 of 2');
    const missing = await appraiseMeasurements([device({ rimIds })], context(await source(null)));
    expect(find(missing, 'gpu.measurements').statement).toBe(
      `There is no driver reference: NV_GPU_DRIVER_OTHER or ${DRIVER} is not known`,
    );
    for (const problem of [new Error('no route'), 'no route']) {
      const broken: ReferenceSource = { rim: () => Promise.reject(problem) };
      const unasked = await appraiseMeasurements([device({ rimIds })], context(broken));
      expect(find(unasked, 'gpu.measurements').statement).toBe(
        'There is no driver reference: NV_GPU_DRIVER_OTHER could not be asked for: no route',
      );
      // It may exist, and say that this firmware is not the vendor's.
      expect(find(unasked, 'gpu.measurements').code).toBe('not-available');
    }
  });

  it('are refused where one differs, which is named', async () => {
    const changed = new Map([...device().report.measurements, [1, digestOf(77)]]);
    const one = device({ measurements: changed });
    const claims = await appraiseMeasurements([one], context(await source()));
    expect(measured(claims)).toEqual([
      'GPU-0 gpu.measurements measurement-mismatch 1 of 2',
      'GPU-0 gpu.measurements verified 1 of 1',
    ]);
    expect(find(claims, 'gpu.measurements').statement).toContain('1 (Measurement_1)');
  });

  it('are refused where one is missing', async () => {
    const one = device({ measurements: new Map([[2, digestOf(3)]]) });
    const claims = await appraiseMeasurements([one], context(await source()));
    expect(measured(claims)[0]).toBe('GPU-0 gpu.measurements measurement-mismatch 0 of 2');
  });

  it('are refused where both references speak for one index', async () => {
    const overlapping = vbiosRim({ measurements: driverRim().measurements.slice(1) });
    const references = await source(driverRim(), overlapping);
    const claims = await appraiseMeasurements([device()], context(references));
    expect(measured(claims)).toEqual([
      'GPU-0 gpu.measurements reference-conflict 2 of 2',
      'GPU-0 gpu.measurements reference-conflict 1 of 1',
    ]);
  });

  it('leave index 35 out where NVDEC0 is off, and there alone', async () => {
    const golden = [...driverRim().measurements, { index: 35, alternatives: [digestOf(99)] }];
    const references = await source(driverRim({ measurements: golden }));
    const off = await appraiseMeasurements([device({ isNvdec0On: false })], context(references));
    expect(measured(off)[0]).toBe('GPU-0 gpu.measurements verified 2 of 2');
    for (const isNvdec0On of [true, null]) {
      const on = await appraiseMeasurements([device({ isNvdec0On })], context(references));
      expect(measured(on)[0]).toBe('GPU-0 gpu.measurements measurement-mismatch 2 of 3');
    }
  });

  it('are refused where a reference names none', async () => {
    const references = await source(driverRim({ measurements: [] }));
    const claims = await appraiseMeasurements([device()], context(references));
    expect(measured(claims)[0]).toBe('GPU-0 gpu.measurements reference-missing 0 of 0');
  });

  it('are refused without a reference, and unverified if none was to be compared', async () => {
    const missing = await appraiseMeasurements([device()], context(await source(null)));
    expect(measured(missing)[0]).toBe('GPU-0 gpu.measurements reference-missing');
    const broken: ReferenceSource = { rim: () => Promise.reject(new Error('no route')) };
    const unasked = await appraiseMeasurements([device()], context(broken));
    expect(find(unasked, 'gpu.measurements').statement).toContain('no route');
    expect(measured(unasked)[0]).toBe('GPU-0 gpu.measurements not-available');
    const none = await appraiseMeasurements([device()], context(null));
    expect(measured(none)).toEqual(['GPU-0 gpu.measurements unverified']);
  });

  it('prove nothing in a report that is refused itself', async () => {
    const claims = await appraiseMeasurements([device({}, false)], context(await source()));
    expect(measured(claims)).toEqual([
      `GPU-0 gpu.measurements unverified`,
      `GPU-0 gpu.measurements unverified`,
    ]);
    expect(find(claims, 'gpu.measurements').why).toMatch(/^The report itself is refused\./);
    const changed = editXml(await makeRim(authority, driverRim()), 'Hash0="02', 'Hash0="4d');
    const other = await appraiseMeasurements([device()], context(await source(changed)));
    expect(find(other, 'gpu.measurements').why).toMatch(/^The reference itself is refused\./);
  });

  it('hold for many devices by one reference each, which is asked for once', async () => {
    const inner = await source();
    const asked: string[] = [];
    const counting: ReferenceSource = {
      rim: (id) => {
        asked.push(id);
        return inner.rim(id);
      },
    };
    const devices = [0, 1, 2].map((n) => ({ ...device(), subject: `GPU-${n}` }));
    const claims = await appraiseMeasurements(devices, context(counting));
    expect(asked.sort()).toEqual([DRIVER, VBIOS].sort());
    expect(measured(claims)).toHaveLength(6);
    expect(claims.filter(({ kind }) => kind === 'rim.signature')).toHaveLength(2);
  });

  it('of a switch are compared with its BIOS reference alone', async () => {
    const one = device({ kind: 'switch', rimIds: { driver: [], vbios: VBIOS } });
    const claims = await appraiseMeasurements([one], context(await source()));
    expect(measured(claims)).toEqual(['GPU-0 switch.measurements verified 1 of 1']);
    const { statement } = find(claims, 'switch.measurements');
    expect(statement).toBe('1 of 1 measurements match the BIOS reference');
    const floored = await source(driverRim(), vbiosRim({ minSvn: 2 }));
    const svn = await appraiseMeasurements([one], context(floored));
    expect(find(svn, 'switch.svn')).toMatchObject({
      code: 'firmware-mismatch',
      statement: 'security version (not reported) is below the floor 2 (FSP_UCODE_SVN)',
    });
    for (const { kind } of svn) expect(CLAIM_KINDS).toContain(kind);
  });
});

describe('security versions', () => {
  it.each([
    [7, 'verified'],
    [8, 'verified'],
    [6, 'firmware-mismatch'],
    [null, 'firmware-mismatch'],
  ] as const)('%s against a floor of 7: %s', async (fspUcodeSvn, expected) => {
    const references = await source(driverRim({ minSvn: 7 }));
    const claims = await appraiseMeasurements([device({ fspUcodeSvn })], context(references));
    const { status, code } = find(claims, 'gpu.svn');
    expect(code ?? status).toBe(expected);
    if (fspUcodeSvn !== 6) return;
    expect(find(claims, 'gpu.svn').statement).toBe(
      'security version 6 is below the floor 7 (FSP_UCODE_SVN)',
    );
  });

  it('are held to the highest of several floors', async () => {
    for (const minSvn of [
      [3, 7],
      [7, 3],
    ]) {
      const references = await source(driverRim({ minSvn }));
      const one = device({ fspUcodeSvn: 5 });
      const claims = await appraiseMeasurements([one], context(references));
      expect(find(claims, 'gpu.svn')).toMatchObject({
        code: 'firmware-mismatch',
        statement: 'security version 5 is below the floor 7 (FSP_UCODE_SVN, FSP_UCODE_SVN)',
      });
    }
  });

  it('are not met by none, where the floor is nothing', async () => {
    const references = await source(driverRim({ minSvn: 0 }));
    const state = async (fspUcodeSvn: number | null) => {
      const claims = await appraiseMeasurements([device({ fspUcodeSvn })], context(references));
      const { code, status } = find(claims, 'gpu.svn');
      return code ?? status;
    };
    expect(await state(0)).toBe('verified');
    expect(await state(null)).toBe('firmware-mismatch');
  });
});

describe('a reference', () => {
  it('that was changed is refused, and not compared with', async () => {
    const good = await makeRim(authority, driverRim());
    const changed = editXml(good, 'ns2:Hash0="02', 'ns2:Hash0="4d');
    const claims = await appraiseMeasurements([device()], context(await source(changed)));
    expect(find(claims, 'rim.signature').code).toBe('signature-invalid');
    expect(measured(claims)[0]).toBe('GPU-0 gpu.measurements unverified');
  });

  it('that another authority signed, flawlessly, is refused for its root', async () => {
    const other = await makeRim(await makeRimAuthority(), driverRim());
    const claims = await appraiseMeasurements([device()], context(await source(other)));
    expect(find(claims, 'rim.chain').code).toBe('root-not-pinned');
    expect(measured(claims)[0]).toBe('GPU-0 gpu.measurements unverified');
  });

  it('that another authority signed under the certificates of ours is refused', async () => {
    const stranger = await makeRimAuthority();
    const mixed = { ...authority, chain: [stranger.chain[0]!, ...authority.chain.slice(1)] };
    const broken = await makeRim(mixed, driverRim());
    const claims = await appraiseMeasurements([device()], context(await source(broken)));
    expect(find(claims, 'rim.chain').code).toBe('chain-broken');
    const [leaf, ...upper] = authority.chain;
    const forged = { ...authority, chain: [{ ...leaf!, keys: stranger.chain[0]!.keys }, ...upper] };
    const signed = await makeRim(forged, driverRim());
    const refused = await appraiseMeasurements([device()], context(await source(signed)));
    expect(find(refused, 'rim.signature').code).toBe('signature-invalid');
  });

  it('of another version is refused, and not compared with', async () => {
    const references = await source(driverRim({ version: '1.2.4' }));
    const claims = await appraiseMeasurements([device()], context(references));
    expect(find(claims, 'rim.version').code).toBe('firmware-mismatch');
    expect(measured(claims)[0]).toBe('GPU-0 gpu.measurements unverified');
  });

  it('of a signer that lapsed is refused for that alone: a policy may tolerate it', async () => {
    authority = await makeRimAuthority('20250101000000');
    const claims = await appraiseMeasurements([device()], context(await source()));
    authority = await makeRimAuthority();
    expect(find(claims, 'rim.expiry').code).toBe('certificate-expired');
    expect(measured(claims)[0]).toBe('GPU-0 gpu.measurements verified 2 of 2');
  });

  it.each([
    ['revoked', 'certificate-revoked'],
    ['unknown', 'revocation-unknown'],
    ['broken', 'revocation-unknown'],
    ['good', 'verified'],
  ] as const)('whose signer is %s: %s', async (status, expected) => {
    const revocation: RevocationSource = {
      async status() {
        if (status === 'broken') throw new AttestError('not-available', 'no answer');
        return status;
      },
    };
    const claims = await appraiseMeasurements([device()], context(await source(), { revocation }));
    const one = find(claims, 'rim.revocation');
    expect(one.code ?? one.status).toBe(expected);
  });

  it('of which any one certificate is revoked or on hold, but the root, is refused', async () => {
    const certificates = await Promise.all(
      authority.chain.map((one) => parseCertificate(one.der, 'a certificate')),
    );
    const asked = new Set<string>();
    for (const status of ['revoked', 'held'] as const) {
      for (const bad of certificates.slice(0, -1)) {
        const revocation: RevocationSource = {
          status: async ({ sha256 }) => {
            asked.add(sha256);
            return sha256 === bad.sha256 ? status : 'good';
          },
        };
        const references = await source();
        const claims = await appraiseMeasurements([device()], context(references, { revocation }));
        const one = find(claims, 'rim.revocation');
        expect(one.code).toBe(status === 'held' ? 'certificate-held' : 'certificate-revoked');
      }
    }
    expect(asked).toEqual(new Set(certificates.slice(0, -1).map(({ sha256 }) => sha256)));
  });
});
