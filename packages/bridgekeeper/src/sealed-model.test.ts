import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Seal, sealModel } from '@bridgekeeper/engine/seal';
import { writeModelFolder } from '@bridgekeeper/engine/testing';
import { openTokenizer } from '@bridgekeeper/engine/text';
import { startConfiguredEngine } from '@bridgekeeper/server';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from './cli/program.ts';
import { LAUNCHER } from './launcher.ts';
import { testIo } from './testing/test-io.ts';

const STORYTELLER = fileURLToPath(new URL('../../../models/storyteller', import.meta.url));

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-sealed-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const userKey = randomBytes(32);
const keyFile = join(scratch, 'key');
const otherKeyFile = join(scratch, 'other-key');
writeFileSync(keyFile, userKey.toString('hex'), { mode: 0o600 });
writeFileSync(otherKeyFile, randomBytes(32).toString('hex'), { mode: 0o600 });

/** Runs a command line in this process, with the real engine in its thread. */
async function run(...args: string[]) {
  const test = testIo({ startEngine: startConfiguredEngine });
  const code = await runCli(args, test.io);
  return { code, out: test.out, err: test.err.join('\n') };
}

describe('an encrypted copy of the bundled model', () => {
  const folder = join(scratch, 'storyteller');
  let seal: Seal;
  let child: ChildProcess;
  let url: string;
  let log = '';

  beforeAll(async () => {
    seal = await sealModel(STORYTELLER, {
      out: folder,
      userKey,
      chunkBytes: 2 ** 20,
      threads: 1,
    });
    const key = ['--seal-key-command', `cat ${keyFile}`, '--seal-root', seal.root];
    const flags = ['--port', '0', '--json', '--device', 'cpu', '--log-level', 'trace'];
    child = spawn(process.execPath, [LAUNCHER, 'serve', folder, ...flags, ...key], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, XDG_STATE_HOME: scratch },
    });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      log += text;
    });
    const [line] = (await once(child.stdout!.setEncoding('utf8'), 'data')) as [string];
    ({ url } = JSON.parse(line));
  }, 60_000);
  afterAll(async () => {
    const exit = once(child, 'exit');
    child.kill('SIGTERM');
    await exit;
  });

  const post = async (path: string, body: object) => {
    const headers = { 'Content-Type': 'application/json' };
    const init = { method: 'POST', headers, body: JSON.stringify(body) };
    return (await fetch(`${url}${path}`, init)).json() as Promise<never>;
  };

  it('is read by nobody without its key', () => {
    for (const name of ['config.json', 'tokenizer.json', 'model.safetensors']) {
      const [plain, stored] = [STORYTELLER, folder].map((each) => readFileSync(join(each, name)));
      expect(stored!.length).toBe(plain!.length);
      expect(stored!.equals(plain!)).toBe(false);
      expect(stored!.includes(plain!.subarray(0, 16))).toBe(false);
    }
  });

  it('says what the plain one says', async () => {
    const golden = JSON.parse(readFileSync(join(STORYTELLER, 'golden.json'), 'utf8'));
    for (const { prompt, text } of golden as { prompt: string; text: string }[]) {
      const wish = { model: 'storyteller', prompt, max_tokens: 64, temperature: 0 };
      const { choices } = await post('/v1/completions', wish);
      expect(prompt + (choices as { text: string }[])[0]!.text).toBe(text);
    }
  });

  it('encodes long texts, in another thread, as the plain one does', async () => {
    const prompt = 'There was something beautiful. '.repeat(70);
    const { tokens } = await post('/tokenize', { model: 'storyteller', prompt });
    const tokenizer = await openTokenizer(STORYTELLER);
    expect(tokens).toEqual([...tokenizer.encode(prompt, true)]);
  });

  it('shows its root to clients and in the log, and its key to nobody', async () => {
    const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: unknown[] };
    expect(data[0]).toMatchObject({ id: 'storyteller', seal_root: seal.root });
    expect(log).toContain(`model verified: root ${seal.root}`);
    for (const encoding of ['hex', 'base64', 'latin1'] as const) {
      expect(log).not.toContain(userKey.toString(encoding));
    }
  });

  it('gives a benchmark its tokenizer, with the key', async () => {
    const load = ['--num-prompts', '2', '--random-input-len', '8', '--random-output-len', '2'];
    const bench = ['bench', 'serve', '--base-url', url, '--tokenizer', folder, ...load];
    expect(await run(...bench, '--seal-key-file', keyFile)).toMatchObject({ code: 0 });
    const refused = await run(...bench);
    expect(refused).toMatchObject({ code: 2, out: [] });
    expect(refused.err).toContain('is encrypted; give its key');
  });
});

