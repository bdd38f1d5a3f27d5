import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
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
import { verifyEntries } from './bundle.ts';
import { Cosigner, type PostToWitness } from './cosigner.ts';
import type { LogEntry } from './entries.ts';
import { FileLog, readLogFolder } from './file-log.ts';
import { noteSigner } from './note.ts';
import { type FetchTile, readLogTiles } from './read-tiles.ts';
import { logListener, readTilePath, TILE_HASHES, tilePath } from './tiles.ts';
import { leafHash, Tree } from './tree.ts';
import { Witness, witnessFile } from './witness.ts';

const root = mkdtempSync(join(tmpdir(), 'fabric-cosigner-'));
afterAll(() => rmSync(root, { recursive: true }));
let folders = 0;
const newPath = () => join(root, `${++folders}`);
const newKey = () => generateKeyPairSync('ed25519').privateKey;
const NOW = 1_790_000_000;
const signer = noteSigner('bk.example/host-1/fabric', 'log', newKey());
const witnesses = ['one', 'two'].map((name) => noteSigner(`${name}.example`, 'witness', newKey()));

const entry = (module: number): LogEntry => ({
  host: 'host-1',
  bootId: 'boot',
  grade: 'host',
  atMs: 0,
  kind: 'alarm',
  reason: 'fabric-fault',
  modules: [(module % 16) + 1],
});
const open = (folder: string) => FileLog.open({ folder, signer, nowSeconds: () => NOW });
async function filled(folder: string, count: number): Promise<FileLog> {
  const log = open(folder);
  for (let i = 0; i < count; i++) await log.append(entry(i));
  return log;
}
/** The same without a sync for each. */
function written(folder: string, count: number): FileLog {
  mkdirSync(folder);
  const records = Array.from({ length: count }, (_, i) => {
    const body = Buffer.from(canonicalBytes(entry(i)));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(body.length);
    return Buffer.concat([length, leafHash(body), body]);
  });
  writeFileSync(join(folder, 'entries'), Buffer.concat(records));
  return open(folder);
}
const trust = async (witnessesMin: number) => ({
  log: await readNoteKey(signer.vkey),
  witnesses: await Promise.all(witnesses.map(({ vkey }) => readNoteKey(vkey))),
  witnessesMin,
});

/** Two witnesses at addresses of their own; `isDown` has those that do not answer. */
async function witnessed() {
  const logs = [await readNoteKey(signer.vkey)];
  const paths = witnesses.map(newPath);
  const all = witnesses.map((one, i) => new Witness(logs, one, witnessFile(paths[i]!), () => NOW));
  const isDown = new Set<number>();
  const asked: string[] = [];
  const post: PostToWitness = async (url, body) => {
    const index = Number(new URL(url).port) - 1;
    asked.push(body.split('\n')[0]!);
    if (isDown.has(index)) throw new Error('connection refused');
    const { status, body: answer } = await all[index]!.addCheckpoint(body);
    return { status, body: answer };
  };
  const places = await Promise.all(
    witnesses.map(async ({ vkey }, i) => ({
      url: `http://127.0.0.1:${i + 1}`,
      key: await readNoteKey(vkey),
    })),
  );
  return { post, places, isDown, asked };
}

