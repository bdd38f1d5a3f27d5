import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeModelFolder } from '@bridgekeeper/engine/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testIo } from '../testing/test-io.ts';
import { runCli } from './program.ts';

const STORYTELLER = fileURLToPath(new URL('../../../../models/storyteller', import.meta.url));
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'load-command-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function load(...args: string[]) {
  const { io, out, err } = testIo({});
  const code = await runCli(['load', ...args, '--device', 'cpu'], io);
  return { code, out: out.join('\n'), err: err.join('\n') };
}

describe('load', () => {
  test('says where the time went, and that the device holds what the files do', async () => {
    const { code, out } = await load(STORYTELLER, '--check');
    expect(code).toBe(0);
    expect(out).toContain('LlamaForCausalLM, 74 tensors in 1 files');
    expect(out).toContain('checked 74 tensors on the device: all as in the files');
    // Figures of any size can be read.
    expect(out).toMatch(/^all +14\.\d MB .* [1-9][\d.]* [MG]B\/s$/m);
    expect(out).not.toMatch(/ 0(\.0+)? [MGT]?B\/s/);
    for (const stage of ['open', 'read', 'cross', 'place', 'verify', 'all']) {
      expect(out).toMatch(new RegExp(`^${stage} `, 'm'));
    }
  });

  test('a model by its name in the Hugging Face cache', async () => {
    const entry = join(folder, 'hub', 'models--tiny--storyteller');
    const commit = '0123456789abcdef0123456789abcdef01234567';
    await mkdir(join(entry, 'snapshots'), { recursive: true });
    await mkdir(join(entry, 'refs'));
    await symlink(STORYTELLER, join(entry, 'snapshots', commit));
    await writeFile(join(entry, 'refs', 'main'), commit);
    const cache = ['--download-dir', join(folder, 'hub')];
    expect(await load('tiny/storyteller', ...cache)).toMatchObject({ code: 0 });
    const { code, err } = await load('tiny/other', ...cache);
    expect(code).toBe(2);
    expect(err).toContain('hf download tiny/other');
  });

  test('one document, in the shape of all results', async () => {
    const { code, out } = await load(STORYTELLER, '--json', '--readers', '2', '--contexts', '2');
    expect(code).toBe(0);
    const { suite, runs } = JSON.parse(out);
    expect(suite).toBe('load');
    const [{ parameters, metrics }] = runs;
    expect(parameters).toMatchObject({ law: 'off', contexts: 2, readers: 2, verified: false });
    expect(parameters.model).toBe('storyteller');
    expect(metrics.bytes).toBeGreaterThan(14e6);
    for (const name of ['readGBps', 'crossGBps', 'transformSeconds', 'totalSeconds', 'limitGBps']) {
      expect(metrics[name], name).toBeGreaterThan(0);
    }
    expect(metrics.stagingBytes).toBeLessThanOrEqual(256 * 2 ** 20);
  });

  test('what has no architecture here is loaded as it is stored', async () => {
    const foreign = join(folder, 'foreign');
    await writeModelFolder(foreign, {});
    await writeFile(join(foreign, 'config.json'), '{"architectures":["MambaForCausalLM"]}');
    const { code, out } = await load(foreign, '--check');
    expect(code).toBe(0);
    expect(out).toContain('no architecture known here: tensors as they are stored');
    expect((await load(foreign, '--rank', '0/2')).code).toBe(2);
  });

  test('a rank holds less than all', async () => {
    const whole = JSON.parse((await load(STORYTELLER, '--json')).out).runs[0].metrics;
    const half = JSON.parse((await load(STORYTELLER, '--json', '--rank', '1/2')).out);
    expect(half.runs[0].metrics.deviceBytes).toBeLessThan(0.7 * whole.deviceBytes);
  });

  test('threads that copy what they read', async () => {
    const how = ['--crossed-by', 'readers', '--readers', '2', '--chunk-bytes', '1048576'];
    const { code, out } = await load(STORYTELLER, ...how, '--check', '--json');
    expect(code).toBe(0);
    const [{ parameters, metrics }] = JSON.parse(out).runs;
    expect(parameters).toMatchObject({ crossedBy: 'readers', contexts: 0, readers: 2 });
    expect(metrics).toMatchObject({ stagingBytes: 2 ** 19, differingTensors: 0 });
    for (const name of ['readGBps', 'crossGBps', 'transformSeconds', 'readThreadSeconds']) {
      expect(metrics[name], name).toBeGreaterThan(0);
    }
  });

  test('the plain way, to compare', async () => {
    const { code, out } = await load(STORYTELLER, '--path', 'plain', '--json');
    expect(code).toBe(0);
    expect(JSON.parse(out).runs[0].parameters.path).toBe('plain');
  });

  test.each([
    [['--rank', '2/2'], '2/2'],
    [['--chunk-bytes', '5000'], 'multiple of 4096'],
    [['--contexts', '-1'], '--contexts'],
    [['--memory', 'swap'], '--memory'],
    [['--crossed-by', 'readers', '--readers', '0'], 'at least one reader'],
    [['--crossed-by', 'readers', '--readers', '2', '--contexts', '1'], 'contexts'],
    [['--crossed-by', 'readers', '--readers', '2', '--law', 'emulate:b300-cc'], 'for lanes'],
    [['--law', 'emulate:nowhere'], 'nowhere'],
    [['--model-seal', 'require'], 'bridgekeeper.seal.json'],
  ])('%s is refused', async (args, words) => {
    const { code, err } = await load(STORYTELLER, ...args);
    expect(code).toBe(2);
    expect(err).toContain(words);
  });

  test('a folder without a model', async () => {
    const { code, err } = await load(join(folder, 'nothing'));
    expect(code).toBe(2);
    expect(err).toContain('nothing');
  });
});
