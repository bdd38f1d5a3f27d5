import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  canonicalBytes,
  readLogProof,
  readNoteKey,
  verifyLogProof,
} from '@bridgekeeper/attest/log';
import { afterAll, describe, expect, test } from 'vitest';
import { simulate } from '../simulate/simulate.ts';
import type { World } from '../simulate/world.ts';
import { verifyEntries } from './bundle.ts';
import { type Change, commitmentOf, type LogEntry, type Opening, readOpenings } from './entries.ts';
import { FileLog, readLogFolder } from './file-log.ts';
import { checkpointText, noteSigner } from './note.ts';
import { replayLog } from './replay.ts';
import { type Hash, isConsistent, leafHash, Tree } from './tree.ts';
import { Witness, witnessFile, witnessListener } from './witness.ts';

const root = mkdtempSync(join(tmpdir(), 'fabric-log-'));
afterAll(() => rmSync(root, { recursive: true }));
let folders = 0;
const newFolder = () => join(root, `${++folders}`);
const newKey = () => generateKeyPairSync('ed25519').privateKey;
const NOW = 1_790_000_000;

const signer = noteSigner('bk.example/host-1/fabric', 'log', newKey());
const witnessSigner = noteSigner('w.example', 'witness', newKey());
const open = (folder: string) => FileLog.open({ folder, signer, nowSeconds: () => NOW });
const trust = async (witnessesMin = 0) => ({
  log: await readNoteKey(signer.vkey),
  witnesses: [await readNoteKey(witnessSigner.vkey)],
  witnessesMin,
});

const head = { host: 'host-1', bootId: 'boot', grade: 'host', atMs: 0 } as const;
const started: LogEntry = {
  ...head,
  kind: 'agent-started',
  agentVersion: '1',
  fmVersion: '590.48.01',
  driverVersion: '590.48.01',
};
const alarmed = (module: number): LogEntry => ({
  ...head,
  kind: 'alarm',
  reason: 'fabric-fault',
  modules: [module],
});
const openingOf = (tenant: string): Opening => ({ tenant, tenancy: 't', salt: '00'.repeat(32) });

/** A life's entries, an intent and a fact for each change. */
function lifeOf(
  tenant: string,
  modules: readonly number[],
  changes: readonly Change[],
): LogEntry[] {
  const commitment = commitmentOf(openingOf(tenant));
  const tenancy = { commitment, epoch: 1, modules, partition: 4 };
  return changes.flatMap((change): LogEntry[] => [
    { ...head, kind: 'intent', change, tenancy },
    { ...head, kind: 'fact', change, tenancy },
  ]);
}
const UP: readonly Change[] = ['claim', 'fence', 'sanitize', 'activate', 'bind', 'boot'];
const DOWN: readonly Change[] = ['stop', 'unbind', 'deactivate', 'release'];
const rulesOf = (entries: readonly LogEntry[]) =>
  replayLog([started, ...entries]).findings.map(({ rule }) => rule);

async function filled(folder: string, entries: readonly LogEntry[]): Promise<FileLog> {
  const log = open(folder);
  for (const entry of entries) await log.append(entry);
  return log;
}

describe('the tree', () => {
  const leaves = Array.from({ length: 40 }, (_, i) => leafHash(Buffer.from(`entry ${i}`)));
  const tree = new Tree();
  for (const leaf of leaves) tree.add(leaf);
  const treeOf = (size: number) => ({ size, root: tree.root(size) });

  test('shows that each of its sizes is the beginning of each later one', () => {
    for (let now = 0; now <= 40; now++) {
      for (let old = 0; old <= now; old++) {
        const path = tree.consistencyPath(old, now);
        expect(isConsistent(treeOf(old), treeOf(now), path)).toBe(true);
        if (old === 0 || old === now) continue;
        const other = { size: old, root: leafHash(Buffer.from('another')) };
        expect(isConsistent(other, treeOf(now), path)).toBe(false);
        expect(isConsistent(treeOf(old), other, path)).toBe(false);
        expect(isConsistent(treeOf(old), treeOf(now), path.slice(1))).toBe(false);
        const more: Hash[] = [...path, leaves[0]!];
        expect(isConsistent(treeOf(old), treeOf(now), more)).toBe(false);
      }
    }
  });
});

