import { beforeAll, describe, expect, test } from 'vitest';
import type { Claim } from '../claims/claim.ts';
import { type Bytes, fromHex, toHex, utf8 } from '../core/bytes.ts';
import { ChainCache } from '../core/chain.ts';
import { sha256Hex } from '../core/digest.ts';
import { readTdxCollateral } from '../cpu/tdx-collateral.ts';
import { policySchema } from '../policy/policy.ts';
import { settle } from '../policy/settle.ts';
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
  QUOTE_NOW_MS,
} from '../testing/quote-authority.ts';
import { makeTdxQuote } from '../testing/quote-report.ts';
import { appraiseDstackReport } from './app.ts';
import { APP_CLAIM_KINDS } from './kinds.ts';
import type { AppDocuments } from './measured.ts';
import { readDstackReport } from './report.ts';

const COMPOSE = '{"name":"app","requirements":{"gpu_policy":{"attest_gpu":true}}}';
const GPU_EVIDENCE = utf8('what the verifier wrote');
const IMAGE = '1a'.repeat(32);
const NONE: AppDocuments = { compose: null, gpuEvidence: null };

let authority: IntelAuthority;
let collateral: string;
let composeHash: Bytes;
let gpuPolicyHash: Bytes;
beforeAll(async () => {
  authority = await makeIntelAuthority();
  collateral = await makeTdxCollateral(authority);
  composeHash = fromHex(await sha256Hex(utf8(COMPOSE)), 'hash');
  gpuPolicyHash = fromHex(await sha256Hex(utf8('{"attest_gpu":true}')), 'hash');
});

async function gpuEvent(changes: Record<string, unknown> = {}): Promise<Bytes> {
  const event = {
    version: 2,
    provider: 'nvidia',
    devices: 1,
    cc_mode: 'on',
    devtools: false,
    evidence_sha256: await sha256Hex(GPU_EVIDENCE),
    ...changes,
  };
  return utf8(JSON.stringify(event));
}

/** What a guest measures, up to its readiness and after it. */
async function makeLog(
  boot: readonly (readonly [string, Uint8Array])[],
  later: readonly (readonly [string, Uint8Array])[] = [],
  version: 1 | 2 = 1,
): Promise<TestEvent[]> {
  const events = [...boot, ['system-ready', new Uint8Array(0)] as const, ...later];
  const runtime = await Promise.all(
    events.map(([name, payload]) => makeRuntimeEvent(name, payload, version)),
  );
  return [makeFirmwareEvent(0, 7), makeFirmwareEvent(1, 8), makeFirmwareEvent(0, 9), ...runtime];
}

async function goodBoot(): Promise<[string, Uint8Array][]> {
  return [
    ['system-preparing', new Uint8Array(0)],
    ['app-id', new Uint8Array(20).fill(0xa1)],
    ['compose-hash', composeHash],
    ['gpu-policy-hash', gpuPolicyHash],
    ['gpu-attestation', await gpuEvent()],
    ['instance-id', new Uint8Array(20).fill(0x1d)],
    ['boot-mr-done', new Uint8Array(0)],
    ['os-image-hash', fromHex(IMAGE, 'image')],
    ['key-provider', utf8('{"name":"kms","id":"00ff"}')],
  ];
}

interface Case {
  readonly log: readonly TestEvent[];
  /** What the registers come from; the log itself if it is left out. */
  readonly measured?: readonly TestEvent[];
  readonly vmConfig?: object | null;
  readonly documents?: AppDocuments;
  /** Whether its operating system is the one that the policy expects; it is, if left out. */
  readonly isSystemExpected?: boolean;
}