describe('a log that witnesses cosign', () => {
  test('publishes what they have seen, and goes on from there after a restart', async () => {
    const { post, places, asked } = await witnessed();
    const folder = newPath();
    const log = await filled(folder, 3);
    expect(await new Cosigner(log, places, 2, post).round()).toEqual([]);
    await verifyEntries(await log.read(0, 10), log.published(), [], await trust(2));
    await log.append(entry(9));
    // The fourth is not seen by anybody yet, so there is no proof of it either.
    expect([log.proof(2), log.proof(3)]).toEqual([expect.any(String), null]);
    log.close();

    const again = open(folder);
    expect(readLogFolder(folder).checkpoint).toBe(again.published());
    const cosigner = new Cosigner(again, places, 2, post);
    asked.length = 0;
    expect(await cosigner.round()).toEqual([]);
    // It does not know what they have seen, and they tell.
    expect(asked.sort()).toEqual(['old 0', 'old 0', 'old 3', 'old 3']);
    const kept = readLogFolder(folder);
    const seen = await verifyEntries(kept.entries, kept.checkpoint, [], await trust(2));
    expect(seen).toMatchObject({ size: 4, witnesses: [{ name: 'one.example' }, {}] });
    asked.length = 0;
    await cosigner.round();
    expect(asked).toEqual([]);
    const proof = readLogProof(again.proof(3)!);
    await verifyLogProof(canonicalBytes(entry(9)), proof, await trust(2));
  });

  test('publishes nothing that fewer than the quorum have signed, and asks again', async () => {
    const { post, places, isDown } = await witnessed();
    const log = await filled(newPath(), 2);
    const before = log.published();
    isDown.add(1);
    const both = new Cosigner(log, places, 2, post);
    expect(await both.round()).toMatchObject([{ code: 'witness-failed' }]);
    expect(log.published()).toBe(before);
    const one = new Cosigner(log, places, 1, post);
    expect(await one.round()).toMatchObject([{ code: 'witness-failed' }]);
    await verifyEntries(await log.read(0, 10), log.published(), [], await trust(1));
    isDown.clear();
    expect(await both.round()).toEqual([]);
    await verifyEntries(await log.read(0, 10), log.published(), [], await trust(2));
  });

  test('says so if a witness has seen more than there is, or signs with another key', async () => {
    const { post, places } = await witnessed();
    const longer = await filled(newPath(), 5);
    await new Cosigner(longer, places, 2, post).round();
    const shorter = await filled(newPath(), 3);
    const [error] = await new Cosigner(shorter, places, 2, post).round();
    expect(error!.message).toMatch(/has seen 5 entries, this log has 3; if this log was restored/);
    const forked = await filled(newPath(), 0);
    for (let i = 0; i < 6; i++) await forked.append(entry(i + 7));
    const [refusal] = await new Cosigner(forked, places, 2, post).round();
    expect(refusal!.message).toMatch(/it answers 422/);
    const swapped = places.map(({ url }, i) => ({ url, key: places[1 - i]!.key }));
    const [stranger] = await new Cosigner(await filled(newPath(), 1), swapped, 1, async () => {
      const text = shorter.checkpoint();
      return { status: 200, body: witnesses[0]!.sign(text, NOW) };
    }).round();
    expect(stranger!.message).toMatch(/signed with another key/);
  });
});

