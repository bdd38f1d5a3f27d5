// What a fabric's log costs: node docs/results/fabric/speed.mjs <vectors> > docs/results/fabric/speed.json
// Needs a build; <vectors> is the folder with NVIDIA's evidence of eight H100 and four switches.

import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, fdatasyncSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir, cpus } from 'node:os';
import { join } from 'node:path';
import { BUILT_IN_POLICIES, ChainCache, VENDOR_ROOTS, verifyEvidence } from '../../../packages/attest/dist/index.js';
import { readNoteKey } from '../../../packages/attest/dist/log.js';
import { verifyEntries } from '../../../packages/fabric/dist/log/bundle.js';
import { commitmentOf } from '../../../packages/fabric/dist/log/entries.js';
import { FileLog, readLogFolder } from '../../../packages/fabric/dist/log/file-log.js';
import { noteSigner } from '../../../packages/fabric/dist/log/note.js';
import { replayLog } from '../../../packages/fabric/dist/log/replay.js';
import { Witness, witnessFile, witnessListener } from '../../../packages/fabric/dist/log/witness.js';

const ENTRIES = 10_000;
const folder = mkdtempSync(join(process.env.SPEED_FOLDER ?? tmpdir(), 'fabric-speed-'));
const nowSeconds = () => Math.floor(Date.now() / 1000);
const newKey = () => generateKeyPairSync('ed25519').privateKey;
const ms = (fromNs) => Number(process.hrtime.bigint() - fromNs) / 1e6;
const cpuMs = (before) => {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
};
const quantiles = (times) => {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (part) => Number(sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))].toFixed(3));
  return { count: times.length, p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99), mostMs: at(1) };
};

/** What the disk itself takes for 400 bytes and a sync. */
function disk() {
  const fd = openSync(join(folder, 'probe'), 'a');
  const times = Array.from({ length: 500 }, () => {
    const begun = process.hrtime.bigint();
    writeSync(fd, Buffer.alloc(400, 1));
    fdatasyncSync(fd);
    return ms(begun);
  });
  closeSync(fd);
  return quantiles(times);
}

const head = { host: 'host-1', bootId: 'boot', grade: 'host', atMs: 0 };
const CHANGES = ['claim', 'fence', 'sanitize', 'activate', 'deactivate', 'release'];
function entryAt(index) {
  if (index === 0) {
    return { ...head, kind: 'agent-started', agentVersion: '1', fmVersion: '590.48.01', driverVersion: '590.48.01' };
  }
  const step = (index - 1) % (2 * CHANGES.length);
  const life = Math.floor((index - 1) / (2 * CHANGES.length));
  const commitment = commitmentOf({ tenant: `t${life}`, tenancy: 'x', salt: '00'.repeat(32) });
  const tenancy = { commitment, epoch: life + 1, modules: [1, 2, 3, 4], partition: 1 };
  return { ...head, kind: step % 2 === 0 ? 'intent' : 'fact', change: CHANGES[step >> 1], tenancy };
}

const signer = noteSigner('bk/host-1/fabric', 'log', newKey());
const log = FileLog.open({ folder: join(folder, 'log'), signer, nowSeconds });
const appendTimes = [];
const appendBegun = process.hrtime.bigint();
for (let i = 0; i < ENTRIES; i++) {
  const begun = process.hrtime.bigint();
  await log.append(entryAt(i));
  appendTimes.push(ms(begun));
}
const append = { perSecond: Math.round(ENTRIES / (ms(appendBegun) / 1000)), ...quantiles(appendTimes) };

const trust = { log: await readNoteKey(signer.vkey), witnesses: [], witnessesMin: 0 };
const vectors = process.argv[2];
const files = ['hgx-h100-8gpu-evidence.json', 'hgx-h100-4switch-evidence.json'].map((name) => ({
  name,
  bytes: new Uint8Array(readFileSync(join(vectors, 'nvidia', name))),
  isNamed: true,
}));
const replay = [];
for (let i = 0; i < 7; i++) {
  const before = process.cpuUsage();
  const begun = process.hrtime.bigint();
  const { entries, checkpoint } = readLogFolder(join(folder, 'log'));
  await verifyEntries(entries, checkpoint, [], trust);
  const { findings, lives } = replayLog(entries);
  const replayed = { wall: ms(begun), cpu: cpuMs(before) };
  const devicesBefore = process.cpuUsage();
  const devicesBegun = process.hrtime.bigint();
  const { verdict } = await verifyEvidence({
    input: 'hgx',
    files,
    policy: BUILT_IN_POLICIES.get('evidence'),
    context: { nowMs: Date.now(), anchors: VENDOR_ROOTS, chains: new ChainCache(), nonce: null, references: null, revocation: null, collateral: null, tokenKeys: null },
  });
  replay.push({
    entries: entries.length, lives: lives.length, findings: findings.length, devices: verdict.result,
    replayWallMs: Math.round(replayed.wall), replayCpuMs: Math.round(replayed.cpu),
    devicesWallMs: Math.round(ms(devicesBegun)), devicesCpuMs: Math.round(cpuMs(devicesBefore)),
  });
}

/** Logs that grow by one entry and have each checkpoint cosigned, by HTTP on this machine. */
async function witnessed(logs, rounds) {
  const signers = Array.from({ length: logs }, (_, i) => noteSigner(`bk/host-${i}/fabric`, 'log', newKey()));
  const keys = await Promise.all(signers.map(({ vkey }) => readNoteKey(vkey)));
  const own = noteSigner('w.example', 'witness', newKey());
  const witness = new Witness(keys, own, witnessFile(join(folder, `cosigned-${logs}`)), nowSeconds);
  const server = createServer(witnessListener(witness)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${server.address().port}/add-checkpoint`;
  // Requests are made before, so that nothing but the witness is timed.
  const requests = [];
  for (const [i, each] of signers.entries()) {
    const grown = FileLog.open({ folder: join(folder, `log-${logs}-${i}`), signer: each, nowSeconds });
    requests.push([]);
    for (let round = 0; round < rounds; round++) {
      await grown.append(entryAt(round));
      requests[i].push(grown.witnessRequest(round));
    }
  }
  const inside = [];
  const add = witness.addCheckpoint.bind(witness);
  witness.addCheckpoint = async (body) => {
    const begun = process.hrtime.bigint();
    const answer = await add(body);
    inside.push(ms(begun));
    return answer;
  };
  const times = [];
  const before = process.cpuUsage();
  const begun = process.hrtime.bigint();
  await Promise.all(requests.map(async (own) => {
    for (const body of own) {
      const sent = process.hrtime.bigint();
      const { status } = await fetch(url, { method: 'POST', body });
      if (status !== 200) throw new Error(`${status}`);
      times.push(ms(sent));
    }
  }));
  const perSecond = Math.round(times.length / (ms(begun) / 1000));
  // Of both sides: what the client takes to send and read is in it.
  const cpuMsPerAnswer = Number((cpuMs(before) / times.length).toFixed(2));
  server.close();
  server.closeAllConnections();
  return { logs, perSecond, cpuMsPerAnswer, answers: quantiles(times), inTheWitness: quantiles(inside) };
}
const diskSync = disk();
const witness = [await witnessed(1, 100), await witnessed(16, 20)];

process.stdout.write(`${JSON.stringify({
  machine: `${cpus().length} cores shared with other work, node ${process.version}`,
  command: 'node docs/results/fabric/speed.mjs <vectors>',
  loadAverage: (await import('node:os')).loadavg().map((each) => Number(each.toFixed(1))),
  diskSync, append, replay, witness,
}, null, 1)}\n`);
log.close();
rmSync(folder, { recursive: true });
