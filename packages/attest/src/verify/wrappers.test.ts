import { beforeAll, describe, expect, test } from 'vitest';
import { type Bytes, fromBase64, toBase64, toHex, utf8 } from '../core/bytes.ts';
import { type Cbor, CborTag } from '../core/cbor.ts';
import { ChainCache } from '../core/chain.ts';
import type { TrustAnchors } from '../core/trust.ts';
import { BUILT_IN_POLICIES } from '../policy/built-in.ts';
import { writeCbor } from '../testing/cbor.ts';
import { bootRegisters, makeCcel } from '../testing/ccel.ts';
import { makeCorim } from '../testing/corim.ts';
import { makeDevice, makeDeviceAuthority } from '../testing/device-authority.ts';
import { type EvidenceItem, makeEvidenceItem, makeReport } from '../testing/device-reports.ts';
import { makeIntelAuthority, makeTdxCollateral, QUOTE_NOW_MS } from '../testing/quote-authority.ts';
import { makeTdxQuote } from '../testing/quote-report.ts';
import { verifyEvidence } from './verify.ts';

const NONCE = new Uint8Array(32).fill(0xab);
const TAG_FIRST = 0x6374_0101;
const COLLECTION = 'tag:nvidia.com,2026:verifier-input/profiles/base/pre-1.0.0';
const ITEM = 'tag:nvidia.com,2026:evidence-item/v1';

let anchors: TrustAnchors;
let item: EvidenceItem;
let quote: Bytes;
let log: Bytes;
let collateral: Bytes;

beforeAll(async () => {
  const [devices, intel] = await Promise.all([makeDeviceAuthority(), makeIntelAuthority()]);
  anchors = {
    nvidiaDevice: devices.rootSha256,
    nvidiaRim: new Set(),
    intelSgx: new Set([intel.rootSha256]),
    amdArk: new Set(),
  };
  const gpu = await makeDevice(devices, { arch: 'hopper', pdi: 'b000000000000001' });
  item = makeEvidenceItem(gpu, await makeReport(gpu, { nonce: NONCE }));
  quote = await makeTdxQuote(intel, { rtmrs: await bootRegisters() });
  log = await makeCcel();
  collateral = utf8(await makeTdxCollateral(intel));
});

async function verify(document: unknown, more: Record<string, Bytes> = {}) {
  const bytes = document instanceof Uint8Array ? new Uint8Array(document) : json(document);
  const files = { 'w.cmw': bytes, 'collateral.json': collateral, ...more };
  return verifyEvidence({
    input: 'test',
    files: Object.entries(files).map(([name, one]) => ({ name, bytes: one, isNamed: true })),
    policy: BUILT_IN_POLICIES.get('evidence')!,
    context: {
      nowMs: QUOTE_NOW_MS,
      anchors,
      chains: new ChainCache(),
      nonce: NONCE,
      references: null,
      revocation: null,
      collateral: null,
      tokenKeys: null,
    },
  });
}

const json = (value: unknown) => utf8(JSON.stringify(value));
const url = (bytes: Bytes) =>
  toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
const record = (type: string | number, bytes: Bytes, ...rest: number[]) => [
  type,
  url(bytes),
  ...rest,
];

async function proven(document: unknown, more?: Record<string, Bytes>) {
  const { claims, unreadable } = await verify(document, more);
  const kinds = claims.filter(({ status }) => status === 'verified').map(({ kind }) => kind);
  const found = ['gpu.signature', 'cpu.quote', 'cpu.eventLog'].filter((kind) =>
    kinds.includes(kind),
  );
  return [found, unreadable.map(({ name, code }) => `${name} ${code}`)];
}