describe('a log in tiles', () => {
  test('has paths as C2SP tlog-tiles, and no others', () => {
    expect(tilePath(1_234_067)).toBe('x001/x234/067');
    expect([tilePath(0), tilePath(999), tilePath(1000)]).toEqual(['000', '999', 'x001/000']);
    for (let index = 0; index < 5_000_000; index += 12_345) {
      const path = `/tile/3/${tilePath(index)}.p/17`;
      expect(readTilePath(path)).toEqual({ level: 3, index, width: 17, isOfEntries: false });
    }
    const wrong = [
      '/tile/0/0',
      '/tile/0/x000/001',
      '/tile/7/000',
      '/tile/0/000.p/256',
      '/tile/-1/000',
    ];
    for (const path of [...wrong, '/tile/0/000.p/0', '/tile/0/000/', '/tile/data/000', '/x']) {
      expect([path, readTilePath(path)]).toEqual([path, null]);
    }
  });

  test('is read over HTTP as it was written, tile by tile', async () => {
    const size = 2 * TILE_HASHES + 3;
    const log = written(newPath(), size);
    const server = createServer(logListener(log)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const get = async (path: string) => {
      const response = await fetch(base + path);
      if (response.status !== 200) throw new Error(`${path}: ${response.status}`);
      return Buffer.from(await response.arrayBuffer());
    };
    const read = await readLogTiles(get);
    expect(read.entries).toEqual(Array.from({ length: size }, (_, i) => entry(i)));
    await verifyEntries(read.entries, read.checkpoint, [], await trust(0));

    // What tiles say, against a tree of our own.
    const tree = new Tree();
    for (const each of read.entries) tree.add(leafHash(canonicalBytes(each)));
    const full = await get('/tile/0/001');
    expect(full.length).toBe(32 * TILE_HASHES);
    expect(full.subarray(32, 64)).toEqual(tree.part(0, TILE_HASHES + 1));
    const above = new Tree();
    for (let i = 0; i < TILE_HASHES; i++) above.add(tree.part(0, i));
    expect((await get('/tile/1/000.p/2')).subarray(0, 32)).toEqual(above.root());
    const proof = readLogProof((await get('/proof/257')).toString());
    await verifyLogProof(canonicalBytes(entry(257)), proof, await trust(0));

    for (const path of ['/tile/1/000.p/3', '/tile/0/002', '/tile/0/002.p/4', '/proof/515', '/x']) {
      await expect(get(path)).rejects.toThrow('404');
    }
    expect((await fetch(`${base}/checkpoint`, { method: 'POST' })).status).toBe(405);
    server.close();
    server.closeAllConnections();
  });

  test('whose disk fails gives readers nothing, and ends nothing', async () => {
    const fail = () => {
      throw new Error('the disk failed');
    };
    const broken = { published: fail, tile: fail, entries: fail, proof: fail };
    const server = createServer(logListener(broken)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    for (const path of ['/checkpoint', '/tile/0/000', '/tile/entries/000', '/proof/0']) {
      expect((await fetch(base + path)).status).toBe(500);
    }
    server.close();
    server.closeAllConnections();
  });

  test('that is cut, or has more than its entries, is none', async () => {
    const log = await filled(newPath(), 3);
    const bytes = log.entries({ index: 0, width: 3 })!;
    const serve =
      (bundle: Buffer): FetchTile =>
      async (path) =>
        path === '/checkpoint' ? Buffer.from(log.published()) : bundle;
    const more = Buffer.concat([bytes, Buffer.of(0, 0)]);
    const broken = expect.objectContaining({ code: 'log-broken' });
    for (const bundle of [bytes.subarray(0, -1), more, Buffer.alloc(0), Buffer.alloc(6)]) {
      await expect(readLogTiles(serve(bundle))).rejects.toEqual(broken);
    }
    const missing: FetchTile = () => Promise.reject(new Error('it is down'));
    await expect(readLogTiles(missing)).rejects.toThrow('it is down');
  });
});

describe('what a witness remembers', () => {
  const HASH = 'ab'.repeat(32);

  test('is there at once, durable when it says so, and shares syncs', async () => {
    const path = newPath();
    const store = witnessFile(path);
    const writes = Array.from({ length: 50 }, (_, i) => store.write(`log-${i % 5}`, i, HASH));
    expect(store.read('log-4')).toEqual({ size: 49, root: HASH });
    await Promise.all(writes);
    expect(witnessFile(path).read('log-4')).toEqual({ size: 49, root: HASH });
    // A line that was cut off by the end of a process was acknowledged to nobody.
    appendFileSync(path, 'log-4 60 abab');
    const again = witnessFile(path);
    expect(again.read('log-4')!.size).toBe(49);
    await again.write('log-4', 51, HASH);
    expect(witnessFile(path).read('log-4')!.size).toBe(51);
    expect(readFileSync(path, 'utf8')).not.toContain('60 abab');
    appendFileSync(path, 'nonsense\n');
    expect(() => witnessFile(path)).toThrow(expect.objectContaining({ code: 'state-broken' }));
  });

  test('is what it was before, where the disk fails', async () => {
    const folder = newPath();
    const store = witnessFile(join(folder, 'missing', 'cosigned'));
    const lost = [store.write('a', 1, HASH), store.write('a', 2, HASH)];
    for (const each of await Promise.allSettled(lost)) expect(each.status).toBe('rejected');
    expect(store.read('a')).toBeNull();
  });
});
