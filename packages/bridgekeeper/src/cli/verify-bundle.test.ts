import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeLogProof, makeNoteSigner } from '@bridgekeeper/attest/testing';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { sealManifest } from '../bundle/manifest.ts';
import { testIo } from '../testing/test-io.ts';
import { runCli } from './program.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-verify-bundle-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const folder = join(scratch, 'bundle');
const place = (name: string) => join(folder, name);
const PROOF = join(scratch, 'bundle.tlog-proof');

const log = await makeNoteSigner('log.example', 1);
const witness = await makeNoteSigner('witness.example', 4);

async function run(...args: readonly string[]) {
  const { io, out, err } = testIo({ readFile: (path) => readFileSync(path, 'utf8') });
  const code = await runCli(['verify-bundle', ...args], io);
  return { code, out: out.join('\n'), err: err.join('\n') };
}

const trust = ['--log-key', log.vkey, '--witness-key', witness.vkey];
const verify = (...more: readonly string[]) => run(folder, '--proof', PROOF, ...trust, ...more);

/** A bundle of three files, and a log that has it as the second of three entries. */
beforeEach(async () => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(place('bin'), { recursive: true });
  writeFileSync(place('bin/node'), 'node');
  chmodSync(place('bin/node'), 0o755);
  writeFileSync(place('README.md'), 'read');
  symlinkSync('bin/node', place('node'));
  const file = (path: string) => {
    const bytes = readFileSync(place(path));
    return { path, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
  };
  const manifest = sealManifest({
    name: 'bridgekeeper',
    version: '0.1.0',
    commit: null,
    node: '20.19.0',
    platform: 'linux-x64',
    files: [file('README.md'), file('bin/node'), { path: 'node', link: 'bin/node' }],
  });
  writeFileSync(place('bundle.json'), JSON.stringify(manifest));
  const entry = `bridgekeeper.bundle/v1\nbridgekeeper 0.1.0 linux-x64\nsha256:${manifest.digest}\n`;
  const entries = ['one', entry, 'three'].map((text) => new TextEncoder().encode(text));
  writeFileSync(PROOF, await makeLogProof(entries, 1, log, [witness], 1_790_000_000));
});

describe('a bundle', () => {
  test('that is whole and in the log is verified, with who saw it', async () => {
    const { code, out } = await verify();
    expect(code).toBe(0);
    expect(out).toMatch(/^digest +[0-9a-f]{64}, of 3 files/m);
    expect(out).toMatch(/^log +log\.example, entry 1 of 3$/m);
    expect(out).toMatch(/^witness +witness\.example, at 2026-09-21T/m);
    expect(JSON.parse((await verify('--json')).out)).toMatchObject({ index: 1, size: 3, files: 3 });
  });

  test('says what belongs into the log, which is what is proven to be there', async () => {
    const { code, out } = await run(folder, '--print-entry');
    expect(code).toBe(0);
    expect(out).toMatch(/^bridgekeeper\.bundle\/v1\nbridgekeeper 0\.1\.0 linux-x64\nsha256:/);
  });

  test.each<[string, () => void, string]>([
    ['changed', () => writeFileSync(place('README.md'), 'else'), 'is not the file'],
    ['missing', () => rmSync(place('README.md')), 'is missing'],
    ['too many', () => writeFileSync(place('bin/more'), ''), 'is not in the manifest'],
    [
      'led elsewhere',
      () => {
        rmSync(place('node'));
        symlinkSync('/bin/sh', place('node'));
      },
      'is not a link to',
    ],
    [
      'exchanged for a link',
      () => {
        rmSync(place('README.md'));
        symlinkSync('bin/node', place('README.md'));
      },
      'is not the file',
    ],
  ])('with a file that is %s is refused', async (_, change, message) => {
    change();
    const { code, err } = await verify();
    expect([code, err]).toEqual([1, expect.stringContaining(message)]);
  });

  const edit = (change: (manifest: { version: string; files: object[] }) => void) => {
    const manifest = JSON.parse(readFileSync(place('bundle.json'), 'utf8'));
    change(manifest);
    return manifest;
  };

  test('with another manifest is refused by its digest, and a sealed one by the log', async () => {
    const changed = edit((manifest) => {
      manifest.version = '0.1.1';
    });
    writeFileSync(place('bundle.json'), JSON.stringify(changed));
    expect(await verify()).toMatchObject({ code: 1, err: expect.stringContaining('[changed]') });
    writeFileSync(place('bundle.json'), JSON.stringify(sealManifest(changed)));
    const { code, out, err } = await verify('--json');
    expect([code, err]).toEqual([1, expect.stringContaining('[binding-mismatch]')]);
    expect(JSON.parse(out).error).toMatchObject({ code: 'binding-mismatch' });
  });

  test('whose manifest leads out of it, or is none, cannot be read', async () => {
    const leading = edit((manifest) => {
      manifest.files = [{ path: '../x', link: 'y' }];
    });
    for (const text of [JSON.stringify(leading), '{', '{}']) {
      writeFileSync(place('bundle.json'), text);
      expect(await verify()).toMatchObject({
        code: 2,
        err: expect.stringContaining('bundle.json'),
      });
    }
  });
});

describe('trust', () => {
  test('is never taken from the proof', async () => {
    const other = await makeNoteSigner('log.example', 1);
    const keys = ['--log-key', other.vkey, '--witness-key', witness.vkey];
    const { code, err } = await run(folder, '--proof', PROOF, ...keys);
    expect([code, err]).toEqual([1, expect.stringContaining('did not sign the checkpoint')]);
    const stranger = await makeNoteSigner('other.example', 4);
    const { code: few } = await verify('--witness-key', stranger.vkey);
    expect(few).toBe(1);
    expect((await verify('--witness-key', stranger.vkey, '--witness-min', '1')).code).toBe(0);
  });

  test.each([
    [[], '--proof and --log-key: give both'],
    [['--proof', PROOF, '--log-key', log.vkey], '--witness-key: without'],
    [['--proof', PROOF, '--log-key', 'x', '--witness-min', '0'], 'is not name+id+key'],
    [['--proof', place('none'), ...trust], '--proof: '],
  ])('%j exits with 2', async (args, message) => {
    const { code, err } = await run(folder, ...args);
    expect([code, err]).toEqual([2, expect.stringContaining(message)]);
  });
});