describe.each([
  ['a sealed model', false],
  ['an encrypted model', true],
])('%s', (_, isEncrypted) => {
  const source = join(scratch, `source ${isEncrypted}`);
  const sealed = isEncrypted ? join(scratch, 'encrypted') : source;
  const key = isEncrypted ? ['--seal-key-file', keyFile] : [];
  let seal: Seal;
  let copies = 0;

  beforeAll(async () => {
    await writeModelFolder(source, { shards: 2 });
    writeFileSync(join(source, 'generation_config.json'), '{ "temperature": 0.5 }\n');
    const encryption = isEncrypted ? { out: sealed, userKey } : {};
    seal = await sealModel(source, { ...encryption, chunkBytes: 16_384, threads: 1 });
  });

  async function copy(): Promise<string> {
    copies += 1;
    const folder = join(scratch, `copy ${isEncrypted} ${copies}`);
    await cp(sealed, folder, { recursive: true });
    return folder;
  }

  /** What `serve` says that refuses: nothing is served, and the code is that of bad input. */
  async function refusal(folder: string, ...args: string[]): Promise<string> {
    const flags = ['--port', '0', '--json', '--device', 'cpu', '--log-level', 'fatal'];
    const { code, out, err } = await run('serve', folder, ...flags, '--receipts', 'off', ...args);
    expect([code, out]).toEqual([2, []]);
    return err;
  }

  it.each([
    'config.json',
    'generation_config.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'model.safetensors.index.json',
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
  ])('with one bit changed in %s is not served', async (name) => {
    const folder = await copy();
    const bytes = readFileSync(join(folder, name));
    bytes[bytes.length - 2]! ^= 4;
    writeFileSync(join(folder, name), bytes);
    const error = await refusal(folder, ...key);
    expect(error).toMatch(/^bridgekeeper: \S+: chunk \d+ \(\d+ bytes from \d+\) is not what was/);
    expect(error).toContain(name);
  });

  it('comes by threads that copy what they read, and not with one bit changed', async () => {
    const folder = await copy();
    const readers = ['--crossed-by', 'readers', '--readers', '2', '--chunk-bytes', '65536'];
    const flags = ['--device', 'cpu', '--json', ...readers, ...key];
    const { code, out } = await run('load', folder, ...flags);
    expect(code).toBe(0);
    expect(JSON.parse(out.join('\n')).runs[0].parameters.verified).toBe(true);
    const name = 'model-00002-of-00002.safetensors';
    const bytes = readFileSync(join(folder, name));
    bytes[bytes.length - 2]! ^= 4;
    writeFileSync(join(folder, name), bytes);
    const changed = await run('load', folder, ...flags);
    expect([changed.code, changed.out]).toEqual([2, []]);
    expect(changed.err).toContain(name);
  });

  it('is not served under another root, another key, or without its manifest', async () => {
    const folder = await copy();
    const other = '0'.repeat(64);
    const wrongRoot = `the model's root is ${seal.root}, and ${other} was expected`;
    expect(await refusal(folder, ...key, '--seal-root', other)).toContain(wrongRoot);
    const wrongKey = await refusal(folder, '--seal-key-file', otherKeyFile);
    expect(wrongKey).toMatch(isEncrypted ? /another key/ : /not encrypted/);
    unlinkSync(join(folder, 'bridgekeeper.seal.json'));
    const notSealed = 'there is no bridgekeeper.seal.json in';
    expect(await refusal(folder, '--model-seal', 'require')).toContain(notSealed);
    expect(await refusal(folder, '--seal-root', seal.root)).toContain(notSealed);
    if (isEncrypted) expect(await refusal(folder, ...key)).toContain(notSealed);
    if (isEncrypted) expect(await refusal(folder)).toContain('is not UTF-8 text');
  });
});
