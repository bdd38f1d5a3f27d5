import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { canonicalBytes, type Policy, readNoteKey, readPolicy } from '@bridgekeeper/attest';
import {
  makeBoard,
  makeBoardReports,
  makeDeviceAuthority,
  makeEvidenceItem,
  makeIntelAuthority,
  makeLogProof,
  makeNoteSigner,
  makeTdxCollateral,
  makeTdxQuote,
  QUOTE_NOW_MS,
} from '@bridgekeeper/attest/testing';
import { logKeyReportData } from '@bridgekeeper/fabric';
import { afterAll, describe, expect, test } from 'vitest';
import { runCli } from '../cli/program.ts';
import { testIo } from '../testing/test-io.ts';
import type { FabricLogGiven } from './fabric-log.ts';
import { runVerify } from './run.ts';

const scratch = mkdtempSync(join(tmpdir(), 'verify-fabric-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const inScratch = (name: string) => join(scratch, name);

const devices = await makeDeviceAuthority();
const intel = await makeIntelAuthority();
const log = await makeNoteSigner('bk/host-1/fabric', 1);
const witness = await makeNoteSigner('witness.example', 4);
const NOW_SECONDS = Math.floor(QUOTE_NOW_MS / 1000);
const anchors = {
  nvidiaDevice: devices.rootSha256,
  nvidiaRim: new Set<string>(),
  intelSgx: new Set([intel.rootSha256]),
  amdArk: new Set<string>(),
};
const board = await makeBoard(devices, 1);
const nonce = new Uint8Array(randomBytes(32));
const items = (await makeBoardReports(board, nonce)).map(({ device, report }) =>
  makeEvidenceItem(device, report),
);
writeFileSync(inScratch('devices.json'), JSON.stringify(items));
writeFileSync(inScratch('collateral.json'), await makeTdxCollateral(intel));
const quoteFor = async (name: string, vkey: string) => {
  const quote = await makeTdxQuote(intel, { reportData: logKeyReportData(vkey) });
  writeFileSync(inScratch(name), quote);
  return [inScratch(name), inScratch('collateral.json')];
};
const QUOTE = await quoteFor('quote.bin', log.vkey);
const OTHER_QUOTE = await quoteFor('other.bin', witness.vkey);

const MINE = { tenant: 'aurora', tenancy: 'chat-a', salt: 'ab'.repeat(32) };
const commitmentOf = ({ tenant, tenancy, salt }: typeof MINE) =>
  createHash('sha256').update(`fabric tenancy v1\n${salt}\n${tenant}\n${tenancy}\n`).digest('hex');
const ALL = [1, 2, 3, 4, 5, 6, 7, 8];

interface Story {
  readonly grade?: string;
  readonly lastGrade?: string;
  readonly identities?: readonly string[];
  readonly fmVersion?: string | null;
  /** Entries behind the tenant's. */
  readonly more?: readonly object[];
}

/** A log of one tenancy on all modules, in its documented form. */
function entriesOf({ grade = 'host', lastGrade = grade, ...story }: Story): object[] {
  const identities = story.identities ?? board.gpus.map(({ pdi }) => pdi);
  const tenancy = { commitment: commitmentOf(MINE), epoch: 1, modules: ALL, partition: 0 };
  const change = (of: string) => [
    { kind: 'intent', change: of, tenancy },
    { kind: 'fact', change: of, tenancy },
  ];
  const fmVersion = story.fmVersion === undefined ? null : story.fmVersion;
  const said = [
    { kind: 'agent-started', agentVersion: '1', fmVersion, driverVersion: null },
    { kind: 'devices', devices: identities.map((identity, i) => ({ module: i + 1, identity })) },
    { kind: 'table', digest: 'd', partitions: [{ id: 0, modules: ALL }] },
    ...['claim', 'fence', 'sanitize', 'activate'].flatMap(change),
    ...(story.more ?? []),
  ];
  const head = { host: 'host-1', bootId: 'boot', atMs: 1 };
  return said.map((entry, i) => ({
    ...head,
    grade: i === said.length - 1 ? lastGrade : grade,
    ...entry,
  }));
}

async function writeLog(name: string, entries: readonly object[]): Promise<string> {
  const bodies = entries.map((entry) => canonicalBytes(entry));
  const records = bodies.map((body) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(body.length);
    const leaf = createHash('sha256').update(Buffer.of(0)).update(body).digest();
    return Buffer.concat([length, leaf, body]);
  });
  mkdirSync(inScratch(name), { recursive: true });
  writeFileSync(join(inScratch(name), 'entries'), Buffer.concat(records));
  const proof = await proofOf(entries, entries.length - 1);
  writeFileSync(join(inScratch(name), 'checkpoint'), proof.slice(proof.indexOf('\n\n') + 2));
  return inScratch(name);
}

const proofOf = (entries: readonly object[], index: number) =>
  makeLogProof(entries.map(canonicalBytes), index, log, [witness], NOW_SECONDS - 60);

const policyOf = (require: object, minimum: object): Policy =>
  readPolicy(JSON.stringify({ version: 2, name: 'ours', minimum: [minimum], require }), 'ours');
const EIGHT = { gpu: 8 };
/** What makeTdxQuote's VM measured. */
const VM = policyOf({ cpu: { 'cpu.launch': { oneOf: ['3d'.repeat(48)] } } }, { cpu: 1 });
const OTHER_VM = policyOf({ cpu: { 'cpu.launch': { oneOf: ['00'.repeat(48)] } } }, { cpu: 1 });

let logs = 0;
async function verify(
  story: Story,
  more: Partial<FabricLogGiven> = {},
  policy = policyOf({}, EIGHT),
) {
  logs += 1;
  const place = more.place ?? (await writeLog(`log-${logs}`, entriesOf(story)));
  const result = await runVerify({
    inputs: [inScratch('devices.json')],
    policy,
    atMs: QUOTE_NOW_MS,
    nonce: null,
    isOffline: true,
    rimFolder: undefined,
    tokenKeys: null,
    apiKey: undefined,
    environment: {},
    anchors,
    fabricLog: {
      trust: {
        log: await readNoteKey(log.vkey),
        witnesses: [await readNoteKey(witness.vkey)],
        witnessesMin: 1,
      },
      vkey: log.vkey,
      earlier: [],
      openings: JSON.stringify([MINE]),
      quote: null,
      ...more,
      place,
    },
  });
  const ours = result.claims.filter(({ subject }) => subject === 'FABRIC');
  const claims = Object.fromEntries(
    ours.map(({ kind, status, voucher }) => [kind.slice(7), `${status}, ${voucher}`]),
  );
  return { claims, verdict: result.verdict.result, ours };
}

const ASSERTED = 'unverified, operator-asserted';

test('a log is compared with devices and wiring that are signed', async () => {
  const { claims, verdict, ours } = await verify({ fmVersion: '590.12' });
  expect(claims).toMatchObject({
    log: ASSERTED,
    key: ASSERTED,
    seen: ASSERTED,
    exclusive: ASSERTED,
    activated: ASSERTED,
    reset: ASSERTED,
    devices: 'verified, device-signed',
    count: 'verified, device-signed',
    links: ASSERTED,
    remapTable: ASSERTED,
  });
  expect(ours.find(({ kind }) => kind === 'fabric.seen')?.value).toBe(60);
  expect(verdict).toBe('verified');
});

describe('what the operator says', () => {
  const proven = { quote: { paths: QUOTE, policy: VM } };
  const NEVER = ['log', 'key', 'exclusive', 'activated', 'reset'] as const;

  test.each<[string, Story, Partial<FabricLogGiven>]>([
    ['with a quote of its key', {}, proven],
    ['with a grade that nothing quotes', { grade: 'service-vm' }, {}],
    ['under one entry of the host', { grade: 'service-vm', lastGrade: 'host' }, proven],
    ['before entries of a measured VM', { grade: 'host', lastGrade: 'service-vm' }, proven],
  ])('is never verified %s', async (_, story, more) => {
    const { claims } = await verify(story, more);
    for (const kind of NEVER) expect([kind, claims[kind]]).toEqual([kind, ASSERTED]);
  });

  test('is not verified by a policy that expects it, and believed only by name', async () => {
    const exclusive = (requirement: object) =>
      policyOf({ fabric: { 'fabric.exclusive': requirement } }, EIGHT);
    expect((await verify({}, {}, exclusive({}))).verdict).toBe('refused');
    const size = policyOf({ fabric: { 'fabric.log': { oneOf: [11] } } }, EIGHT);
    expect(await verify({}, {}, size)).toMatchObject({
      claims: { log: ASSERTED },
      verdict: 'refused',
    });
    const believing = exclusive({ believe: ['operator-asserted'] });
    expect(await verify({}, {}, believing)).toMatchObject({
      claims: { exclusive: ASSERTED },
      verdict: 'verified',
    });
  });

  test('is no measured VM’s, which is verified if its quote has that key', async () => {
    const story = { grade: 'service-vm' };
    const { claims, verdict } = await verify(story, proven);
    for (const kind of NEVER) expect([kind, claims[kind]]).toEqual([kind, 'verified, cpu-signed']);
    expect(verdict).toBe('verified');
    for (const quote of [
      { paths: OTHER_QUOTE, policy: VM },
      { paths: QUOTE, policy: OTHER_VM },
    ]) {
      const refused = await verify(story, { quote });
      expect(refused.claims).toMatchObject({
        key: 'refused, operator-asserted',
        exclusive: ASSERTED,
      });
      expect(refused.verdict).toBe('refused');
    }
  });
});

describe('is refused:', () => {
  const pdis = board.gpus.map(({ pdi }) => pdi);
  const other = { commitment: 'cd'.repeat(32), epoch: 2, modules: [1, 2], partition: 4 };
  const planted = ['intent', 'fact'].map((kind) => ({ kind, change: 'activate', tenancy: other }));

  test.each<[string, Story, object]>([
    ['a planted overlap', { more: planted }, { log: /^refused/, exclusive: /^refused/ }],
    [
      'two devices that trade places',
      { identities: [pdis[1]!, pdis[0]!, ...pdis.slice(2)] },
      { devices: /^refused, device-signed/ },
    ],
    [
      'a device that is not the tenant’s',
      { identities: ['0'.repeat(16), ...pdis.slice(1)] },
      { devices: /^refused/ },
    ],
    ['Fabric Manager of another version', { fmVersion: '1.2.3' }, { driver: /^refused/ }],
  ])('%s', async (_, story, wanted) => {
    const { claims, verdict } = await verify(story);
    for (const [kind, pattern] of Object.entries(wanted)) expect(claims[kind]).toMatch(pattern);
    expect(verdict).toBe('refused');
  });

  test('a log that was changed, or goes on from another than the one that was kept', async () => {
    const folder = await writeLog('changed', entriesOf({}));
    const shorter = entriesOf({}).slice(0, -1);
    expect(
      (await verify({}, { place: folder, earlier: [await proofOf(shorter, 3)] })).verdict,
    ).toBe('verified');
    const elsewhere = [...shorter.slice(0, 3), ...entriesOf({ grade: 'guest' }).slice(3, -1)];
    for (const index of [3, 1]) {
      const { claims } = await verify(
        {},
        { place: folder, earlier: [await proofOf(elsewhere, index)] },
      );
      expect(claims).toEqual({ log: 'refused, operator-asserted' });
    }
    await writeLog('others', [...entriesOf({ grade: 'guest' })]);
    const { readFileSync } = await import('node:fs');
    writeFileSync(join(folder, 'entries'), readFileSync(join(inScratch('others'), 'entries')));
    expect((await verify({}, { place: folder })).claims).toEqual({
      log: 'refused, operator-asserted',
    });
  });
});

describe('on the command line', () => {
  const run = async (...words: string[]) => {
    const { io, out, err } = testIo({
      readFile: (path) => {
        if (path !== 'policy.json') throw new Error('ENOENT');
        return JSON.stringify(policyOf({}, { cpu: 1 }));
      },
    });
    const code = await runCli(['verify', inScratch('devices.json'), '--offline', ...words], io);
    return { code, out: out.join('\n'), err: err.join('\n') };
  };
  const trust = ['--fabric-log-key', log.vkey, '--fabric-witness-min', '0'];

  test.each<[string, string[], string]>([
    ['flags about no log', ['--fabric-log-key', log.vkey], '--fabric-log: the other flags'],
    ['no key', ['--fabric-log', 'x'], '--fabric-log-key: say whose'],
    [
      'no witness',
      ['--fabric-log', 'x', '--fabric-log-key', log.vkey],
      '--fabric-witness-min 0 accepts',
    ],
    [
      'a quote of anything',
      ['--fabric-log', 'x', ...trust, '--fabric-quote', 'q'],
      'any program can be measured',
    ],
    [
      'a policy of any program',
      ['--fabric-log', 'x', ...trust, '--fabric-quote', 'q', '--fabric-policy', 'policy.json'],
      'it must require cpu.launch',
    ],
    ['no log there', ['--fabric-log', inScratch('none'), ...trust], 'holds no log'],
  ])('%s ends with 2', async (_, words, message) => {
    const { code, err } = await run(...words);
    expect([code, err]).toEqual([2, expect.stringContaining(message)]);
  });

  test('a log’s statements are among the claims, by who vouches for them', async () => {
    const folder = await writeLog('cli', entriesOf({}));
    const { out } = await run('--fabric-log', folder, ...trust, '--json');
    const claims = JSON.parse(out).claims.filter(({ subject }: { subject: string }) => {
      return subject === 'FABRIC';
    });
    // Roots of our own are not the vendors', so that no device is proven here.
    expect(claims.map(({ kind }: { kind: string }) => kind)).toContain('fabric.activated');
    expect(claims.some(({ status }: { status: string }) => status === 'verified')).toBe(false);
  });
});
