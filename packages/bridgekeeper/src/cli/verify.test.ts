import { generateKeyPairSync } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Claim } from '@bridgekeeper/attest';
import {
  hasVectors,
  makeService,
  makeTokenService,
  vectorPath,
} from '@bridgekeeper/attest/testing';
import { startTestServer } from '@bridgekeeper/server/testing';
import { afterAll, describe, expect, test } from 'vitest';
import { testIo } from '../testing/test-io.ts';
import { runCli } from './program.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-verify-cli-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const place = (name: string) => join(scratch, name);

async function verify(...args: readonly string[]) {
  const { io, out, err } = testIo({
    readFile: (path) => readFileSync(path, 'utf8'),
    writeFile: (path, text) => writeFileSync(path, text),
  });
  const code = await runCli(['verify', ...args], io);
  return { code, text: out.join('\n'), error: err.join('\n') };
}

/** What `--json` says of real evidence, judged without any service. */
async function verifyVectors(names: readonly string[], ...args: readonly string[]) {
  const paths = names.map(vectorPath);
  const { code, text } = await verify(...paths, '--offline', '--json', ...args);
  const document = JSON.parse(text);
  const claims: Claim[] = document.claims;
  const count = (kind: string, status = 'verified') =>
    claims.filter((claim) => claim.kind === kind && claim.status === status).length;
  const values = (kind: string) =>
    claims.filter((one) => one.kind === kind).map((one) => one.value);
  const codes = claims.flatMap(({ kind, code }) => (code === undefined ? [] : [`${kind} ${code}`]));
  return { exitCode: code, document, claims, count, values, codes };
}

const inNvidia = (...names: readonly string[]) => names.map((name) => `nvidia/${name}`);
const HGX = inNvidia('hgx-h100-8gpu-evidence.json', 'hgx-h100-4switch-evidence.json');
const HOPPER_CHAIN = 'hopper-535.86.09-chain.txt';