async function appraise(wanted: Case) {
  const { log, measured = log, vmConfig, documents, isSystemExpected = true } = wanted;
  const config = vmConfig === undefined ? { os_image_hash: IMAGE, num_gpus: 1 } : vmConfig;
  const quote = await makeTdxQuote(authority, { rtmrs: await makeRegisters(measured) });
  const json = JSON.stringify({
    quote: toHex(quote),
    event_log: JSON.stringify(log),
    report_data: '00'.repeat(64),
    vm_config: config === null ? '' : JSON.stringify(config),
  });
  const claims = await appraiseDstackReport(
    await readDstackReport(json),
    await readTdxCollateral(collateral),
    documents ?? { compose: COMPOSE, gpuEvidence: GPU_EVIDENCE },
    {
      nowMs: QUOTE_NOW_MS,
      anchors: {
        nvidiaDevice: new Set(),
        nvidiaRim: new Set(),
        intelSgx: new Set([authority.rootSha256]),
        amdArk: new Set(),
      },
      chains: new ChainCache(),
      nonce: null,
      references: null,
      revocation: null,
      expectedReportData: null,
    },
  );
  const { value: system } = claims.find(({ kind }) => kind === 'cpu.system')!;
  const includes = isSystemExpected ? system : ['mrtd=00'];
  const policy = policySchema.parse({
    version: 2,
    name: 'test',
    minimum: [{ app: 1 }],
    require: { cpu: { 'cpu.system': { includes } } },
  });
  return new Map(settle(claims, policy).map((claim) => [claim.kind, claim]));
}

function appFaults(claims: Map<string, Claim>): Record<string, string> {
  const found = [...claims.values()].filter(
    ({ kind, status }) => status !== 'verified' && (kind.startsWith('app.') || kind === LOG),
  );
  return Object.fromEntries(found.map(({ kind, status, code }) => [kind, code ?? status]));
}

const LOG = 'cpu.eventLog';
const MACHINE = { 'app.machine': 'unverified' };

describe('an app that dstack runs', () => {
  test.each([1, 2] as const)('is verified, by events of version %i', async (version) => {
    const claims = await appraise({ log: await makeLog(await goodBoot(), [], version) });
    expect(appFaults(claims)).toEqual(MACHINE);
    expect(claims.get('app.identity')?.value).toBe('a1'.repeat(20));
    expect(claims.get('app.compose')?.value).toBe(toHex(composeHash));
    expect(claims.get('app.keyProvider')?.value).toEqual(['name=kms', 'id=00ff']);
    expect(claims.get('app.osImage')?.value).toBe(IMAGE);
    expect(claims.get('app.gpuBoot')?.value).toBe(1);
    for (const kind of claims.keys()) {
      if (kind.startsWith('app.')) expect(APP_CLAIM_KINDS).toContain(kind);
    }
  });

  test('depends on its operating system, which nobody expects, in its status', async () => {
    const claims = await appraise({
      log: await makeLog(await goodBoot()),
      isSystemExpected: false,
    });
    const own = [...claims.values()].filter(({ kind }) => kind.startsWith('app.'));
    const open = own.filter(({ kind }) => kind !== 'app.machine');
    expect(open.length).toBeGreaterThan(5);
    for (const claim of open) {
      expect(claim).toMatchObject({ status: 'depends-on', dependsOn: ['cpu.system'] });
      expect(claim.why).toMatch(/Any operating system can measure any app/);
    }
    // The log itself is the CPU's word, whoever extended the registers.
    expect(claims.get(LOG)?.status).toBe('verified');
  });

  test('is verified from payloads alone, when digests are left out', async () => {
    const whole = await makeLog(await goodBoot());
    const log = whole.map((event) => (event.imr === 3 ? { ...event, digest: '' } : event));
    expect(appFaults(await appraise({ log, measured: whole }))).toEqual(MACHINE);
  });

  test('lists the scripts that ran before it, in order', async () => {
    const boot = await goodBoot();
    boot.splice(
      3,
      0,
      ['init-script-hash', Uint8Array.of(1)],
      ['init-script-hash', Uint8Array.of(2)],
    );
    const claims = await appraise({ log: await makeLog(boot) });
    expect(claims.get('app.initScripts')?.value).toEqual(['01', '02']);
  });

  test('whose image the host alone states is said to be unverified', async () => {
    const boot = (await goodBoot()).filter(([name]) => name !== 'os-image-hash');
    const image = (await appraise({ log: await makeLog(boot) })).get('app.osImage');
    expect(image).toMatchObject({
      status: 'unverified',
      voucher: 'operator-asserted',
      value: IMAGE,
    });
  });

  test('of another image than the host states is of the image that was measured', async () => {
    const boot = new Map(await goodBoot()).set('os-image-hash', new Uint8Array(32));
    const image = (await appraise({ log: await makeLog([...boot]) })).get('app.osImage');
    expect(image).toMatchObject({ status: 'verified', value: '00'.repeat(32) });
    expect(image!.statement).toContain(`, while the host states ${IMAGE}`);
  });

  test('without GPUs needs no evidence of GPUs', async () => {
    const boot = (await goodBoot()).filter(([name]) => !name.startsWith('gpu-'));
    const claims = await appraise({ log: await makeLog(boot), vmConfig: null, documents: NONE });
    expect(appFaults(claims)).toEqual({});
    expect(claims.has('app.gpuBoot')).toBe(false);
  });
});

