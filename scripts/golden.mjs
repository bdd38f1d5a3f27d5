// What this release leaves on disks, small, for later releases to read: tests/golden/<version>.
//
//   npm run golden            writes it; one that is there already is left as it was released

import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const folder = join(root, 'tests/golden', version);
const load = (path) => import(join(root, 'packages', path));
const json = (name, value) =>
  writeFileSync(join(folder, name), `${JSON.stringify(value, null, 1)}\n`);

async function receipts() {
  const { Receipts } = await load('server/dist/receipts/receipts.js');
  const { HOST_CLOCK } = await load('server/dist/host-clock.js');
  const { makeReceiptFacts } = await load('attest/dist/testing/index.js');
  const kept = await Receipts.open({
    path: join(folder, 'receipts.sqlite'),
    retention: { countMax: 100, secondsMax: 1e9 },
    clock: HOST_CLOCK,
    waitSeconds: 0,
    onWait: () => {},
    onTrouble: (message) => {
      throw new Error(message);
    },
  });
  const facts = [1, 2, 3].map((n) => makeReceiptFacts(n));
  facts[1] = { ...facts[1], replica: { id: 'r1', tenancyEpoch: 2, logIndex: 3 } };
  facts[2] = { ...facts[2], engine: { restarts: 1, isResumed: true } };
  for (const each of facts) kept.issue(each, 'default');
  const chain = await kept.head();
  const signed = await Promise.all(facts.map(({ id }) => kept.find(id, 'default')));
  const links = await kept.links(1, 100);
  json('receipts.json', {
    key: kept.signer.key,
    chain,
    links,
    receipts: signed.map((text) => JSON.parse(text)),
  });
  await kept.close();
}

async function sealedModel() {
  const { writeModelFolder } = await load('engine/dist/testing/index.js');
  const { sealModel } = await load('engine/dist/seal/index.js');
  const model = join(folder, 'model');
  await writeModelFolder(model, { config: { num_hidden_layers: 1 } });
  const { root: sealRoot } = await sealModel(model, { chunkBytes: 2 ** 16, threads: 1 });
  json('seal.json', { root: sealRoot });
}

async function fabricLog() {
  const { FileLog } = await load('fabric/dist/log/file-log.js');
  const { noteSigner } = await load('fabric/dist/log/note.js');
  const key = generateKeyPairSync('ed25519').privateKey;
  const signer = noteSigner('bk.example/host-1/fabric', 'log', key);
  const path = join(folder, 'fabric-log');
  const log = FileLog.open({ folder: path, signer, nowSeconds: () => 1_790_000_000 });
  const head = { host: 'host-1', bootId: 'boot', grade: 'host', atMs: 0 };
  const version = '590.48.01';
  await log.append({
    ...head,
    kind: 'agent-started',
    agentVersion: '1',
    fmVersion: version,
    driverVersion: version,
  });
  const tenancy = { commitment: '00'.repeat(32), epoch: 1, modules: [1, 2], partition: 4 };
  for (const kind of ['intent', 'fact']) {
    await log.append({ ...head, kind, change: 'claim', tenancy });
  }
}

async function control() {
  const { openControl, SYSTEM_CHANCE, SYSTEM_TIME } = await load('control/dist/index.js');
  const { VENDOR_ROOTS } = await load('attest/dist/index.js');
  const nothing = () => undefined;
  const control = await openControl({
    folder: join(folder, 'control'),
    database: null,
    listen: { host: '127.0.0.1', port: 0 },
    agents: { host: '127.0.0.1', port: 0 },
    names: ['127.0.0.1'],
    admission: { anchors: VENDOR_ROOTS, allowsOperatorAsserted: true, services: nothing },
    predict: null,
    version,
    time: SYSTEM_TIME,
    chance: SYSTEM_CHANCE,
    onTrouble: nothing,
    onCrash: nothing,
  });
  control.ended.catch(nothing);
  await control.leads;
  await control.close();
}

if (existsSync(folder) && !process.argv.includes('--again')) {
  process.stderr.write(`${folder} is there: released files stay as they are\n`);
  process.exit(1);
}
rmSync(folder, { recursive: true, force: true });
mkdirSync(join(folder, 'control'), { recursive: true });
json(
  'profile.json',
  JSON.parse(readFileSync(join(root, 'packages/bridge/profiles/b300-cc.json'), 'utf8')),
);
await receipts();
await sealedModel();
await fabricLog();
await control();
