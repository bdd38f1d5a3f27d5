import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { testIo } from '../testing/test-io.ts';
import { runCli } from './program.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fabric-cli-'));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function run(words: readonly string[], files: Readonly<Record<string, string>> = {}) {
  const written: Record<string, string> = {};
  const { io, out, err } = testIo({
    readFile(path) {
      if (!Object.hasOwn(files, path)) throw new Error('it is not there');
      return files[path]!;
    },
    writeFile: (path, text) => {
      written[path] = text;
    },
  });
  const code = await runCli(['fabric', ...words], io);
  return { code, out: out.join('\n'), err: err.join('\n'), written };
}

const HOST = {
  host: 'host-1',
  platform: 'b300',
  fmVersion: '590.48.01',
  driverVersion: '590.48.01',
  table: 'hgx',
  claimed: [1],
  quarantined: [],
  isFrozen: false,
  grade: 'host',
  coldStartSeconds: 90,
  bridgeSecondsPerToken: 0.00001,
};
const TABLES = {
  hgx: [
    { id: 4, modules: [1, 2] },
    { id: 5, modules: [3, 4] },
  ],
};

describe('fabric plan', () => {
  const place = (hosts: unknown, ...words: string[]) =>
    run(['plan', '--hosts', 'hosts.json', '--gpus', '2', ...words], {
      'hosts.json': typeof hosts === 'string' ? hosts : JSON.stringify(hosts),
    });

  it('says where, and what it costs', async () => {
    const { code, out } = await place({ tables: TABLES, hosts: [HOST] });
    expect({ code, out }).toEqual({
      code: 0,
      out: [
        'host        host-1, of 1 hosts',
        'partition   5, modules 3, 4',
        'cost        90.0 s to start, 10.0 s in crossings',
        'breaks      0 larger partitions that were free',
      ].join('\n'),
    });
  });

  it('says what the nearest host lacks, and ends with 1', async () => {
    const hosts = { tables: TABLES, hosts: [HOST] };
    const { code, out } = await place(hosts, '--driver', '595.58', '--json');
    expect(code).toBe(1);
    expect(JSON.parse(out)).toEqual({
      fits: false,
      nearest: {
        host: 'host-1',
        cause: 'needs driver 595.58, the host has 590.48.01',
        lift: 'install driver 595.58 there, or take 590.48.01',
      },
      considered: 1,
    });
  });

  it.each([
    ['no JSON', 'nonsense'],
    ['no hosts', { tables: {} }],
    ['a table that is not given', { tables: {}, hosts: [HOST] }],
    [
      'an own property of objects as table',
      { tables: {}, hosts: [{ ...HOST, table: 'toString' }] },
    ],
    ['a module that cannot be', { tables: TABLES, hosts: [{ ...HOST, claimed: [99] }] }],
  ])('ends with 2 for %s', async (_what, hosts) => {
    expect((await place(hosts)).code).toBe(2);
  });

  it('needs an agent’s state to change its table', async () => {
    const table = JSON.stringify({
      version: 0,
      partitionInfo: [{ partitionId: 1, gpuModuleIds: [2, 1] }],
    });
    const words = ['plan', '--table', 'table.json', '--state', folder];
    const { code, err } = await run(words, { 'table.json': table });
    expect(code).toBe(2);
    expect(err).toContain('has no state');
  });

  it('is one of two things', async () => {
    expect((await run(['plan'])).code).toBe(2);
  });
});

describe('fabric simulate', () => {
  it('has the same history for the same flags, and writes it', async () => {
    const words = ['simulate', '--seeds', '2', '--storm', '60', '--history', 'h', '--json'];
    const [one, other] = await Promise.all([run(words), run(words)]);
    expect(one).toEqual(other);
    expect(JSON.parse(one.out)).toMatchObject({ simulations: 2, failed: [] });
    expect(one.written.h).toContain('log intent');
    expect(one.code).toBe(0);
  });
});

describe('fabric replay', () => {
  it.each(['--openings', '--evidence'])('says which file of %s it cannot read', async (name) => {
    const { code, err } = await run(['replay', folder, '--log-key', 'x', name, 'none.json']);
    expect([code, err]).toEqual([
      2,
      `bridgekeeper: ${name}: none.json cannot be read: it is not there`,
    ]);
  });
});

describe('a host', () => {
  it('has one agent', async () => {
    const { lockAgent } = await import('@bridgekeeper/fabric');
    const { unlock } = lockAgent(folder);
    const { code, err } = await run(['deactivate', 'a', '--state', folder, '--host', 'host-1']);
    unlock();
    expect(code).toBe(1);
    expect(err).toContain('another agent has this host');
  });

  it.each(['1,1', '0', '17', '3-1', 'a', '1-', '1-99'])('has no modules %s', async (modules) => {
    const words = ['activate', 'a', '--modules', modules, '--state', folder];
    expect((await run(words)).code).toBe(2);
  });
});