describe('a log on the disk', () => {
  const entries = [started, ...Array.from({ length: 12 }, (_, i) => alarmed(i + 1))];

  test('gives proofs that a verifier takes for each entry and for no other', async () => {
    const log = await filled(newFolder(), entries);
    for (const [index, entry] of entries.entries()) {
      const proof = readLogProof(log.proof(index)!);
      const held = await verifyLogProof(canonicalBytes(entry), proof, await trust());
      expect(held).toMatchObject({ index, size: entries.length });
      const another = canonicalBytes(alarmed(16));
      await expect(verifyLogProof(another, proof, await trust())).rejects.toThrow('another one');
    }
  });

  test('is the same after an agent was ended at any point of an append', async () => {
    const folder = newFolder();
    (await filled(folder, entries)).close();
    const whole = readFileSync(join(folder, 'entries'));
    const before = readFileSync(join(folder, 'checkpoint'), 'utf8');
    const log = open(folder);
    await log.append(alarmed(16));
    log.close();
    const longer = readFileSync(join(folder, 'entries'));
    for (let bytes = whole.length; bytes <= longer.length; bytes += 7) {
      // What the disk has if the process ended there: part of a record, and the old checkpoint.
      writeFileSync(join(folder, 'entries'), longer.subarray(0, bytes));
      writeFileSync(join(folder, 'checkpoint'), before);
      const again = open(folder);
      const isThere = bytes === longer.length;
      expect(await again.size()).toBe(entries.length + (isThere ? 1 : 0));
      expect(await again.append(alarmed(9))).toBe(entries.length + (isThere ? 1 : 0));
      await verifyEntries(await again.read(0, 100), again.checkpoint(), [before], await trust());
      again.close();
    }
  });

  test('goes on without a checkpoint, and over a tail that was never written', async () => {
    const folder = newFolder();
    (await filled(folder, entries)).close();
    rmSync(join(folder, 'checkpoint'));
    appendFileSync(join(folder, 'entries'), Buffer.alloc(4096));
    const log = open(folder);
    expect(await log.read(0, 100)).toEqual(entries);
    log.close();
  });

  test('refuses to go on when entries were taken away or changed', async () => {
    const folder = newFolder();
    (await filled(folder, entries)).close();
    const whole = readFileSync(join(folder, 'entries'));
    truncateSync(join(folder, 'entries'), whole.length - 1);
    expect(() => open(folder)).toThrow(expect.objectContaining({ code: 'log-broken' }));
    const changed = Buffer.from(whole);
    changed[60]! ^= 1;
    writeFileSync(join(folder, 'entries'), changed);
    expect(() => open(folder)).toThrow('has changed');
  });

  test('is read by others as it was written, and no unknown entry is', async () => {
    const folder = newFolder();
    const log = await filled(folder, [...entries, ...lifeOf('a', [1, 2], UP)]);
    expect(readLogFolder(folder)).toEqual({
      entries: await log.read(0, 100),
      checkpoint: log.checkpoint(),
    });
    await log.append({ ...started, agentVersion: 'x'.repeat(300) });
    expect(() => readLogFolder(folder)).toThrow('entry 25 is none that is known here');
  });

  test('is not read where a pipe stands in its place', () => {
    const folder = newFolder();
    mkdirSync(folder);
    execFileSync('mkfifo', [join(folder, 'entries')]);
    expect(() => readLogFolder(folder)).toThrow('is no file');
  });

  test('refuses an entry larger than a tile of others could hold', async () => {
    const log = await filled(newFolder(), [started]);
    const huge = { ...started, agentVersion: 'x'.repeat(70_000) };
    await expect(log.append(huge)).rejects.toMatchObject({ code: 'log-unwritable' });
    expect(await log.size()).toBe(1);
  });
});

describe('a reader', () => {
  test('sees entries that are not those which were signed for', async () => {
    const log = await filled(newFolder(), [started, alarmed(1)]);
    const early = log.checkpoint();
    await log.append(alarmed(2));
    const note = log.checkpoint();
    const all = await log.read(0, 10);
    const verify = async (entries: readonly LogEntry[], kept: readonly string[] = [early]) =>
      verifyEntries(entries, note, kept, await trust());
    expect(await verify(all)).toEqual({ size: 3, witnesses: [] });
    const broken = expect.objectContaining({ code: 'log-broken' });
    await expect(verify([started, alarmed(3), alarmed(2)])).rejects.toEqual(broken);
    await expect(verify(all.slice(0, 2))).rejects.toEqual(broken);
    const text = checkpointText(signer.name, 2, leafHash(Buffer.from('another history')));
    const forked = `${text}\n${signer.sign(text, NOW)}`;
    await expect(verify(all, [forked])).rejects.toThrow('the first 2 entries');
    const unsigned = note.replace('\n3\n', '\n2\n');
    await expect(verifyEntries(all, unsigned, [], await trust())).rejects.toEqual(broken);
    await expect(verifyEntries(all, note, [], await trust(1))).rejects.toThrow('0 witnesses');
  });

  test('finds a planted overlap from checkpoint, entries and his own opening', async () => {
    const mine = lifeOf('alice', [1, 2], UP);
    const theirs = lifeOf('mallory', [2, 3], ['claim', 'fence', 'sanitize', 'activate']);
    const log = await filled(newFolder(), [started, ...mine, ...theirs]);
    const entries = await log.read(0, 1000);
    await verifyEntries(entries, log.checkpoint(), [], await trust());
    const { findings, lives } = replayLog(entries, [openingOf('alice')]);
    expect(lives.map(({ isMine }) => isMine)).toEqual([true, false]);
    expect(findings.map(({ rule }) => rule)).toContain('overlap');
    expect(findings[0]!.message).toMatch(/^module 2 is given to tenancy [0-9a-f]{12} while/);
    expect(JSON.stringify(entries)).not.toMatch(/alice|mallory/);
  });
});

