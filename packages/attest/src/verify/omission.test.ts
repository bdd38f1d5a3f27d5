import { describe, expect, test } from 'vitest';
import { fromHex, toHex, utf8 } from '../core/bytes.ts';
import { ChainCache } from '../core/chain.ts';
import { BUILT_IN_POLICIES } from '../policy/built-in.ts';
import { pinPolicy } from '../policy/pin.ts';
import type { Policy } from '../policy/policy.ts';
import { readPolicy } from '../policy/read.ts';
import type { MachineObservation } from '../report/observation.ts';
import { makeService, type ServiceChanges, type TestService } from '../testing/service.ts';
import type { VerifyContext } from './appraise.ts';
import { verifyEvidence } from './verify.ts';

const TLS = 'cd'.repeat(32);
const [EVIDENCE, SERVICE, REFERENCE, TOKEN] = ['evidence', 'service', 'reference', 'token'].map(
  (name) => BUILT_IN_POLICIES.get(name)!,
) as [Policy, Policy, Policy, Policy];
const BUILT_IN = [EVIDENCE, SERVICE, REFERENCE, TOKEN];

interface Question {
  readonly policy?: Policy;
  readonly names?: (name: string) => boolean;
  readonly context?: Partial<VerifyContext>;
}

async function verify(service: TestService, question: Question = {}) {
  const { policy = await pinned, names = () => true, context } = question;
  const given = [...service.files].filter(([name]) => names(name));
  return verifyEvidence({
    input: 'test',
    files: given.map(([name, bytes]) => ({ name, bytes, isNamed: true })),
    policy,
    context: {
      nowMs: service.nowMs,
      anchors: service.anchors,
      chains: new ChainCache(),
      nonce: service.nonce,
      references: null,
      revocation: { status: async () => 'good' },
      tokenKeys: null,
      collateral: null,
      connectionSpkiSha256: TLS,
      ...context,
    },
  });
}

type Result = Awaited<ReturnType<typeof verify>>;
const reasonsOf = ({ verdict }: Result) =>
  verdict.reasons.map(({ rule, kind }) => (kind === 'any' ? rule : kind));
const statusOf = ({ claims }: Result, kind: string) =>
  claims.filter((one) => one.kind === kind).map(({ status, code }) => code ?? status);

const good = makeService();
const pinned: Promise<Policy> = good
  .then((service) => verify(service, { policy: SERVICE }))
  .then(({ claims }) => pinPolicy(SERVICE, claims)!);

const OFF: NonNullable<MachineObservation['confidential']> = {
  environment: 'unavailable',
  isOn: false,
  isDevTools: false,
  multiGpuMode: 'none',
};
const observing = (
  gpus: number,
  confidential: MachineObservation['confidential'] = OFF,
): MachineObservation => ({
  driverVersion: null,
  confidential,
  areGpusReady: null,
  keyRotationThreshold: null,
  gpus: Array.from({ length: gpus }, (_, index) => ({
    index,
    name: null,
    uuid: null,
    fabric: null,
  })),
  gaps: [],
});
const NO_GPUS = { shown: { gpus: 0, switches: 0 } };
/** What is expected of software alone, as `service` would be told by hand. */
const SOFTWARE_ALONE = pinned.then(({ require: { cpu } }) => ({
  ...SERVICE,
  require: { ...SERVICE.require, cpu: cpu! },
}));

