import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type SignedReceipt, verifyReceipt } from '@bridgekeeper/attest';
import { callControl, SYSTEM_TIME } from '@bridgekeeper/control';
import { OPERATOR_CALLS as CALLS } from '@bridgekeeper/control/api';
import { readLogTiles } from '@bridgekeeper/fabric';
import { hasCompiler } from '@bridgekeeper/native/testing';
import { afterEach, describe, expect, test } from 'vitest';
import { runCli } from './cli/program.ts';
import { LAUNCHER } from './launcher.ts';
import { FabricTestHost } from './testing/fabric-host.ts';
import { testIo } from './testing/test-io.ts';
import { fetchTiles } from './verify/fetch-log.ts';

// Everything between a client and the log of a host's fabric is a process of its own: gateway,
// control, the host's agent, its fabric's agent over the stub of Fabric Manager's library, and the
// replica, which is the bundled model on the CPU.

const QUOTA = { requestsPerMinute: null, tokensPerMinute: null, inFlightMax: null, gpusMax: null };

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Looks now and then: others need the processor. The test's own limit ends it. */
async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await SYSTEM_TIME.sleep(50);
}

/** A process, and what it has said. */
function started(child: ReturnType<FabricTestHost['start']>) {
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes) => {
      said += bytes;
    });
  }
  closing.push(async () => {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  });
  /** What is said with these words, once it is. */
  const words = async (pattern: RegExp) => {
    await until(() => pattern.test(said));
    return pattern.exec(said)!.slice(1) as [string, ...string[]];
  };
  return { words };
}

const start = (...words: string[]) =>
  started(spawn(process.execPath, [LAUNCHER, ...words], { stdio: ['ignore', 'pipe', 'pipe'] }));

/** Guests outlive their agent on purpose. */
function endGuest(place: string): void {
  if (!existsSync(place)) return;
  const { pid } = JSON.parse(readFileSync(place, 'utf8')) as { pid: number };
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

describe.skipIf(!hasCompiler)('a receipt of an answer that came through the gateway', () => {
  test('names the entry of the log by which the GPUs that made it were activated', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fr-'));
    closing.push(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
    const host = new FabricTestHost(folder);
    closing.push(() => host.close());
    const fabric = started(host.start('agent', '--round', '0.2', '--log-port', '0', '--json'));
    const controlFolder = join(folder, 'control');
    const control = start(
      ...['control', '--folder', controlFolder, '--port', '0', '--agent-port', '0'],
      ...['--allow-operator-asserted', '--offline'],
    );
    const [url] = await control.words(/(http:\/\/\S+) {2}operators/);
    const [agentUrl] = await control.words(/(https:\/\/\S+) {2}agents/);
    const keyIn = (name: string) => readFileSync(join(controlFolder, name), 'utf8').trim();
    await until(() => existsSync(join(controlFolder, 'gateway.key')));
    const operator = { url, key: keyIn('operator.key') };
    const { token } = await callControl(operator, CALLS.makeJoinToken, { body: { host: 'one' } });
    const place = join(folder, 'agent');
    start(
      ...['agent', '--control', agentUrl, '--token', token, '--host', 'one', '--folder', place],
      ...['--fabric', host.state],
    );
    const policy = { policy: 'operator-asserted', maxAgeSeconds: 3600 };
    await callControl(operator, CALLS.putPolicy, { params: { name: 'trial' }, body: policy });
    const quota = { ...QUOTA, weight: 1 };
    await callControl(operator, CALLS.putTenant, { params: { tenant: 'reader' }, body: { quota } });
    const asked = { role: 'tenant', tenant: 'reader' };
    const { key } = await callControl(operator, CALLS.makeKey, { body: asked });
    const spec = { models: ['storyteller'], image: 'storyteller', policy: 'trial', gpus: 2 };
    const pool = { ...spec, replicas: { min: 1, max: 1 } };
    await callControl(operator, CALLS.putPool, { params: { pool: 'stories' }, body: pool });
    const gateway = start(
      ...['gateway', '--control', url, '--control-key-file', join(controlFolder, 'gateway.key')],
      ...['--port', '0', '--state-file', join(folder, 'routes.json'), '--name', 'test', '--json'],
    );
    const [base] = await gateway.words(/"url":"(http:[^"]+)"/);
    const replicas = async () => (await callControl(operator, CALLS.listReplicas)).rows;
    closing.push(async () => {
      for (const { replica } of await replicas().catch(() => [])) {
        endGuest(join(place, 'guests', replica, 'process'));
      }
    });
    await until(async () => {
      const health = await (await fetch(`${base}/health`)).json();
      return (health as { pools: { serving: number } }).pools.serving === 1;
    });

    const authorization = `Bearer ${key}`;
    const body = JSON.stringify({ model: 'storyteller', prompt: 'Once', max_tokens: 4 });
    const headers = { authorization, 'content-type': 'application/json' };
    const answer = await fetch(`${base}/v1/completions`, { method: 'POST', headers, body });
    const text = await answer.text();
    expect(answer.status).toBe(200);
    const id = answer.headers.get('x-receipt-id')!;
    const get = (path: string) => fetch(`${base}${path}`, { headers: { authorization } });
    let signed: SignedReceipt | null = null;
    await until(async () => {
      const response = await get(`/v1/receipts/${id}`);
      signed = response.ok ? ((await response.json()) as SignedReceipt) : null;
      return signed !== null;
    });
    const { receipt } = signed! as SignedReceipt;
    const signer = (await (await get('/v1/receipts/key')).json()) as { public_key: string };
    await verifyReceipt(signed!, signer.public_key);
    expect(receipt).toMatchObject({ requestSha256: sha256(body), responseSha256: sha256(text) });

    // Its words, the gateway's, control's and those of the log are the same.
    const [row] = await replicas();
    const { replica, logIndex, tenancyEpoch } = row!;
    expect(receipt.replica).toEqual({ id: replica, tenancyEpoch, logIndex });
    expect(answer.headers.get('x-bridgekeeper-replica')).toBe(
      `${replica};epoch=${tenancyEpoch};log=${logIndex}`,
    );
    const evidence = { params: { evidence: row!.evidence!.id } };
    const admitted = await callControl(operator, CALLS.getEvidence, evidence);
    expect(admitted).toMatchObject({ isAccepted: true, logIndex, tenancyEpoch });
    const [vkey, logUrl] = await fabric.words(/"vkey":"([^"]+)","url":"([^"]+)"/);
    const { entries } = await readLogTiles(fetchTiles(logUrl!));
    expect(entries[logIndex!]).toMatchObject({
      kind: 'fact',
      change: 'activate',
      tenancy: { epoch: tenancyEpoch, modules: row!.modules },
    });
    // The log is whole, signed, and says nothing that must not be.
    const { io } = testIo();
    const words = ['fabric', 'replay', logUrl!, '--log-key', vkey, '--witness-min', '0'];
    expect(await runCli(words, io)).toBe(0);
  }, 600_000);
});