test('an opening has one split into tenant and tenancy', () => {
  const opening = openingOf('alice');
  expect(readOpenings(JSON.stringify([opening]))).toEqual([opening]);
  const other = { ...opening, tenant: 'alice\nt', tenancy: '' };
  expect(readOpenings(JSON.stringify([other]))).toBeNull();
});

describe('replaying', () => {
  test('finds nothing wrong with lives one after the other', () => {
    const lives = [...lifeOf('a', [1, 2], [...UP, ...DOWN]), ...lifeOf('b', [1, 2], UP)];
    expect(rulesOf(lives)).toEqual([]);
  });

  test('wants an intent before each change, and a reset after the last tenant', () => {
    const life = lifeOf('a', [1], UP);
    expect(rulesOf(life.filter((_, i) => i !== 2))).toEqual(['intent']);
    const unreset = UP.filter((change) => change !== 'sanitize');
    expect(rulesOf(lifeOf('a', [1], unreset))).toContain('reset');
    const early = lifeOf('b', [1], ['claim', 'fence', 'sanitize']);
    const late = lifeOf('b', [1], ['activate']);
    expect(rulesOf([...early, ...lifeOf('a', [1], [...UP, ...DOWN]), ...late])).toContain('reset');
  });

  test('wants the partition that Fabric Manager listed', () => {
    const table: LogEntry = {
      ...head,
      kind: 'table',
      digest: '',
      partitions: [{ id: 4, modules: [1, 2] }],
    };
    expect(rulesOf([table, ...lifeOf('a', [1, 2], UP)])).toEqual([]);
    expect(rulesOf([table, ...lifeOf('a', [1, 3], UP)])).toContain('table');
  });

  const restarted: LogEntry = {
    ...head,
    kind: 'fm-restarted',
    mode: null,
    tableDigest: '',
    before: [4],
    after: [],
  };

  test('takes what a restart of Fabric Manager left out for inactive', () => {
    const life = lifeOf('a', [1, 2], UP);
    const lost = replayLog([started, ...life, restarted]).lives[0]!;
    expect([lost.activatedAt, lost.deactivatedAt]).toEqual([8, 13]);
    const again = lifeOf('a', [1, 2], ['sanitize', 'activate']);
    const back = replayLog([started, ...life, restarted, ...again]);
    expect([back.lives[0]!.deactivatedAt, back.findings]).toEqual([null, []]);
    const kept = replayLog([started, ...life, { ...restarted, after: [4] }]).lives[0]!;
    expect(kept.deactivatedAt).toBeNull();
  });

  test('wants an intent before each change, and none before a fact that is repeated', () => {
    const [intent, fact] = lifeOf('a', [1], ['activate']) as [LogEntry, LogEntry];
    const up = [...lifeOf('a', [1], ['claim', 'fence', 'sanitize']), intent, fact];
    expect(rulesOf([...up, started, fact])).toEqual([]);
    expect(rulesOf([...up, ...lifeOf('a', [1], ['deactivate']), fact])).toEqual([
      'intent',
      'reset',
    ]);
  });

  test('wants a partition before a guest, and evidence before it serves', () => {
    const unready = UP.filter((change) => change !== 'activate');
    expect(rulesOf(lifeOf('a', [1], unready))).toEqual(['order']);
    expect(rulesOf([...lifeOf('a', [1], UP), restarted, ...lifeOf('a', [1], ['boot'])])).toEqual([
      'order',
    ]);
    expect(rulesOf(lifeOf('a', [1], [...UP, 'attest', 'admit']))).toEqual([]);
    const [life] = replayLog([started, ...lifeOf('a', [1], [...UP, 'attest', 'admit'])]).lives;
    expect(life!.admittedAt).toBe(16);
    expect(rulesOf(lifeOf('a', [1], [...UP, 'admit']))).toEqual(['order']);
    expect(rulesOf(lifeOf('a', [1], [...UP, 'attest', 'boot', 'admit']))).toEqual(['order']);
  });

  test('finds a table without a partition that is in use, and entries of another host', () => {
    const table = (modules: readonly number[]): LogEntry => ({
      ...head,
      kind: 'table',
      digest: '',
      partitions: [{ id: 4, modules }],
    });
    const life = lifeOf('a', [1, 2], UP);
    expect(rulesOf([table([1, 2]), ...life, table([1, 2])])).toEqual([]);
    expect(rulesOf([table([1, 2]), ...life, table([3, 4])])).toEqual(['table']);
    expect(rulesOf([{ ...alarmed(1), host: 'host-2' }])).toEqual(['host', 'alarm']);
  });

  test('finds nothing wrong with what the agent logs through faults and crashes', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      let world: World | undefined;
      await simulate({
        seed,
        stormSeconds: 120,
        faultProbability: 0.05,
        crashProbability: 0.01,
        happen: (each) => {
          world = each;
          return undefined;
        },
      });
      const { findings } = replayLog(world!.log);
      expect(findings.filter(({ rule }) => rule !== 'alarm')).toEqual([]);
    }
  });
});