describe('a conceptual message wrapper', () => {
  const list = () => json([item]);

  test('of JSON: one record, with or without what it is for', async () => {
    const gpu = [['gpu.signature'], []];
    expect(await proven(record('application/vnd.nvidia+json', list()))).toEqual(gpu);
    expect(await proven(record(30_001, list(), 4))).toEqual(gpu);
    expect(await proven(record('application/x', list(), 4))).toEqual(gpu);
    expect(await proven({ __cmwc_t: 'tag:x', gpus: record(30_001, list(), 4) })).toEqual(gpu);
  });

  test('of JSON: a collection, with one in it', async () => {
    const both = [['gpu.signature', 'cpu.quote', 'cpu.eventLog'], []];
    const cpu = { quote: record('application/tdx', quote), log: record('application/ccel', log) };
    expect(await proven({ __cmwc_t: 'tag:x', cpu, gpus: record('a/b', list()) })).toEqual(both);
    const plain = { cpu: record('a/b', quote), log: record('a/b', log), g: record('a/b', list()) };
    expect(await proven(plain)).toEqual(both);
  });

  test("of JSON: NVIDIA's collection of evidence", async () => {
    const certificate = record(
      'application/vnd.nvidia.pem-cert-chain',
      fromBase64(item.certificate, 'chain'),
    );
    const evidence = record(
      'application/vnd.nvidia.spdm-measurement-transcript',
      fromBase64(item.evidence, 'report'),
    );
    const one = { __cmwc_t: ITEM, evidence, certificate, hints: record('a/b', json({})) };
    const nonce = record('application/octet-stream', NONCE);
    const whole = { __cmwc_t: COLLECTION, nonce, gpu_0: one };
    expect(await proven(whole)).toEqual([['gpu.signature'], []]);
    expect(await proven({ __cmwc_t: COLLECTION, gpu_0: { ...one, nonce } })).toEqual([
      ['gpu.signature'],
      [],
    ]);
    // What is stated beside a report is held against it.
    const other = record('application/octet-stream', new Uint8Array(32));
    const { claims } = await verify({ ...whole, nonce: other });
    expect(claims.find(({ kind }) => kind === 'gpu.nonce')?.code).toBe('nonce-mismatch');
    const cwt = { ...one, evidence: record('application/eat+cwt', utf8('x')) };
    const eat = /^w\.cmw: gpu_0 of the wrapper is of the type application\/eat\+cwt$/;
    await expect(verify({ __cmwc_t: COLLECTION, gpu_0: cwt })).rejects.toThrow(eat);
  });

  test('of CBOR: a record, a tag, a collection', async () => {
    const cpu = [['cpu.quote'], []];
    expect(await proven(writeCbor(['application/tdx', quote, 4]))).toEqual(cpu);
    expect(await proven(writeCbor([30_001, quote]))).toEqual(cpu);
    expect(await proven(writeCbor(new CborTag(TAG_FIRST + 30_001, quote)))).toEqual(cpu);
    const inner = new Map<string, Cbor>([['log', ['a/b', log]]]);
    const collection = new Map<string, Cbor>([
      ['__cmwc_t', 'tag:x'],
      ['quote', new CborTag(TAG_FIRST, quote)],
      ['more', inner],
    ]);
    expect(await proven(writeCbor(collection))).toEqual([['cpu.quote', 'cpu.eventLog'], []]);
    expect(await proven(utf8(toHex(writeCbor(['a/b', quote]))))).toEqual(cpu);
  });

  test('names what it holds that is not read here, and the rest is judged', async () => {
    const whole = { __cmwc_t: 'tag:x', a: record('a/odd', utf8('odd')), b: record('a/b', quote) };
    const { unreadable, claims } = await verify(whole);
    expect(unreadable.map(({ message }) => message)).toEqual([
      'w.cmw/a is of the type a/odd, and holds nothing that is read here',
    ]);
    expect(claims.map(({ kind }) => kind)).toContain('cpu.quote');
    const nested = { __cmwc_t: 'x', a: record('a/b', json(record('a/b', quote))) };
    const inner = /^w\.cmw\/a is of the type a\/b, and holds nothing/;
    await expect(verify(nested)).rejects.toThrow(inner);
  });

  test.each<[string, unknown]>([
    ['a record that is none', { __cmwc_t: 'x', a: [1, 2, 3, 4] }],
    ['a value that is none', { __cmwc_t: 'x', a: 'text' }],
    ['bytes that are no base64url', ['a/b', '$']],
    ['an indicator that says nothing', ['a/b', 'AAAA', 0]],
    ['an indicator of bits unknown', ['a/b', 'AAAA', 16]],
    ['nothing', { __cmwc_t: 'x' }],
    ['CBOR with a byte more', writeCbor([1, new Uint8Array(60), 64])],
    ['a tag around text', writeCbor(new CborTag(TAG_FIRST, 'x'.repeat(60)))],
  ])('with %s is reported as unreadable', async (_, document) => {
    const gpus = { 'gpus.json': list() };
    expect(await proven(document, gpus)).toEqual([['gpu.signature'], ['w.cmw malformed']]);
  });

  test('that is too deep or too large is reported as unreadable', async () => {
    let deep: unknown = record('a/b', quote);
    for (let i = 0; i < 6; i++) deep = { __cmwc_t: 'x', a: deep };
    const many = Object.fromEntries(
      Array.from({ length: 65 }, (_, i) => [`n${i}`, record('a/b', utf8('x'))]),
    );
    for (const document of [deep, many]) {
      const found = await proven(document, { 'gpus.json': list() });
      expect(found).toEqual([['gpu.signature'], ['w.cmw too-large']]);
    }
  });
});

describe('evidence that Confidential Containers send to Trustee', () => {
  const additional = () =>
    JSON.stringify({
      nvidia: { device_evidence_list: [{ ...item, arch: 'Hopper', uuid: 'GPU-0' }] },
    });
  const primary = () => ({ quote: toBase64(quote), cc_eventlog: toBase64(log) });

  test('is that of the CPU and that of the devices', async () => {
    const whole = { primary_evidence: primary(), additional_evidence: additional() };
    const all = [['gpu.signature', 'cpu.quote', 'cpu.eventLog'], []];
    expect(await proven(whole)).toEqual(all);
    expect(await proven({ 'runtime-data': {}, 'tee-evidence': whole })).toEqual(all);
    expect(await proven({ ...whole, additional_evidence: '' })).toEqual([
      ['cpu.quote', 'cpu.eventLog'],
      [],
    ]);
    expect(await proven({ ...primary(), cc_eventlog: null })).toEqual([['cpu.quote'], []]);
  });

  test('is refused by name where a report is not in bytes, or a part is unknown', async () => {
    const gpus = { 'gpus.json': json([item]) };
    const snp = { primary_evidence: { attestation_report: {} }, additional_evidence: '' };
    expect(await proven(snp, gpus)).toEqual([['gpu.signature'], ['w.cmw unsupported-version']]);
    const sample = { primary_evidence: { svn: '1' }, additional_evidence: additional() };
    expect(await proven(sample)).toEqual([
      ['gpu.signature'],
      ['w.cmw/primary unsupported-version'],
    ]);
    const odd = { primary_evidence: primary(), additional_evidence: '[]' };
    expect(await proven(odd, gpus)).toEqual([['gpu.signature'], ['w.cmw malformed']]);
  });
});

test('a CoRIM is named with what it holds, and not taken for compared', async () => {
  const { unreadable } = await verify([item], { 'r.corim': makeCorim(true) });
  expect(unreadable).toMatchObject([{ name: 'r.corim', code: 'unsupported-version' }]);
  const holds = 'holds 2 CoMIDs with 3 reference values, which are not compared here';
  expect(unreadable[0]!.message).toContain(`r.corim: the signed CoRIM test-corim ${holds}`);
});
