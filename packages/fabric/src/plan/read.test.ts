import { describe, expect, it } from 'vitest';
import { readOffers, readTable } from './read.ts';

const HOST = {
  host: 'host-1',
  platform: 'b300',
  fmVersion: null,
  driverVersion: '590.48.01',
  table: 'hgx',
  claimed: [1],
  quarantined: [],
  isFrozen: false,
  grade: 'host',
  coldStartSeconds: 90,
  bridgeSecondsPerToken: 0,
};
const TABLES = { hgx: [{ id: 4, modules: [1, 2] }] };

function hosts(changes: Readonly<Record<string, unknown>>, tables: unknown = TABLES) {
  return JSON.stringify({ tables, hosts: [{ ...HOST, ...changes }] });
}

describe('hosts to place on', () => {
  it('share the tables that they name', () => {
    const text = JSON.stringify({ tables: TABLES, hosts: [HOST, { ...HOST, host: 'host-2' }] });
    const [one, other] = readOffers(text);
    expect(one!.table).toEqual(TABLES.hgx);
    expect(other!.table).toBe(one!.table);
  });

  it.each([
    ['no JSON', 'nonsense', 'the hosts: this is no JSON'],
    ['something else', '[]', /^the hosts: [^:]/],
    ['a table that is not given', hosts({ table: 'toString' }), /host-1 has table toString/],
    ['a module twice', hosts({ claimed: [1, 1] }), /hosts\.0\.claimed: names a module twice/],
    ['a module that cannot be', hosts({ quarantined: [17] }), /hosts\.0\.quarantined\.0: /],
    ['an unknown key', hosts({ free: [] }), /hosts\.0: .*free/],
    [
      'two partitions of one id',
      hosts({}, { hgx: [TABLES.hgx[0], TABLES.hgx[0]] }),
      /tables\.hgx: two partitions have one id/,
    ],
    ['a partition of nothing', hosts({}, { hgx: [{ id: 1, modules: [] }] }), /modules: /],
  ])('are refused with %s', (_what, text, message) => {
    const error = expect.objectContaining({
      code: 'bad-plan',
      message: typeof message === 'string' ? message : expect.stringMatching(message),
    });
    expect(() => readOffers(text)).toThrow(error);
  });
});

describe('a partition table', () => {
  const file = (partitionInfo: unknown, version: unknown = 0) =>
    JSON.stringify({ version, name: 'custom', time: 'today', partitionInfo });

  it('is read as Fabric Manager reads it', () => {
    expect(readTable(file([{ partitionId: 3, gpuModuleIds: [10, 9, 2] }]))).toEqual([
      { id: 3, modules: [2, 9, 10] },
    ]);
  });

  it.each([
    ['another version', file([], 1), /version/],
    [
      'two partitions of one id',
      file([
        { partitionId: 1, gpuModuleIds: [1] },
        { partitionId: 1, gpuModuleIds: [2] },
      ]),
      /two partitions have one id/,
    ],
    [
      'more partitions than it holds',
      file(Array(65).fill({ partitionId: 1, gpuModuleIds: [1] })),
      /64/,
    ],
  ])('is refused with %s', (_what, text, message) => {
    const error = { code: 'bad-plan', message: expect.stringMatching(message) };
    expect(() => readTable(text)).toThrow(expect.objectContaining(error));
  });
});