describe('a witness', () => {
  const witnessOf = async (path: string) =>
    new Witness([await readNoteKey(signer.vkey)], witnessSigner, witnessFile(path), () => NOW);

  test('cosigns what goes on from what it has seen, and nothing else', async () => {
    const path = join(root, 'witness');
    const witness = await witnessOf(path);
    const log = await filled(newFolder(), [started, alarmed(1)]);
    const first = await witness.addCheckpoint(log.witnessRequest(0));
    expect(first.status).toBe(200);
    const seen = await verifyEntries(
      await log.read(0, 10),
      log.checkpoint() + first.body,
      [],
      await trust(1),
    );
    expect(seen.witnesses).toEqual([{ name: 'w.example', seenAtSeconds: NOW }]);

    await log.append(alarmed(2));
    await log.append(alarmed(3));
    const stale = await witness.addCheckpoint(log.witnessRequest(0));
    expect(stale).toEqual({ status: 409, type: 'text/x.tlog.size', body: '2\n' });
    // Another process of the same witness remembers.
    const again = await witnessOf(path);
    expect((await again.addCheckpoint(log.witnessRequest(2))).status).toBe(200);
  });

  test('refuses a second history, a stranger and what is malformed', async () => {
    const witness = await witnessOf(join(root, 'witness-2'));
    const log = await filled(newFolder(), [started, alarmed(1)]);
    expect((await witness.addCheckpoint(log.witnessRequest(0))).status).toBe(200);
    const fork = await filled(newFolder(), [started, alarmed(7), alarmed(2)]);
    expect((await witness.addCheckpoint(fork.witnessRequest(2))).status).toBe(422);
    const impostor = noteSigner(signer.name, 'log', newKey());
    const forged = FileLog.open({ folder: newFolder(), signer: impostor, nowSeconds: () => NOW });
    expect((await witness.addCheckpoint(forged.witnessRequest(0))).status).toBe(403);
    const stranger = noteSigner('other.example', 'log', newKey());
    const other = FileLog.open({ folder: newFolder(), signer: stranger, nowSeconds: () => NOW });
    expect((await witness.addCheckpoint(other.witnessRequest(0))).status).toBe(404);
    for (const body of ['', 'old 1', 'old -1\n\nx', `old 2\nAAAA\n\n${log.checkpoint()}`]) {
      expect((await witness.addCheckpoint(body)).status).toBe(400);
    }
  });

  test('answers over HTTP, within bounds', async () => {
    const witness = await witnessOf(join(root, 'witness-3'));
    const server = createServer(witnessListener(witness)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const post = (path: string, body: string) =>
      fetch(`http://127.0.0.1:${port}${path}`, { method: 'POST', body });
    const log = await filled(newFolder(), [started]);
    expect((await post('/add-checkpoint', log.witnessRequest(0))).status).toBe(200);
    const stale = await post('/add-checkpoint', log.witnessRequest(0));
    expect([stale.status, stale.headers.get('content-type')]).toEqual([409, 'text/x.tlog.size']);
    expect((await post('/add-checkpoint', 'x'.repeat(70_000))).status).toBe(413);
    expect((await post('/other', '')).status).toBe(404);
    server.close();
    server.closeAllConnections();
  });

  test('cosigns nothing that it cannot remember', async () => {
    const store = {
      read: () => null,
      write: () => Promise.reject(new Error('the disk is full')),
    };
    const logs = [await readNoteKey(signer.vkey)];
    const witness = new Witness(logs, witnessSigner, store, () => NOW);
    const log = await filled(newFolder(), [started]);
    const { status, body } = await witness.addCheckpoint(log.witnessRequest(0));
    expect(status).toBe(500);
    expect(body).not.toContain('\u2014');
  });
});
