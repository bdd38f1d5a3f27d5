import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { NVFM } from '@bridgekeeper/native';
import { compileLibrary, hasCompiler } from '@bridgekeeper/native/testing';
import { afterAll, describe, expect, test } from 'vitest';
import { nvfmManager, readFmAddress, readPartitions } from './nvfm.ts';
import { FM_STATUS } from './status.ts';

const folder = mkdtempSync(join(tmpdir(), 'fabric-nvfm-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('an address is ip:port, cid:port or a path', () => {
  expect(readFmAddress('127.0.0.1:6666')?.type).toBe('inet');
  expect(readFmAddress('3:6666')).toEqual({ type: 'vsock', text: '3:6666' });
  expect(readFmAddress('/run/fm.sock')?.type).toBe('unix');
  const wrong = [
    '',
    'localhost:6666',
    '256.0.0.1:6666',
    '1.2.3:4',
    '1:0',
    '4294967296:1',
    'fm.sock',
  ];
  for (const text of [...wrong, '127.0.0.1:65536', `/${'x'.repeat(300)}`]) {
    expect(readFmAddress(text)).toBeNull();
  }
});

test('every status of the header has advice, down to -29', () => {
  for (let status = -1; status >= -29; status--) expect(FM_STATUS[status]?.advice).toBeTruthy();
});

describe('a list', () => {
  const listOf = (change: (list: Buffer) => void) => {
    const list = Buffer.alloc(NVFM.list.bytes);
    list.writeUInt32LE(1, NVFM.list.count);
    list.writeUInt32LE(1, NVFM.list.partitions + NVFM.partition.gpuCount);
    list.writeUInt32LE(3, NVFM.list.partitions + NVFM.partition.gpus);
    change(list);
    return list;
  };
  const at = (offset: number, value: number) => (list: Buffer) =>
    void list.writeUInt32LE(value, NVFM.list.partitions + offset);

  test('is read by its modules', () => {
    const [partition] = readPartitions(listOf(() => undefined));
    expect(partition).toMatchObject({ id: 0, isActive: false, modules: [3] });
  });

  test.each([
    ['more partitions than it holds', (list: Buffer) => void list.writeUInt32LE(65, 4)],
    ['more GPUs than a partition holds', at(NVFM.partition.gpuCount, 17)],
    ['no GPUs', at(NVFM.partition.gpuCount, 0)],
    ['an activity that is neither', at(NVFM.partition.isActive, 2)],
    ['a module that is no place', at(NVFM.partition.gpus, 0)],
    [
      'two partitions of one id',
      (list: Buffer) => {
        list.writeUInt32LE(2, 4);
        list.copy(
          list,
          NVFM.list.partitions + 2060,
          NVFM.list.partitions,
          NVFM.list.partitions + 2060,
        );
      },
    ],
  ])('with %s is refused as a whole', (_, change) => {
    const refused = expect.objectContaining({ code: 'fm-out-of-bounds' });
    expect(() => readPartitions(listOf(change))).toThrow(refused);
  });
});

const TABLE = [
  ['0', '1,2,3,4,5,6,7,8'],
  ['1', '1,2,3,4'],
  ['2', '5,6,7,8'],
  ['3', '1,3'],
  ['4', '2,4'],
];

