import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SyntheticEngine, syntheticStart } from '../engine/synthetic-engine.ts';
import { settingsWith } from '../settings/configuration.ts';
import { SETTINGS } from '../settings/table.ts';
import { HandClock } from '../testing/hand-clock.ts';
import { configurationOf } from './configuration.ts';
import { openEvidence } from './evidence.ts';
import { digestHeaders } from './model-identity.ts';
import { digestFiles, readSoftware } from './software.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'identity-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(path: string, content: string | Uint8Array): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), content);
}

describe('the digest of our files', () => {
  it('is of the code that runs, whatever lies beside it', async () => {
    write('engine/dist/index.js', 'one');
    write('device/kernels/copy.cu', 'two');
    const digest = await digestFiles(folder);
    write('engine/dist/index.test.js', 'a test');
    write('engine/dist/index.d.ts', 'types');
    write('engine/src/index.ts', 'source');
    expect(await digestFiles(folder)).toBe(digest);
    write('engine/dist/deep/more.js', 'three');
    const more = await digestFiles(folder);
    expect(more).not.toBe(digest);
    write('device/kernels/copy.cu', 'another');
    expect(await digestFiles(folder)).not.toBe(more);
  });

  it('is read from this very program', async () => {
    const { filesSha256, bundleSha256, version } = await readSoftware({
      version: '1.2.3',
      node: '20.19.0',
      commit: null,
      digest: null,
    });
    expect(filesSha256).toMatch(/^[0-9a-f]{64}$/);
    expect([bundleSha256, version]).toEqual([null, '1.2.3']);
  });
});

describe("the digest of a model's headers", () => {
  const tensors = (header: string, weights: string) => {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    return Buffer.concat([length, Buffer.from(header), Buffer.from(weights)]);
  };

  it('is of settings, names and shapes, and not of weights', async () => {
    write('config.json', '{}');
    write('model.safetensors', tensors('{"a":1}', 'weights'));
    const digest = await digestHeaders(folder);
    write('notes.md', 'no part of it');
    write('model.safetensors', tensors('{"a":1}', 'WEIGHTS'));
    expect(await digestHeaders(folder)).toBe(digest);
    write('model.safetensors', tensors('{"b":1}', 'weights'));
    expect(await digestHeaders(folder)).not.toBe(digest);
  });

  it('is that of reports, or nothing is loaded from the folder again', async () => {
    write('config.json', '{}');
    write('model.safetensors', tensors('{"a":1}', 'weights'));
    const version = { version: '0', node: '', commit: null, digest: null };
    const evidence = await openEvidence(
      settingsWith({ model: folder }),
      syntheticStart(new SyntheticEngine()),
      {
        clock: new HandClock(),
        machine: {},
        receipts: null,
        modelName: 'm',
        version,
        encryptionKeys: async () => new Uint8Array(),
      },
    );
    await evidence.requireSameModel();
    write('config.json', '{"a":2}');
    await expect(evidence.requireSameModel()).rejects.toThrow(/are not those that reports name/);
    await evidence.close();
  });

  it('is none of a folder without a model, and stands broken files', async () => {
    expect(await digestHeaders(folder)).toBeNull();
    expect(await digestHeaders(join(folder, 'none'))).toBeNull();
    write('model.safetensors', Buffer.alloc(8, 0xff));
    expect(await digestHeaders(folder)).toMatch(/^[0-9a-f]{64}$/);
    expect(await digestHeaders(SETTINGS.model.default)).toMatch(/^[0-9a-f]{64}$/);
  });
});

it('the configuration shows nothing that is secret or a place', () => {
  const secrets = { apiKey: ['sesame'], sslKeyfile: '/secret/key', sslCertfile: '/secret/cert' };
  const places = { uds: '/secret/socket', receipts: '/secret/receipts', model: '/secret/model' };
  const settings = settingsWith({ ...secrets, ...places });
  const card = { law: 'off', policy: 'resident', device: { kind: 'cpu' } };
  const shown = configurationOf(settings, card, true);
  expect(shown).toMatchObject({ 'needs-api-key': true, tls: true, receipts: true, device: 'cpu' });
  expect(JSON.stringify(shown)).not.toMatch(/secret|sesame/);
});