describe('GPUs that are not proven', () => {
  const ON = { ...OFF, environment: 'production', isOn: true } as const;
  test.each<[string, ServiceChanges, string]>([
    ['are served on', { ...NO_GPUS, statement: { observed: null } }, 'server.gpuEvidence'],
    ['are observed', { ...NO_GPUS, configuration: { device: 'cpu' } }, 'server.gpuEvidence'],
    ['are fewer than observed', { shown: { gpus: 7, switches: 4 } }, 'minimum[0].gpu'],
    ['come without their switches', { shown: { gpus: 8, switches: 0 } }, 'hgx.set'],
    [
      'are told not to be confidential',
      { statement: { observed: observing(8) } },
      'devices.confidential',
    ],
    [
      'are told to be no more than simulated',
      { statement: { observed: observing(8, { ...ON, environment: 'simulation' }) } },
      'devices.confidential',
    ],
    [
      'are told nothing of',
      { statement: { observed: observing(8, null) } },
      'devices.confidential',
    ],
  ])('refuse a server, with the right software, where they %s', async (_, changes, reason) => {
    const result = await verify(await makeService(changes), { policy: await SOFTWARE_ALONE });
    expect(result.verdict.result).toBe('refused');
    expect(reasonsOf(result)).toContain(reason);
  });

  test('are not asked of a server that has none', async () => {
    const service = await makeService({
      ...NO_GPUS,
      configuration: { device: 'cpu' },
      statement: { observed: null },
    });
    const result = await verify(service, { policy: await SOFTWARE_ALONE });
    expect(result.verdict).toMatchObject({ result: 'verified', reasons: [] });
  });

  test('are nobody’s word in a report that no quote binds', async () => {
    const service = await makeService({ quote: { reportData: new Uint8Array(64) } });
    const { claims } = await verify(service);
    const told = claims.filter(({ kind }) => /^(devices\.confidential|server\.gpus)$/.test(kind));
    expect(told.map(({ voucher }) => voucher)).toEqual(Array(2).fill('operator-asserted'));
  });

  test('refuse under every policy, even one for old evidence', async () => {
    const service = await makeService(NO_GPUS);
    const result = await verify(service, { policy: EVIDENCE });
    expect(reasonsOf(result)).toContain('server.gpuEvidence');
    expect(statusOf(result, 'server.gpuEvidence')).toEqual(['set-incomplete']);
    // Of eight; a switch is none of them.
    for (const gpus of [3, 4, 7]) {
      const some = await makeService({ shown: { gpus, switches: 4 } });
      const part = await verify(some, { policy: EVIDENCE });
      expect(statusOf(part, 'server.gpuEvidence')).toEqual(['set-incomplete']);
      expect(reasonsOf(part)).toContain('server.gpuEvidence');
    }
  });

  test('are missed once eight were pinned, whatever the server says then', async () => {
    const confession = {
      ...NO_GPUS,
      configuration: { device: 'cpu' },
      statement: { observed: null },
    };
    const result = await verify(await makeService(confession));
    expect(reasonsOf(result)).toContain('minimum[0].gpu');
    expect(reasonsOf(result)).toContain('minimum[0].switch');
    expect(reasonsOf(result)).toContain('server.gpus');
    expect(reasonsOf(result)).toContain('server.configuration');
  });
});

describe('a pin', () => {
  test('is the whole machine, and verifies it again', async () => {
    const policy = await pinned;
    expect(policy.minimum).toEqual([{ server: 1, cpu: 1, gpu: 8, switch: 4 }]);
    expect(policy.require.gpu).toMatchObject({
      'gpu.class': { oneOf: ['hopper: Test Chip Identity'] },
      'gpu.mode': { oneOf: ['protected-pcie'] },
      'gpu.driver': { atLeast: expect.stringMatching(/^\d+\./) },
      'gpu.vbios': { atLeast: expect.stringMatching(/^96\./) },
    });
    expect(policy.require.server).toMatchObject({
      'server.model': { oneOf: ['01'.repeat(32)], believe: ['guest-observed'] },
      'server.software': { oneOf: ['ef'.repeat(32)] },
      'server.gpus': { oneOf: [8] },
      'server.issuedAt': { atMost: 300 },
    });
    expect(policy.require.cpu!['cpu.system']!.includes).toHaveLength(4);
    expect(readPolicy(JSON.stringify(policy), 'the pin')).toEqual(policy);
    expect((await verify(await good)).verdict).toMatchObject({ result: 'verified', reasons: [] });
  });

  const model = { name: 'storyteller', sha256: '02'.repeat(32), covers: 'headers' } as const;
  const software = {
    version: '0.1.0',
    node: '20.19.0',
    commit: null,
    bundleSha256: null,
    filesSha256: '11'.repeat(32),
  };
  test.each<[string, ServiceChanges, string[]]>([
    ['another model', { statement: { model } }, ['server.model']],
    ['no model', { statement: { model: null } }, ['server.model']],
    ['other software', { statement: { software } }, ['server.software']],
    [
      'another configuration',
      { configuration: { device: 'cuda', dtype: 'x' } },
      ['server.configuration'],
    ],
    ['another TDX module', { quote: { teeTcbSvn: `040102${'00'.repeat(13)}` } }, ['cpu.teeTcbSvn']],
  ])('refuses %s', async (_, changes, reasons) => {
    expect(reasonsOf(await verify(await makeService(changes)))).toEqual(reasons);
  });

  test('of an older form is refused, and says what to do', () => {
    const old = JSON.stringify({ version: 1, name: 'service, pinned', require: {} });
    expect(() => readPolicy(old, 'pin.json')).toThrow(/pin\.json is of version 1.*pin again/);
    const bare = JSON.stringify({ version: 2, name: 'service, pinned', require: {} });
    expect(() => readPolicy(bare, 'pin.json')).toThrow(/minimum/);
  });

  test('is not made of what proves too little', async () => {
    const names = (name: string) => name !== 'collateral.json';
    for (const policy of [SERVICE, EVIDENCE]) {
      const { claims } = await verify(await good, { policy, names });
      expect(pinPolicy(policy, claims)).toBeNull();
    }
  });
});

