import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeModelFolder } from '@bridgekeeper/engine/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CliIo } from '../io.ts';
import { runCli } from './program.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-seal-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const model = join(scratch, 'model');
const sealed = join(scratch, 'sealed');
const keyFile = join(scratch, 'key');

beforeAll(async () => {
  await writeModelFolder(model, {});
  writeFileSync(keyFile, randomBytes(32).toString('hex'));
  chmodSync(keyFile, 0o600);
});

async function run(args: readonly string[], more: Partial<CliIo> = {}) {
  const out: string[] = [];
  const err: string[] = [];
  const bars: string[] = [];
  const io: CliIo = {
    environment: {},
    readFile: () => '',
    writeFile: () => {},
    out: (line) => out.push(line),
    err: (line) => err.push(line),
    redraw: (line) => bars.push(line),
    isTerminal: false,
    onSignal: () => {},
    nowNs: () => 0,
    exit: () => {},
    exitLater: () => {},
    startEngine: () => Promise.reject(new Error('sealing starts no engine')),
    ...more,
  };
  const code = await runCli(['seal', ...args, '--threads', '1'], io);
  return { code, bars, out: out.join('\n'), err: err.join('\n') };
}

describe('seal', () => {
  test('writes a manifest, shows its root, and verifies by it', async () => {
    const { code, out, bars } = await run([model, '--chunk-bytes', '64K']);
    expect(code).toBe(0);
    const [, root] = /^root ([0-9a-f]{64})$/m.exec(out)!;
    expect(out).toMatch(/^sealed: 4 files, 0\.00 GB in \d+ chunks, /);
    expect(bars.at(-2)).toMatch(/^\[#{20}\] 0\.00 of 0\.00 GB, /);
    expect(bars.at(-1)).toBe('');
    const manifest = JSON.parse(readFileSync(join(model, 'bridgekeeper.seal.json'), 'utf8'));
    expect(manifest).toMatchObject({ root, chunkBytes: 65_536, encryption: null, mac: null });
    const verified = await run([model, '--verify', '--root', root!, '--json']);
    expect(verified.code).toBe(0);
    expect(JSON.parse(verified.out)).toMatchObject({ root, verified: true, faults: [] });
    const other = await run([model, '--verify', '--root', '0'.repeat(64)]);
    expect(other).toMatchObject({ code: 1, out: '' });
    expect(other.err).toContain(`the model's root is ${root}`);
  });

  test('encrypts copies, and says where they differ from what was sealed', async () => {
    const encrypt = [model, '--out', sealed, '--encrypt', '--key-command', `cat ${keyFile}`];
    const { code, out } = await run([...encrypt, '--chunk-bytes', '64K']);
    expect(code).toBe(0);
    expect(out).toMatch(/^encrypted with AES-256-GCM, key id [0-9a-f]{16}$/m);
    const verify = [sealed, '--verify', '--key-file', keyFile];
    expect(await run(verify)).toMatchObject({ code: 0 });
    expect(await run([sealed, '--verify'])).toMatchObject({ code: 2 });
    const path = join(sealed, 'model.safetensors');
    const bytes = readFileSync(path);
    bytes[70_000]! ^= 1;
    writeFileSync(path, bytes);
    const changed = await run(verify);
    expect(changed.code).toBe(1);
    expect(changed.out.split('\n')).toEqual([
      'model.safetensors: chunk 1 (65536 bytes from 65536) is not what was sealed',
      'NOT what was sealed: 1 differences',
    ]);
    const document = JSON.parse((await run([...verify, '--json'])).out);
    expect(document.faults).toMatchObject([{ file: 'model.safetensors', offsetBytes: 65_536 }]);
  });

  test('that is interrupted writes nothing', async () => {
    const out = join(scratch, 'interrupted');
    let interrupt = () => {};
    const result = await run([model, '--out', out, '--chunk-bytes', '8K'], {
      onSignal: (action) => {
        interrupt = () => action('SIGINT');
      },
      redraw: () => interrupt(),
    });
    expect(result).toMatchObject({ code: 1, out: '' });
    expect(result.err).toBe('bridgekeeper: interrupted: nothing was written');
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(scratch).filter((name) => name.includes('partial'))).toEqual([]);
  });

  test.each([
    [[model, '--encrypt'], '--encrypt: name the folder'],
    [[model, '--encrypt', '--out', 'x'], '--encrypt: give --key-file or --key-command'],
    [[model, '--key-file', keyFile], 'a key is given, but not --encrypt'],
    [[model, '--root', '0'.repeat(64)], '--root is what --verify compares with'],
    [[model, '--verify', '--out', 'x'], '--verify writes nothing'],
    [[model, '--verify', '--root', 'x'], '--root: must be 64 hex digits'],
    [[model, '--chunk-bytes', '1000'], '--chunk-bytes: must be a multiple of 8192'],
    [[model, '--out', model], 'already there'],
    [['/nowhere'], 'has neither model.safetensors'],
    [['/nowhere', '--verify'], 'bridgekeeper seal makes one'],
    [[], "missing required argument 'model'"],
  ])('%o is bad usage', async (args, message) => {
    const { code, err } = await run(args);
    expect(err).toContain(message);
    expect(code).toBe(2);
  });
});
