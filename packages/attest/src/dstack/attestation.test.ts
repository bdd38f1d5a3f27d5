import { beforeAll, describe, expect, test } from 'vitest';
import type { Claim } from '../claims/claim.ts';
import { type Bytes, concatBytes, fromHex, toHex, utf8 } from '../core/bytes.ts';
import { sha256Hex } from '../core/digest.ts';
import { readTdxCollateral } from '../cpu/tdx-collateral.ts';
import { BUILT_IN_POLICIES } from '../policy/built-in.ts';
import { toPem } from '../testing/certificates.ts';
import {
  packed,
  packedAttestation,
  scaleAttestation,
  type TestAttestation,
} from '../testing/dstack-attestation.ts';
import {
  makeFirmwareEvent,
  makeRegisters,
  makeRuntimeEvent,
  type TestEvent,
} from '../testing/event-log.ts';
import {
  type IntelAuthority,
  makeIntelAuthority,
  makeTdxCollateral,
} from '../testing/quote-authority.ts';
import { makeTdxQuote } from '../testing/quote-report.ts';
import { type AmdAuthority, makeAmdAuthority, makeSnpReport } from '../testing/snp-authority.ts';
import { tdxContext } from '../testing/tdx-appraisal.ts';
import { verifyEvidence } from '../verify/verify.ts';
import { appraiseDstackReport } from './app.ts';
import { type DstackAttestation, readDstackAttestation } from './attestation.ts';
import { readMsgpack } from './msgpack.ts';

const IMAGE = '1a'.repeat(32);
const MEASUREMENT = { measurement: 'o2d2', checksum_file: 'OGM5' };
const CONFIG = JSON.stringify({
  os_image_hash: IMAGE,
  cpu_count: 2,
  memory_size: 4096,
  image: 'dstack-0.6.0',
  qemu_version: '8.2.2',
  tdx_attestation_variant: 'lite',
  tdx_measurement: MEASUREMENT,
  spec_version: 1,
});
const CONFIGURATION = JSON.stringify({
  app_id: 'a1'.repeat(20),
  compose_hash: 'c0'.repeat(32),
  instance_id: '1d'.repeat(20),
  key_provider: 'kms',
  key_provider_id: '00ff',
  version: 3,
});

let intel: IntelAuthority;
let amd: AmdAuthority;
let tdx: TestAttestation;
let snp: TestAttestation;

beforeAll(async () => {
  [intel, amd] = await Promise.all([makeIntelAuthority(), makeAmdAuthority()]);
  const runtime = await Promise.all([
    makeRuntimeEvent('app-id', new Uint8Array(20).fill(0xa1)),
    makeRuntimeEvent('os-image-hash', fromHex('2b'.repeat(32), 'image')),
    makeRuntimeEvent('system-ready', new Uint8Array(0)),
  ]);
  const firmware = [makeFirmwareEvent(0, 1), makeFirmwareEvent(1, 2), makeFirmwareEvent(0, 3)];
  const quote = await makeTdxQuote(intel, {
    rtmrs: await makeRegisters([...firmware, ...runtime]),
  });
  // As dstack cuts it down: of RTMR0 a few events alone, and no digests of runtime events.
  const bare = runtime.map((one): TestEvent => ({ ...one, digest: '' }));
  const events = [firmware[2]!, ...bare];
  tdx = { platform: { kind: 'tdx', quote, events }, runtime: bare, config: CONFIG };
  snp = await snpOf(CONFIGURATION);
});

async function snpOf(configuration: string, bound = configuration): Promise<TestAttestation> {
  const domain = utf8('dstack-mr-config-v3:\0');
  const hostData = fromHex(await sha256Hex(concatBytes(domain, utf8(bound))), 'host data');
  const report = await makeSnpReport(amd, { hostData });
  const certificates = [amd.ask, amd.key].map((one) => utf8(toPem([one])));
  const platform = { kind: 'sev-snp', report, certificates, configuration } as const;
  return { platform, runtime: [], config: CONFIG };
}

const FORMS: [string, (parts: TestAttestation) => string][] = [
  ['SCALE', scaleAttestation],
  ['MessagePack', packedAttestation],
  ['MessagePack with lists for bytes', (parts) => packedAttestation(parts, true)],
];

function asTdx(read: DstackAttestation) {
  if (read.tee !== 'tdx') throw new Error('it is of TDX');
  return read.report;
}

function eventsOf({ platform }: TestAttestation): readonly TestEvent[] {
  return platform.kind === 'tdx' ? platform.events : [];
}

function withPlatform(parts: TestAttestation, changes: object): TestAttestation {
  return { ...parts, platform: { ...parts.platform, ...changes } as TestAttestation['platform'] };
}