describe('a log is refused', () => {
  const edits: [string, (log: TestEvent[]) => TestEvent[]][] = [
    ['with an edited payload', (log) => edited(log, 'app-id', { event_payload: 'bb'.repeat(20) })],
    ['with an edited name', (log) => edited(log, 'system-ready', { event: 'system-steady' })],
    ['with an event left out', (log) => log.filter(({ event }) => event !== 'instance-id')],
    ['with an event more', (log) => [...log, log.at(-1)!]],
    ['in another order', (log) => [...log.slice(0, 4), log[5]!, log[4]!, ...log.slice(6)]],
    ['of another version', (log) => edited(log, 'app-id', { version: 2 })],
    ['that hides what an event is', (log) => edited(log, 'system-ready', { event_type: 5 })],
    [
      'that gives a firmware event no digest',
      (log) => [{ ...log[0]!, digest: '' }, ...log.slice(1)],
    ],
  ];
  test.each(edits)('%s', async (_, edit) => {
    const measured = await makeLog(await goodBoot());
    const claims = await appraise({ log: edit(measured), measured });
    expect(claims.get(LOG)?.code).toBe('event-log-mismatch');
    const said = [...claims.values()].filter(({ kind }) => kind.startsWith('app.'));
    expect(said.filter(({ status }) => status === 'verified')).toEqual([]);
  });
});

describe('what the app measures itself', () => {
  test('does not count: evidence of GPUs after it began', async () => {
    const boot = (await goodBoot()).filter(([name]) => name !== 'gpu-attestation');
    const log = await makeLog(boot, [['gpu-attestation', await gpuEvent()]]);
    const claims = await appraise({ log });
    expect(appFaults(claims)).toEqual({ ...MACHINE, 'app.gpuBoot': 'unverified' });
    expect(claims.get('app.gpuBoot')?.why).toContain('after the app began');
  });

  test('does not count: another identity', async () => {
    const log = await makeLog(await goodBoot(), [['app-id', new Uint8Array(20).fill(0xee)]]);
    const claims = await appraise({ log });
    expect(appFaults(claims)).toEqual(MACHINE);
    expect(claims.get('app.identity')?.value).toBe('a1'.repeat(20));
  });

  test('cannot be told apart without the event that the guest was ready', async () => {
    const log = (await makeLog(await goodBoot())).filter(({ event }) => event !== 'system-ready');
    const claims = await appraise({ log });
    expect(claims.get(LOG)?.status).toBe('verified');
    expect(claims.get('app.identity')?.status).toBe('unverified');
  });
});