describe.skipIf(!hasCompiler)('through libnvfm', () => {
  const source = new URL('../../../native/libnvfm-stub/nvfm.c', import.meta.url);
  const libraryPath = hasCompiler
    ? compileLibrary(folder, 'nvfm', readFileSync(source, 'utf8'))
    : '';
  const state = join(folder, 'state');
  const seed = (lines: readonly string[] = []) => {
    const table = TABLE.map(([id, modules]) => `inactive was 0 ${id} ${modules}`);
    const head = ['phase serving', 'instance 1'];
    writeFileSync(state, `${[...head, ...lines, ...table].join('\n')}\n`);
    process.env.NVFM_STUB_STATE = state;
    return fm;
  };
  const fault = (name: string) => seed([`fault ${name} 1`]);
  const fm = nvfmManager({
    address: { type: 'unix', text: '/run/fm.sock' },
    libraryPath,
    version: async () => '590.48.01',
    after: () => () => undefined,
  });
  const active = async () =>
    (await fm.partitions()).filter(({ isActive }) => isActive).map(({ id }) => id);

  test('partitions are listed, activated and deactivated', async () => {
    seed();
    expect((await fm.partitions()).map(({ modules }) => modules.join())).toEqual(
      TABLE.map(([, modules]) => modules),
    );
    await fm.activate(1);
    expect(await active()).toEqual([1]);
    await expect(fm.activate(3)).rejects.toMatchObject({ code: 'fm-refused', status: -7 });
    await expect(fm.activate(1)).rejects.toMatchObject({ status: -7 });
    await expect(fm.activate(99)).rejects.toMatchObject({ status: -1 });
    await fm.deactivate(1);
    await expect(fm.deactivate(1)).rejects.toMatchObject({ status: -4 });
    expect(await active()).toEqual([]);
  });

  test('another process sees what this one did', async () => {
    seed();
    await fm.activate(2);
    const script = `
      import { nvfmManager } from ${JSON.stringify(new URL('./nvfm.js', import.meta.url).href)};
      const fm = nvfmManager({ address: { type: 'unix', text: '/fm' }, after: () => () => {},
        version: async () => '', libraryPath: ${JSON.stringify(libraryPath)} });
      await fm.deactivate(2); await fm.activate(1);`;
    await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
    expect(await active()).toEqual([1]);
  });

  test('a call that timed out, or lost its reply, may have had its effect', async () => {
    const unanswered = { code: 'fm-unanswered' };
    await expect(fault('timeout-before').activate(1)).rejects.toMatchObject(unanswered);
    expect(await active()).toEqual([]);
    for (const name of ['timeout-after', 'lost-reply']) {
      await expect(fault(name).activate(1)).rejects.toMatchObject(unanswered);
      expect(await active()).toEqual([1]);
    }
    await fault('no-effect').activate(1);
    expect(await active()).toEqual([]);
  });

  test('a restart loses what was active, and connections end with it', async () => {
    for (const name of ['restart-before', 'restart-after']) {
      await expect(fault(name).activate(1)).rejects.toMatchObject({ status: -9 });
      expect(await active()).toEqual([]);
    }
    await expect(fault('restart-to-resume').activate(1)).rejects.toMatchObject({ status: -9 });
    await expect(fm.partitions()).rejects.toMatchObject({ status: -8 });
    await fm.setActivated([2, 3]);
    expect(await active()).toEqual([2, 3]);
    await expect(fm.setActivated([])).rejects.toMatchObject({ status: -3 });
  });

  test('a list that is stale, changed or out of bounds is what it is', async () => {
    seed();
    await fm.activate(1);
    const now = readFileSync(state, 'utf8');
    writeFileSync(state, `fault stale-list 1\n${now}`);
    expect(await active()).toEqual([]);
    expect(await active()).toEqual([1]);
    const changed = await fault('table-changed').partitions();
    expect(changed[1]!.modules).toEqual([5, 6, 7, 8]);
    for (const name of ['partitions-beyond', 'gpus-beyond', 'module-twice']) {
      const refused = { code: 'fm-out-of-bounds' };
      await expect(fault(name).partitions()).rejects.toMatchObject(refused);
    }
  });

  test('statuses come with their meaning', async () => {
    await expect(fault('version-mismatch').partitions()).rejects.toMatchObject({
      code: 'fm-version',
    });
    await expect(fault('not-ready').activate(1)).rejects.toMatchObject({ status: -22 });
    await expect(fault('route-error').activate(1)).rejects.toThrow('ROUTE_PROGRAMMING_ERROR');
    writeFileSync(state, 'phase down\ninstance 2\n');
    await expect(fm.partitions()).rejects.toMatchObject({ code: 'fm-unanswered' });
  });

  test('a call that does not return is given up, and after two of them none is made', async () => {
    seed(['fault hang 9']);
    // In a process of its own, because the thread of such a call stays.
    const script = `
      import { nvfmManager } from ${JSON.stringify(new URL('./nvfm.js', import.meta.url).href)};
      const after = (_, action) => { const timer = setTimeout(action, 50);
        return () => clearTimeout(timer); };
      const fm = nvfmManager({ address: { type: 'unix', text: '/fm' }, after,
        version: async () => '', libraryPath: ${JSON.stringify(libraryPath)} });
      for (const of of ['activate', 'partitions', 'activate', 'deactivate', 'partitions'])
        await fm[of](1).catch(({ code }) => process.stdout.write(code + ' '));
      // Whoever reads and writes files still has threads to do it on.
      const { readFile } = await import('node:fs/promises');
      const text = await readFile(process.env.NVFM_STUB_STATE, 'utf8');
      process.stdout.write(/fault hang \\d/.exec(text)[0]);
      process.kill(process.pid, 'SIGKILL');`;
    const { stdout } = await promisify(execFile)(process.execPath, [
      '--input-type=module',
      '-e',
      script,
    ]).catch((error: { stdout: string }) => error);
    expect(stdout).toBe(`${'fm-unanswered '.repeat(5)}fault hang 7`);
  });

  test('a library that is not there is said to be missing', async () => {
    const none = nvfmManager({
      address: { type: 'inet', text: '127.0.0.1:6666' },
      libraryPath: join(folder, 'none.so'),
      version: async () => '',
      after: () => () => undefined,
    });
    await expect(none.partitions()).rejects.toMatchObject({ code: 'fm-missing' });
  });
});