describe('a report of another time is refused', () => {
  const at = (seconds: number) => good.then(({ nowMs }) => nowMs / 1000 + seconds);
  test.each([
    [-301, 'server.issuedAt'],
    [301, 'server.issuedAt'],
  ])('made %i seconds from now', async (seconds, reason) => {
    const service = await makeService({ statement: { issuedAt: await at(seconds) } });
    expect(reasonsOf(await verify(service))).toEqual([reason]);
  });

  test('and not for what clocks differ by; from the future it is refused always', async () => {
    for (const seconds of [-300, 300]) {
      const service = await makeService({ statement: { issuedAt: await at(seconds) } });
      expect(reasonsOf(await verify(service))).toEqual([]);
    }
    const later = await makeService({ statement: { issuedAt: await at(301) } });
    const result = await verify(later, { policy: EVIDENCE });
    expect(statusOf(result, 'server.issuedAt')).toEqual(['not-current']);
  });
});

describe('a document that is about others', () => {
  test.each(['.xml', 'collateral.json', 'receipt', 'links.json'])(
    'is no evidence of a machine: %s',
    async (part) => {
      const names = (name: string) => name.includes(part);
      for (const policy of BUILT_IN.filter((one) => one !== REFERENCE || part !== '.xml')) {
        const result = await verify(await good, { policy, names, context: { nonce: null } });
        expect(result.verdict.result, policy.name).toBe('refused');
        expect(reasonsOf(result)[0] ?? '', policy.name).toMatch(/^minimum/);
      }
    },
  );

  test('a report without its quote proves no machine, though its GPUs are genuine', async () => {
    const { files, ...rest } = await makeService({ statement: { tee: 'none' } });
    const whole = JSON.parse(new TextDecoder().decode(files.get('report.json')));
    const report = utf8(JSON.stringify({ ...whole, intel_quote: null }));
    const service = { ...rest, files: new Map([...files, ['report.json', report]]) };
    const result = await verify(service, { policy: EVIDENCE });
    expect(reasonsOf(result)).toEqual(expect.arrayContaining(['server.tee', 'server.binding']));
  });

  test('receipts beside evidence that does not bind their key do not pass for its', async () => {
    const other = await makeService();
    const { files, ...rest } = await good;
    const mixed = new Map(files);
    for (const name of ['receipt-1.json', 'receipt-2.json', 'links.json']) mixed.delete(name);
    const service = { ...rest, files: mixed };
    expect((await verify(service)).verdict.result).toBe('verified');
    mixed.set('receipt-1.json', other.files.get('receipt-1.json')!);
    expect(reasonsOf(await verify(service))).toContain('receipt.signature');
  });
});

test('a policy that asks for the chain of receipts misses its links', async () => {
  const text = JSON.stringify({ ...EVIDENCE, minimum: [{ cpu: 1, receipt: 2, receipts: 1 }] });
  const policy = readPolicy(text, 'the policy');
  expect((await verify(await good, { policy })).verdict.result).toBe('verified');
  const names = (name: string) => name !== 'links.json';
  expect(reasonsOf(await verify(await good, { policy, names }))).toEqual(['minimum[0].receipts']);
});