describe.each(FORMS)('an attestation in %s', (_, write) => {
  async function claimsOf(parts: TestAttestation): Promise<Map<string, Claim>> {
    const report = asTdx(await readDstackAttestation(write(parts)));
    const collateral = await readTdxCollateral(await makeTdxCollateral(intel));
    const none = { compose: null, gpuEvidence: null };
    const claims = await appraiseDstackReport(report, collateral, none, tdxContext(intel));
    return new Map(claims.map((claim) => [claim.kind, claim]));
  }

  test('of TDX proves the app by RTMR3, and says that no more was replayed', async () => {
    const claims = await claimsOf(tdx);
    expect(claims.get('cpu.quote')?.status).toBe('verified');
    expect(claims.get('cpu.eventLog')).toMatchObject({
      status: 'verified',
      statement: '3 events lead to RTMR3, the rest of the log was left out',
    });
    expect(claims.get('app.identity')).toMatchObject({
      status: 'depends-on',
      dependsOn: ['cpu.system'],
      value: 'a1'.repeat(20),
    });
  });

  test('of TDX whose event names another image than its host states is no attack', async () => {
    const image = (await claimsOf(tdx)).get('app.osImage');
    expect(image).toMatchObject({ status: 'depends-on', value: '2b'.repeat(32) });
    expect(image!.statement).toMatch(new RegExp(`, while the host states ${IMAGE}$`));
  });

  test('of TDX with another log than was measured is refused', async () => {
    const events = eventsOf(tdx);
    const other = { ...events[1]!, event_payload: 'bb'.repeat(20) };
    const changed = withPlatform(tdx, { events: [events[0]!, other, ...events.slice(2)] });
    const claims = await claimsOf(changed);
    expect(claims.get('cpu.eventLog')?.code).toBe('event-log-mismatch');
    expect(claims.get('app.identity')?.status).toBe('unverified');
  });

  test('of TDX takes its runtime events where the log has none of them', async () => {
    const events = eventsOf(tdx);
    const claims = await claimsOf(withPlatform(tdx, { events: events.slice(0, 1) }));
    expect(claims.get('cpu.eventLog')?.status).toBe('verified');
    expect(claims.get('app.identity')?.status).toBe('depends-on');
  });

  test('gives what launch measurements are computed from', async () => {
    for (const config of [CONFIG, JSON.stringify({ vm_config: CONFIG, host: 'x' })]) {
      const { vmConfig } = asTdx(await readDstackAttestation(write({ ...tdx, config })));
      expect(vmConfig).toMatchObject({
        image: 'dstack-0.6.0',
        qemu_version: '8.2.2',
        tdx_attestation_variant: 'lite',
        tdx_measurement: MEASUREMENT,
      });
    }
    const { vmConfig } = asTdx(await readDstackAttestation(write({ ...tdx, config: '' })));
    expect(vmConfig).toBeNull();
  });

  async function verifySnp(parts: TestAttestation, more: Record<string, Bytes> = {}) {
    const files = { 'a.json': utf8(write(parts)), 'ark.der': amd.ark.der, ...more };
    const { nowMs, anchors, chains } = tdxContext(intel);
    const { claims, unreadable } = await verifyEvidence({
      input: 'test',
      files: Object.entries(files).map(([name, bytes]) => ({ name, bytes, isNamed: true })),
      policy: BUILT_IN_POLICIES.get('evidence')!,
      context: {
        nowMs,
        chains,
        anchors: { ...anchors, amdArk: new Set([amd.arkSha256]) },
        nonce: null,
        references: null,
        revocation: null,
        collateral: null,
        tokenKeys: null,
      },
    });
    expect(unreadable).toEqual([]);
    return new Map(claims.map((claim) => [claim.kind, claim]));
  }

  test('of SEV-SNP proves the app by the host data of its report', async () => {
    const claims = await verifySnp(snp);
    const app = [...claims.values()].filter(({ kind }) => kind.startsWith('app.'));
    expect(app.map(({ kind, status, value }) => [kind, status, value])).toEqual([
      ['app.compose', 'depends-on', 'c0'.repeat(32)],
      ['app.identity', 'depends-on', 'a1'.repeat(20)],
      ['app.instance', 'depends-on', '1d'.repeat(20)],
      ['app.keyProvider', 'depends-on', ['name=kms', 'id=00ff']],
      ['app.machine', 'unverified', ['cpus=2', 'memoryBytes=4096', 'gpus=0', 'switches=0']],
    ]);
    expect(claims.get('cpu.quote')?.status).toBe('verified');
  });

  test('of SEV-SNP with another configuration, or none that can be read, is refused', async () => {
    const other = CONFIGURATION.replace('a1', 'a2');
    expect((await verifySnp(await snpOf(other, CONFIGURATION))).get('app.identity')?.code).toBe(
      'binding-mismatch',
    );
    const unread = await verifySnp(await snpOf('{"version":4}'));
    expect(unread.get('app.compose')?.code).toBe('malformed');
    const compose = utf8('{"manifest_version":2,"runner":"docker-compose"}');
    const given = await verifySnp(snp, { 'compose.json': compose });
    expect(given.get('app.compose')?.code).toBe('binding-mismatch');
    expect(given.get('app.identity')?.status).toBe('depends-on');
  });

  test('that names a register that does not exist, or half a digest, cannot be read', async () => {
    const events = eventsOf(tdx);
    for (const change of [{ imr: 4 }, { digest: '00' }]) {
      const changed = withPlatform(tdx, { events: [{ ...events[0]!, ...change }] });
      const read = readDstackAttestation(write(changed));
      await expect(read).rejects.toMatchObject({ code: 'malformed' });
    }
  });
});