describe('a boot is refused', () => {
  const edits: [string, (boot: Map<string, Uint8Array>) => unknown, string, string][] = [
    [
      'whose GPU was in devtools mode',
      async (boot) => boot.set('gpu-attestation', await gpuEvent({ devtools: true })),
      'app.gpuBoot',
      'devtools-enabled',
    ],
    [
      'whose GPU was not confidential',
      async (boot) => boot.set('gpu-attestation', await gpuEvent({ cc_mode: 'off' })),
      'app.gpuBoot',
      'mode-refused',
    ],
    [
      'that saw other GPUs than the host states',
      async (boot) => boot.set('gpu-attestation', await gpuEvent({ devices: 2 })),
      'app.gpuBoot',
      'set-incomplete',
    ],
    [
      'that saw other evidence of GPUs',
      async (boot) =>
        boot.set('gpu-attestation', await gpuEvent({ evidence_sha256: '00'.repeat(32) })),
      'app.gpuBoot',
      'binding-mismatch',
    ],
    [
      'whose evidence of GPUs cannot be read',
      (boot) => boot.set('gpu-attestation', utf8('{"version":3}')),
      'app.gpuBoot',
      'malformed',
    ],
    [
      'of another compose file',
      (boot) => boot.set('compose-hash', new Uint8Array(32)),
      'app.compose',
      'binding-mismatch',
    ],
    [
      'with another policy for GPUs',
      (boot) => boot.set('gpu-policy-hash', new Uint8Array(32)),
      'app.gpuPolicy',
      'binding-mismatch',
    ],
    [
      'whose key provider cannot be read',
      (boot) => boot.set('key-provider', utf8('kms')),
      'app.keyProvider',
      'malformed',
    ],
  ];
  test.each(edits)('%s', async (_, edit, kind, code) => {
    const boot = new Map(await goodBoot());
    await edit(boot);
    const claims = await appraise({ log: await makeLog([...boot]) });
    expect(appFaults(claims)).toEqual({ ...MACHINE, [kind]: code });
  });

  test('that measured its image twice', async () => {
    const log = await makeLog([...(await goodBoot()), ['os-image-hash', new Uint8Array(32)]]);
    expect(appFaults(await appraise({ log }))).toEqual({
      ...MACHINE,
      'app.osImage': 'event-log-mismatch',
    });
  });

  test('that measured the app twice', async () => {
    const log = await makeLog([...(await goodBoot()), ['app-id', new Uint8Array(20)]]);
    expect(appFaults(await appraise({ log }))).toEqual({
      ...MACHINE,
      'app.identity': 'event-log-mismatch',
    });
  });

  test('with a name that can hide another event', async () => {
    const log = await makeLog([...(await goodBoot()), ['app-id:', new Uint8Array(20)]]);
    const claims = await appraise({ log });
    expect(claims.get(LOG)?.status).toBe('verified');
    expect(claims.get('app.identity')?.code).toBe('event-log-mismatch');
  });
});

describe('reading', () => {
  test.each([
    ['a log that is no list', '{}'],
    ['a register that does not exist', '[{"imr":4,"event_type":1,"event":"","event_payload":""}]'],
    ['an odd payload', '[{"imr":3,"event_type":1,"event":"","event_payload":"0"}]'],
    [
      'a digest of another length',
      '[{"imr":3,"event_type":1,"digest":"00","event":"","event_payload":""}]',
    ],
    ['an unknown field', '[{"imr":3,"event_type":1,"event":"","event_payload":"","x":1}]'],
  ])('%s is refused', async (_, event_log) => {
    const quote = toHex(await makeTdxQuote(authority));
    const read = readDstackReport(JSON.stringify({ quote, event_log }));
    await expect(read).rejects.toMatchObject({ code: 'malformed' });
  });
});

function edited(log: TestEvent[], event: string, changes: Partial<TestEvent>): TestEvent[] {
  return log.map((one) => (one.event === event ? { ...one, ...changes } : one));
}