describe('what was asked for and compared with nothing is refused', () => {
  /** The service's quote by itself: nothing binds a nonce to it. */
  async function quoteOf(reportData: Uint8Array<ArrayBuffer>) {
    const { files, ...rest } = await makeService({ quote: { reportData } });
    const { intel_quote } = JSON.parse(new TextDecoder().decode(files.get('report.json')));
    const parts = new Map([
      ['quote.bin', fromHex(intel_quote, 'the quote')],
      ['collateral.json', files.get('collateral.json')!],
    ]);
    return { ...rest, files: parts };
  }
  const data = new Uint8Array(64).fill(7);
  const policy = EVIDENCE;

  test('a nonce that a quote does not carry, and one that nothing can', async () => {
    const result = await verify(await quoteOf(data), { policy });
    expect(reasonsOf(result)).toEqual(['request.nonce']);
    expect(result.verdict.reasons[0]!.text).toMatch(/compared with nothing that the CPU signed/);
    const without = { policy, context: { nonce: null } };
    expect(reasonsOf(await verify(await quoteOf(data), without))).toEqual([]);
    const names = (name: string) => name.endsWith('.xml');
    const references = await verify(await good, { policy: REFERENCE, names });
    expect(reasonsOf(references)).toEqual(['request.nonce']);
  });

  test('not a nonce that the report, the devices or the token compare', async () => {
    const result = await verify(await good);
    expect(result.claims.filter(({ subject }) => subject === 'REQUEST')).toEqual([]);
    expect(statusOf(result, 'gpu.nonce')).toEqual(Array(8).fill('verified'));
  });

  test('report data that no CPU carries, or another', async () => {
    const asked = (reportData: Uint8Array<ArrayBuffer>) => ({
      policy,
      context: { reportData, nonce: null },
    });
    const held = await verify(await quoteOf(data), asked(data));
    expect(held.verdict).toMatchObject({ result: 'verified', reasons: [] });
    expect(statusOf(held, 'cpu.reportData')).toEqual(['verified']);
    // A nonce beside them is still compared with nothing.
    const both = await verify(await quoteOf(data), { policy, context: { reportData: data } });
    expect(reasonsOf(both)).toEqual(['request.nonce']);
    const other = await verify(await quoteOf(data), asked(new Uint8Array(64)));
    expect(statusOf(other, 'cpu.reportData')).toEqual(['binding-mismatch']);
    const names = (name: string) => name.endsWith('.xml');
    const none = { ...asked(data), policy: REFERENCE, names };
    expect(reasonsOf(await verify(await good, none))).toContain('request.reportData');
    // Beside a report, they are held to both: what it binds, and what was asked for.
    const beside = await verify(await good, { context: { reportData: data } });
    expect(statusOf(beside, 'cpu.reportData')).toEqual(['binding-mismatch']);
  });

  test('a policy can say what report data are to be, or believe what the CPU signed', async () => {
    const under = async (requirement: object) => {
      const require = { ...EVIDENCE.require };
      require.cpu = { ...require.cpu, 'cpu.reportData': requirement };
      const text = JSON.stringify({ ...EVIDENCE, require });
      const told = readPolicy(text, 'the policy');
      return verify(await quoteOf(data), { policy: told, context: { nonce: null } });
    };
    const expected = await under({ oneOf: [toHex(data)] });
    expect(expected.verdict.result).toBe('verified');
    expect(statusOf(expected, 'cpu.reportData')).toEqual(['verified']);
    const other = await under({ oneOf: ['00'.repeat(64)] });
    expect(reasonsOf(other)).toContain('cpu.reportData');
    expect(statusOf(other, 'cpu.reportData')).toEqual(['unverified']);
    const believed = await under({ believe: ['cpu-signed'] });
    expect(believed.verdict).toMatchObject({
      result: 'verified',
      believed: [{ because: expect.stringMatching(/compared with nothing/) }],
    });
    expect((await under({})).verdict.result).toBe('refused');
  });
});

describe('a responder that does not answer', () => {
  const silent = {
    status: () => Promise.reject(new Error('no answer in time')),
  };
  test('leaves no yes, but where a policy tolerates it by name', async () => {
    const names = (name: string) => name !== 'report.json' && !name.includes('links');
    const context = { nonce: null, revocation: silent };
    const { files, ...rest } = await good;
    const { nvidia_payload } = JSON.parse(new TextDecoder().decode(files.get('report.json')));
    const list = { ...rest, files: new Map([['gpus.json', utf8(nvidia_payload)]]) };
    const strict = await verify(list, { policy: EVIDENCE, names, context });
    expect(strict.verdict.result).toBe('refused');
    expect(statusOf(strict, 'gpu.revocation')).toEqual(Array(8).fill('revocation-unknown'));
    const because = 'we ask once a day';
    const tolerate = ['gpu.revocation', 'switch.revocation'].map((kind) => ({
      kind,
      codes: ['revocation-unknown' as const],
      because,
    }));
    const lenient = { ...EVIDENCE, tolerate: [...EVIDENCE.tolerate, ...tolerate] };
    const result = await verify(list, { policy: lenient, names, context });
    expect(result.verdict.result).toBe('verified');
    expect(result.verdict.tolerated.map(({ because }) => because)).toContain(because);
    // Nobody was asked at all: that is said, and is what `evidence` is for.
    const offline = { nonce: null, revocation: null };
    const old = await verify(list, { policy: EVIDENCE, names, context: offline });
    expect(old.verdict.result).toBe('verified');
    expect(statusOf(old, 'gpu.revocation')).toEqual(Array(8).fill('unverified'));
  });
});