describe.runIf(hasVectors('verify on real evidence'))('real evidence', () => {
  test('8 GPUs and 4 switches: 12 of 12 hold, as one board', async () => {
    const { exitCode, count, claims, document } = await verifyVectors(HGX);
    expect(exitCode).toBe(0);
    for (const check of ['chain', 'signature', 'identity']) {
      expect(count(`gpu.${check}`) + count(`switch.${check}`)).toBe(12);
    }
    const board = claims.filter(({ kind }) => kind.startsWith('hgx.'));
    expect(board.map(({ status }) => status)).toEqual(board.map(() => 'verified'));
    expect(document.runs[0].metrics).toMatchObject({ verdict: 'verified', claimsRefused: 0 });
  });

  test('8 Blackwell GPUs of one guest: 8 of 8 hold, and say in which mode they are', async () => {
    const names = inNvidia('gonv-mpt-8xGB100.json');
    const { exitCode, count, values } = await verifyVectors(names);
    expect(exitCode).toBe(0);
    for (const check of ['chain', 'signature', 'identity', 'firmware', 'mode']) {
      expect([check, count(`gpu.${check}`)]).toEqual([check, 8]);
    }
    expect(new Set(values('gpu.mode'))).toEqual(new Set(['multi']));
    expect(count('gpu.nvlink-encryption', 'unverified')).toBe(8);
  });

  test('their nonce is verified when it is given, and another one refused', async () => {
    const nonce = '4760e30534a0621357d458b1a7936551b5dc4cd1e69718adf7ed9fb0252a537e';
    const { exitCode, count } = await verifyVectors(HGX, '--nonce', nonce);
    expect([exitCode, count('gpu.nonce'), count('switch.nonce')]).toEqual([0, 8, 4]);
    const wrong = await verifyVectors(HGX, '--nonce', '00'.repeat(32));
    expect(wrong.exitCode).toBe(1);
    expect(wrong.count('gpu.nonce', 'refused') + wrong.count('switch.nonce', 'refused')).toBe(12);
  });

  test('a switch: 31 of 31 measurements', async () => {
    const rim = 'switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml';
    const names = inNvidia('switchAttestationReport.txt', 'switchCertChain.txt', rim);
    const { exitCode, values } = await verifyVectors(names);
    expect([exitCode, values('switch.measurements')]).toEqual([0, ['31 of 31']]);
  });

  test('an H100: 12 of 12 measurements of its VBIOS; its driver has no reference', async () => {
    const rim = 'NV_GPU_VBIOS_1010_0200_882_96005E0001.xml';
    const names = inNvidia('hopper-535.86.09-report.txt', HOPPER_CHAIN, rim);
    const { exitCode, values, codes } = await verifyVectors(names, '--at', '2025-01-01');
    expect([exitCode, codes]).toEqual([0, ['gpu.measurements reference-missing']]);
    expect(values('gpu.measurements')).toContain('12 of 12');
    const today = await verifyVectors(names, '--at', '2026-09-01');
    expect(today.codes).toContain('rim.expiry certificate-expired');
    expect(today.document.verdict.tolerated).toHaveLength(2);
    const strict = await verifyVectors(names, '--policy', 'service');
    expect(strict.exitCode).toBe(1);
  });

  test('a Blackwell GPU, and a driver reference', async () => {
    const blackwell = inNvidia('blackwellAttestationReport.txt', 'blackwellCertChain.txt');
    expect((await verifyVectors(blackwell)).exitCode).toBe(0);
    const eight = await verifyVectors(inNvidia('gonv-mpt-8xGB100.json'));
    expect([eight.exitCode, eight.count('gpu.signature')]).toEqual([0, 8]);
    const names = inNvidia('NV_GPU_DRIVER_GH100_550.144.03.xml');
    const driver = await verifyVectors(names, '--policy', 'reference');
    expect([driver.exitCode, driver.count('rim.signature')]).toEqual([0, 1]);
    // It is genuine, and about no machine.
    for (const policy of ['evidence', 'service', 'token']) {
      const alone = await verifyVectors(names, '--policy', policy);
      expect(alone.exitCode, policy).toBe(1);
      expect(alone.document.verdict.reasons[0].rule).toMatch(/^minimum/);
    }
  });

  test('a TDX quote with its collateral, in its time', async () => {
    const names = ['tdx/quote.bin', 'tdx/collateral.json'];
    const { exitCode, values } = await verifyVectors(names, '--at', '2025-06-19T11:16Z');
    expect([exitCode, values('cpu.tcb')]).toEqual([0, ['UpToDate']]);
    const later = await verifyVectors(names, '--at', '2026-09-01');
    expect(later.exitCode).toBe(1);
    expect(later.codes).toContain('cpu.collateralExpiry collateral-expired');
  });

  test.each([
    [
      inNvidia('hopperAttestationReportInvalidSignature.txt', HOPPER_CHAIN),
      'gpu.signature signature-invalid',
    ],
    [inNvidia('incorrect_signature_driver_rim.xml'), 'rim.signature signature-invalid'],
    [inNvidia('blackwellAttestationReport.txt', HOPPER_CHAIN), 'gpu.signature signature-invalid'],
    [[...HGX, ...inNvidia('ls10-evidence.json')], 'devices.nonce nonce-mismatch'],
    [[...HGX, HGX[0]!], 'devices.distinct identity-mismatch'],
    [inNvidia('hopperClaimsv3_detached_eat.json'), 'token.expiry collateral-expired'],
  ])('refused for the right reason: %o', async (names, code) => {
    const { exitCode, codes } = await verifyVectors(names, '--at', '2026-09-01');
    expect(exitCode).toBe(1);
    expect(codes.join('\n')).toContain(code);
  });

  test('dstack: the log replays, but no collateral is at hand', async () => {
    const { exitCode, claims, codes } = await verifyVectors(['dstack/quote-report.json']);
    expect([exitCode, codes]).toEqual([1, []]);
    const log = claims.find(({ kind }) => kind === 'cpu.eventLog');
    expect(log).toMatchObject({ status: 'unverified', why: expect.stringMatching(/genuine/) });
  });

  test('pins the software of a quote, which another policy then demands', async () => {
    const names = ['tdx/quote.bin', 'tdx/collateral.json'];
    const then = ['--at', '2025-06-19T11:16Z'];
    await verifyVectors(names, ...then, '--pin', place('pinned.json'));
    const policy = JSON.parse(readFileSync(place('pinned.json'), 'utf8'));
    expect(policy.require.cpu['cpu.launch'].oneOf[0]).toMatch(/^91eb2b44d141d4ec/);
    const again = await verifyVectors(names, ...then, '--policy', place('pinned.json'));
    expect(again.exitCode).toBe(0);
    policy.require.cpu['cpu.launch'].oneOf = ['00'.repeat(48)];
    writeFileSync(place('pinned.json'), JSON.stringify(policy));
    const other = await verifyVectors(names, ...then, '--policy', place('pinned.json'));
    expect(other.document.verdict.reasons.map(({ kind }: Claim) => kind)).toEqual(['cpu.launch']);
    const late = [...names.map(vectorPath), '--offline', '--at', '2026-09-01'];
    const still = await verify(...late, '--pin', place('late.json'));
    expect(still.error).toMatch(
      /is refused under .*late\.json as well: CPU: cpu\.collateralExpiry/,
    );
    const [rim] = inNvidia('NV_GPU_DRIVER_GH100_550.144.03.xml').map(vectorPath);
    const nothing = await verify(rim!, '--offline', '--pin', place('none.json'));
    expect(nothing.error).toContain('too little is proven');
    expect(existsSync(place('none.json'))).toBe(false);
    // A machine with what could not be read left out is another machine.
    const part = [...names.map(vectorPath), place('missing.json'), '--offline', ...then];
    const lost = await verify(...part, '--pin', place('part.json'));
    expect([lost.code, lost.error]).toEqual([2, expect.stringMatching(/missing\.json.*missed/)]);
    expect(existsSync(place('part.json'))).toBe(false);
  });

  test('pins a board, and then refuses a part of it, or another', async () => {
    await verifyVectors(HGX, '--pin', place('board.json'));
    const pinned = JSON.parse(readFileSync(place('board.json'), 'utf8'));
    expect(pinned.minimum).toEqual([{ gpu: 8, switch: 4 }]);
    expect(pinned.require.gpu['gpu.mode']).toEqual({ oneOf: ['protected-pcie'] });
    const under = (names: readonly string[]) =>
      verifyVectors(names, '--policy', place('board.json'));
    expect((await under(HGX)).exitCode).toBe(0);
    const rules = async (names: readonly string[]) => {
      const { exitCode, document } = await under(names);
      expect(exitCode).toBe(1);
      return document.verdict.reasons.map(({ rule }: { rule: string }) => rule);
    };
    expect(await rules(HGX.slice(0, 1))).toContain('minimum[0].switch');
    expect(await rules(HGX.slice(1))).toContain('minimum[0].gpu');
    const blackwell = await rules(inNvidia('gonv-mpt-8xGB100.json'));
    expect(blackwell).toContain('require.gpu["gpu.class"]');
    expect(blackwell).toContain('require.gpu["gpu.mode"]');
  });

  test('compares the report data of a quote with those that are asked for', async () => {
    const names = ['tdx/quote.bin', 'tdx/collateral.json'];
    const then = ['--at', '2025-06-19T11:16Z'];
    const { values } = await verifyVectors(names, ...then);
    const [data] = values('cpu.reportData');
    const held = await verifyVectors(names, ...then, '--report-data', String(data));
    expect([held.exitCode, held.count('cpu.reportData')]).toEqual([0, 1]);
    const other = await verifyVectors(names, ...then, '--report-data', '00'.repeat(64));
    expect([other.exitCode, other.codes]).toEqual([1, ['cpu.reportData binding-mismatch']]);
    const nonce = await verifyVectors(names, ...then, '--nonce', 'ab'.repeat(32));
    expect([nonce.exitCode, nonce.codes]).toEqual([1, ['request.nonce not-compared']]);
  });

  test('the tree counts, and says what was not verified', async () => {
    const { code, text } = await verify(...HGX.map(vectorPath), '--offline');
    expect(code).toBe(0);
    expect(text).toMatch(/^ {2}ok +gpu\.signature: 8 of 8: /m);
    expect(text).toMatch(/^Not verified, and why it matters$/m);
    expect(text).toMatch(/^VERIFIED under the policy "evidence": \d+ claims verified, 0 refused/m);
  });
});