describe('what cannot be read', () => {
  const hexOf = (json: string) => (JSON.parse(json) as { attestation: string }).attestation;
  const reading = (attestation: string) => readDstackAttestation(JSON.stringify({ attestation }));
  const encode = (value: unknown) => toHex(packed(value));

  test.each<[string, () => string, string]>([
    ['nothing', () => '', 'malformed'],
    ['a byte more in SCALE', () => `${hexOf(scaleAttestation(tdx))}00`, 'trailing-bytes'],
    ['a byte less in SCALE', () => hexOf(scaleAttestation(tdx)).slice(0, -2), 'malformed'],
    ['a byte more in MessagePack', () => `${hexOf(packedAttestation(tdx))}00`, 'trailing-bytes'],
    ['a byte less in MessagePack', () => hexOf(packedAttestation(tdx)).slice(0, -2), 'malformed'],
    ['a Nitro enclave in SCALE', () => '0002b946', 'unsupported-version'],
    ['a platform that does not exist', () => '0009', 'unsupported-version'],
    ['a length that is not the shortest', () => '00000100', 'malformed'],
    ['a length beyond all bounds', () => '00000302000000', 'too-large'],
    [
      'a Google VM in MessagePack',
      () =>
        encode({
          version: 1,
          platform: { kind: 'gcp-tdx', data: {} },
          stack: {
            kind: 'dstack',
            data: { report_data: new Uint8Array(64), runtime_events: [], config: '' },
          },
        }),
      'unsupported-version',
    ],
    ['another version', () => encode({ version: 2 }), 'malformed'],
    ['a list of bytes that are none', () => encode({ version: 1, platform: [256] }), 'malformed'],
  ])('%s', async (_, attestation, code) => {
    await expect(reading(attestation())).rejects.toMatchObject({ code });
  });

  test.each([
    ['a key twice', '82a16101a16102', 'malformed'],
    ['a key that is no text', '810101', 'malformed'],
    ['a float', 'ca00000000', 'malformed'],
    ['an extension', 'd40000', 'malformed'],
    ['too large a number', 'cfffffffffffffffff', 'malformed'],
    ['text that is none', 'a1ff', 'malformed'],
    ['lists in lists in lists', '91'.repeat(20), 'too-large'],
    ['a value more', '0101', 'trailing-bytes'],
  ])('MessagePack with %s', (_, hex, code) => {
    const expected = expect.objectContaining({ code });
    expect(() => readMsgpack(fromHex(hex, 'test'), 'test')).toThrow(expected);
  });

  test.each([
    ['c0', null],
    ['c2', false],
    ['c3', true],
    ['7f', 127],
    ['ff', -1],
    ['cd0100', 256],
    ['a3616263', 'abc'],
    ['d903616263', 'abc'],
    ['9201c402ffee', [1, Uint8Array.of(0xff, 0xee)]],
    ['dc00020102', [1, 2]],
    ['dd000000020102', [1, 2]],
    ['81a16105', { a: 5 }],
    ['de0001a16105', { a: 5 }],
    ['df00000001a16105', { a: 5 }],
    ['da0003616263', 'abc'],
    ['db00000003616263', 'abc'],
    ['c50001ff', Uint8Array.of(0xff)],
    ['c600000001ff', Uint8Array.of(0xff)],
    ['ce00010000', 65_536],
    ['cf0000000100000000', 2 ** 32],
  ])('but MessagePack %s can', (hex, value) => {
    expect(readMsgpack(fromHex(hex, 'test'), 'test')).toEqual(value);
  });
});
