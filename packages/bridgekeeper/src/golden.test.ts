import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  readReceiptLinks,
  readSignedReceipt,
  VENDOR_ROOTS,
  verifyReceiptChain,
} from '@bridgekeeper/attest';
import { parseProfile, profileLaw } from '@bridgekeeper/bridge';
import { openControl, SYSTEM_CHANCE, SYSTEM_TIME } from '@bridgekeeper/control';
import { verifyModel } from '@bridgekeeper/engine/seal';
import { readLogFolder, replayLog } from '@bridgekeeper/fabric';
import { startTestServer } from '@bridgekeeper/server/testing';
import { afterAll, describe, expect, test } from 'vitest';

const GOLDEN = fileURLToPath(new URL('../../../tests/golden', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-golden-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const OFFLINE = { references: null, revocation: null, tokenKeys: null, collateral: null };

interface Chain {
  readonly key: string;
  readonly chain: { readonly sequence: number; readonly hash: string };
  readonly links: object;
  readonly receipts: readonly { readonly receipt: { readonly id: string } }[];
}

// What every release left on disks is read by this one. `npm run golden` adds a release.
describe.each(readdirSync(GOLDEN))('what release %s left', (release) => {
  const folder = join(GOLDEN, release);
  const text = (name: string) => readFileSync(join(folder, name), 'utf8');
  const json = <T>(name: string) => JSON.parse(text(name)) as T;

  test('receipts: a server goes on with their file, key and chain', async () => {
    const { key, chain, receipts } = json<Chain>('receipts.json');
    const file = join(scratch, `${release}.sqlite`);
    for (const end of ['', '.key', '.head']) {
      await cp(join(folder, `receipts.sqlite${end}`), `${file}${end}`);
      chmodSync(`${file}${end}`, 0o600);
    }
    const server = await startTestServer({}, { receipts: file });
    try {
      const get = async (path: string) => (await fetch(`${server.url}${path}`)).json();
      expect(await get('/v1/receipts/key')).toMatchObject({ public_key: key, chain });
      for (const { receipt } of receipts) {
        expect(await get(`/v1/receipts/${receipt.id}`)).toMatchObject({ receipt });
      }
      const body = { model: server.modelName, prompt: 'a', max_tokens: 1 };
      expect((await server.post('/v1/completions', body)).headers.get('x-receipt-kept')).toBe(
        'disk',
      );
    } finally {
      await server.stop(0);
    }
  });

  test('receipts that clients kept: they verify', async () => {
    const { key, chain, links, receipts } = json<Chain>('receipts.json');
    const signed = receipts.map((each) => readSignedReceipt(JSON.stringify(each)));
    const whole = readReceiptLinks(JSON.stringify(links));
    expect(await verifyReceiptChain(whole, signed, key, chain)).toBe(chain.hash);
  });

  test('a profile: it is a law', () => {
    const { profile } = profileLaw(parseProfile(json('profile.json')));
    expect(profile.name).toBe(json<{ name: string }>('profile.json').name);
  });

  test('a sealed model: every byte is the one that was sealed', async () => {
    const { root } = json<{ root: string }>('seal.json');
    const { faults, seal } = await verifyModel(join(folder, 'model'), { root, threads: 1 });
    expect([faults, seal.root]).toEqual([[], root]);
  });

  test('a log of a fabric: it is read and replayed', () => {
    const { entries, checkpoint } = readLogFolder(join(folder, 'fabric-log'));
    expect(entries.map(({ kind }) => kind)).toEqual(['agent-started', 'intent', 'fact']);
    expect(checkpoint).toContain('bk.example/host-1/fabric');
    expect(replayLog(entries).findings).toEqual([]);
  });

  test('a control: the next one leads over its database', async () => {
    const state = join(scratch, `${release}-control`);
    await cp(join(folder, 'control'), state, { recursive: true });
    const control = await openControl({
      folder: state,
      database: null,
      listen: { host: '127.0.0.1', port: 0 },
      agents: { host: '127.0.0.1', port: 0 },
      names: ['127.0.0.1'],
      admission: {
        anchors: VENDOR_ROOTS,
        allowsOperatorAsserted: true,
        services: () => OFFLINE,
      },
      predict: null,
      version: '0.0.0',
      time: SYSTEM_TIME,
      chance: SYSTEM_CHANCE,
      onTrouble: () => undefined,
      onCrash: () => undefined,
    });
    void control.ended.catch(() => undefined);
    await control.leads;
    await control.close();
  });
});