describe('the command', () => {
  const rim = place('NV_GPU_DRIVER_GH100_590.12.xml');

  test('prints its policies, and reads them back', async () => {
    for (const name of ['evidence', 'service', 'reference', 'token']) {
      const { code, text } = await verify('--policy', name, '--print-policy');
      expect(code).toBe(0);
      writeFileSync(place('policy.json'), text);
      const again = await verify('--policy', place('policy.json'), '--print-policy');
      expect(JSON.parse(again.text)).toEqual(JSON.parse(text));
    }
  });

  test.each([
    [[], 'name an address or a file'],
    [[place('none')], 'none cannot be read: ENOENT'],
    [['--at', 'noon', place('x')], '--at: must be a time'],
    [['--at', '2026-09-01T12:00', place('x')], 'with its zone'],
    [['--nonce', 'ab', place('x')], '--nonce: must be 64 hex digits'],
    [['--report-data', 'ab'.repeat(32), place('x')], '--report-data: must be 128 hex digits'],
    [['--token-keys', place('none'), place('x')], '--token-keys: '],
    [['--policy', place('none'), place('x')], '--policy: '],
    [['--eat', place('x'), place('x')], '--eat and --eat-key: give both'],
    [['http://a', 'http://b'], 'one address at a time'],
    [['http://127.0.0.1:1'], 'http://127.0.0.1:1: '],
  ])('%j exits with 2', async (args, message) => {
    const { code, error } = await verify(...args, '--offline');
    expect([code, error]).toEqual([2, expect.stringContaining(message)]);
  });

  test('exits with 2 for what is no evidence, and with 1 for what proves nothing', async () => {
    const { files } = await makeService();
    writeFileSync(place('prose.txt'), 'prose');
    expect((await verify('--offline', place('prose.txt'))).code).toBe(2);
    const [, bytes] = [...files].find(([name]) => name.endsWith('.xml'))!;
    writeFileSync(rim, bytes);
    const { code, text } = await verify('--offline', rim);
    expect(code).toBe(1);
    expect(text).toContain('[root-not-pinned]');
  });

  test('reports a file of a folder that cannot be read, and judges the rest', async () => {
    mkdirSync(place('folder'));
    const { files } = await makeService();
    const [, bytes] = [...files].find(([name]) => name.endsWith('.xml'))!;
    writeFileSync(place('folder/NV_GPU_DRIVER_GH100_590.12.xml'), bytes);
    writeFileSync(place('folder/broken.json'), '[{"evidence":');
    symlinkSync(place('none'), place('folder/gone'));
    const { code, text } = await verify('--offline', place('folder'));
    expect(code).toBe(2);
    expect(text).toContain('[root-not-pinned]');
    const plain = text.replace(/\s+/g, ' ');
    expect(plain).toContain('broken.json is not JSON');
    expect(plain).toMatch(/\S+gone cannot be read: ENOENT/);
  });

  test('signs its result with the key that it is given', async () => {
    writeFileSync(
      rim,
      [...(await makeService()).files].find(([name]) => name.endsWith('.xml'))![1],
    );
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
    writeFileSync(place('key.pem'), pem);
    const files = ['--eat', place('out.jwt'), '--eat-key', place('key.pem')];
    expect((await verify('--offline', rim, ...files)).code).toBe(1);
    const [head, body] = readFileSync(place('out.jwt'), 'utf8').split('.') as [string, string];
    const decode = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString());
    expect(decode(head)).toEqual({ alg: 'ES384', typ: 'eat+jwt' });
    expect(decode(body).submods.VERDICT['ear.status']).toBe('contraindicated');
    writeFileSync(place('key.pem'), 'no key');
    const { code, error } = await verify('--offline', rim, ...files);
    expect([code, error]).toEqual([2, expect.stringContaining('--eat-key')]);
  });

  test('takes the keys of a token from where its user says, and never from beside it', async () => {
    const service = await makeTokenService();
    const issuedAt = Date.parse('2026-01-15') / 1000;
    const token = { nonce: 'ab'.repeat(32), devices: { 'GPU-0': {} }, issuedAt };
    writeFileSync(place('token.json'), await service.issue(token));
    writeFileSync(place('jwks.json'), service.keys);
    const args = ['--offline', '--at', '2026-01-15', '--policy', 'token', '--nonce', token.nonce];
    const beside = await verify(place('token.json'), place('jwks.json'), ...args);
    expect(beside.code).toBe(1);
    expect(beside.text).toContain('The keys came with the token');
    const told = await verify(place('token.json'), ...args, '--token-keys', place('jwks.json'));
    expect(told.code).toBe(0);
    // A service's word is not evidence of a machine.
    const keys = ['--token-keys', place('jwks.json'), '--policy', 'evidence'];
    expect((await verify(place('token.json'), ...args, ...keys)).code).toBe(1);
  });

  test('refuses pins of an older form, and says what to do', async () => {
    const old = { version: 1, name: 'service, pinned', require: { cpu: { 'cpu.launch': {} } } };
    writeFileSync(place('old.json'), JSON.stringify(old));
    const { code, error } = await verify('--policy', place('old.json'), place('x'));
    expect([code, error]).toEqual([2, expect.stringMatching(/version 1.*pin again/)]);
  });

  test('asks a server with a nonce of its own, and refuses an old answer', async () => {
    const { files } = await makeService();
    const server = createServer((_, reply) => reply.end(files.get('report.json')));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const { code, text } = await verify(`http://127.0.0.1:${port}`, '--offline', '--json');
    server.closeAllConnections();
    server.close();
    expect(code).toBe(1);
    const { verdict, claims } = JSON.parse(text);
    expect(verdict.policy).toBe('service');
    const nonce = claims.find(({ kind }: Claim) => kind === 'server.nonce');
    expect(nonce).toMatchObject({ status: 'refused', code: 'nonce-mismatch' });
  });

  test.each([
    ['cannot be read', '{"bridgekeeper":1}', 'the report'],
    ['is no report of a server', '{"previous":null,"first":1,"digests":[]}', 'no report of a'],
  ])('of an address whose answer %s is not of files beside it', async (_, answer, reason) => {
    const { files } = await makeService();
    const receipt = place('beside.json');
    writeFileSync(receipt, files.get('receipt-1.json')!);
    const server = createServer((_, reply) => reply.end(answer));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const { code, error } = await verify(`http://127.0.0.1:${port}`, receipt, '--offline');
    server.closeAllConnections();
    server.close();
    expect([code, error]).toEqual([2, expect.stringContaining(reason)]);
  });

  test('walks through a server without a TEE, receipt and all, and refuses it', async () => {
    const server = await startTestServer({}, { receipts: 'memory' });
    const reply = await server.post('/v1/completions', { prompt: 'Once', max_tokens: 3 });
    const id = reply.headers.get('x-receipt-id');
    await reply.text();
    const receipt = await (await fetch(`${server.url}/v1/receipts/${id}`)).text();
    writeFileSync(place('receipt.json'), receipt);
    const args = [server.url, place('receipt.json'), '--offline'];
    const { code, text } = await verify(...args);
    const { claims } = JSON.parse((await verify(...args, '--json')).text);
    await server.stop(0);
    expect(code).toBe(1);
    expect(text).toContain('the server runs in no TEE');
    expect(text).toMatch(/^REFUSED under the policy "service": 0 claims verified, 0 refused, /m);
    const tee = claims.find(({ kind }: Claim) => kind === 'server.tee');
    expect(tee).toMatchObject({
      status: 'unverified',
      voucher: 'operator-asserted',
      value: 'none',
    });
    const signature = claims.find(({ kind }: Claim) => kind === 'receipt.signature');
    expect(signature).toMatchObject({ status: 'unverified', voucher: 'operator-asserted' });
    const forged = receipt.replace('"complete"', '"cut"');
    writeFileSync(place('receipt.json'), forged);
    const again = await verify(place('receipt.json'), '--json');
    expect(JSON.parse(again.text).claims[0]).toMatchObject({ code: 'signature-invalid' });
  });
});
