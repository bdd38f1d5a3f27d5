import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type CrossingRecord, PURPOSES, type Purpose, SHARED_TENANT } from './crossing.ts';
import { InvariantError } from './invariant.ts';
import { ACCOUNTS, Ledger, OTHERS } from './ledger.ts';

function record(changes: Partial<CrossingRecord> = {}): CrossingRecord {
  return {
    direction: 'h2d',
    bytes: 100,
    purpose: 'command',
    tenant: 'a',
    memory: 'pinned',
    lane: 'inline',
    issuedNs: 10,
    startedNs: 20,
    completedNs: 50,
    issuerBlockedNs: 40,
    ...changes,
  };
}

const anyRecord = fc
  .record({
    direction: fc.constantFrom('h2d' as const, 'd2h' as const),
    bytes: fc.nat(2 ** 31),
    purpose: fc.constantFrom(...PURPOSES),
    tenant: fc.constantFrom('a', 'b', 'c', 'd', OTHERS),
    lane: fc.constantFrom('inline', 'drain', 'loader'),
    issuedNs: fc.nat(1e9),
    waitNs: fc.nat(1e9),
    serviceNs: fc.nat(1e9),
    issuerBlockedNs: fc.nat(1e9),
  })
  .map(({ waitNs, serviceNs, ...rest }): CrossingRecord => {
    const startedNs = rest.issuedNs + waitNs;
    return { ...rest, memory: 'pinned', startedNs, completedNs: startedNs + serviceNs };
  });

test('every view adds up to what was recorded', () => {
  fc.assert(
    fc.property(fc.array(anyRecord), (records) => {
      const ledger = new Ledger({ law: 'off', openedNs: 5, accountsMax: 3 });
      for (const entry of records) ledger.record(entry);
      const { totals, lanes, tenants, uptimeNs } = ledger.snapshot(25);
      const sum = (of: (entry: CrossingRecord) => number) =>
        records.reduce((total, entry) => total + of(entry), 0);
      const expected = {
        crossings: records.length,
        bytes: sum(({ bytes }) => bytes),
        busyNs: sum(({ completedNs, startedNs }) => completedNs - startedNs),
        blockedNs: sum(({ issuerBlockedNs }) => issuerBlockedNs),
      };
      for (const view of [totals, lanes, tenants]) {
        const found = { crossings: 0, bytes: 0, busyNs: 0, blockedNs: 0 };
        for (const account of view) {
          for (const field of ['crossings', 'bytes', 'busyNs', 'blockedNs'] as const) {
            found[field] += account[field];
          }
        }
        expect(found).toEqual(expected);
      }
      expect(tenants.length).toBeLessThanOrEqual(4);
      expect(uptimeNs).toBe(20);
    }),
  );
});

test('purposes and directions are apart', () => {
  const ledger = new Ledger({ law: 'b300-cc', openedNs: 0 });
  ledger.record(record());
  ledger.record(record({ bytes: 7, direction: 'd2h', purpose: 'tokens' }));
  ledger.record(record({ bytes: 1 }));
  const { law, totals } = ledger.snapshot(0);
  expect(law).toBe('b300-cc');
  expect(totals).toEqual([
    { purpose: 'command', direction: 'h2d', crossings: 2, bytes: 101, busyNs: 60, blockedNs: 80 },
    { purpose: 'tokens', direction: 'd2h', crossings: 1, bytes: 7, busyNs: 30, blockedNs: 40 },
  ]);
});

test('lanes are listed with their kind, before their first crossing too', () => {
  const ledger = new Ledger({ law: 'off', openedNs: 0 });
  ledger.addLane({ id: 'inline', kind: 'inline' });
  ledger.addLane({ id: 'drain', kind: 'worker' });
  ledger.record(record());
  const lanes = ledger.snapshot(0).lanes.map(({ id, kind, crossings }) => [id, kind, crossings]);
  expect(lanes).toEqual([
    ['inline', 'inline', 1],
    ['drain', 'worker', 0],
  ]);
});

test('names beyond the bound share one account', () => {
  const ledger = new Ledger({ law: 'off', openedNs: 0, accountsMax: 2 });
  for (let i = 0; i < 1000; i++) ledger.record(record({ tenant: `tenant-${i}` }));
  const tenants = ledger.snapshot(0).tenants.map(({ tenant, crossings }) => [tenant, crossings]);
  expect(tenants).toEqual([
    ['tenant-0', 1],
    ['tenant-1', 1],
    [OTHERS, 998],
  ]);
});

test.each([
  { startedNs: 9 },
  { completedNs: 19 },
  { bytes: -1 },
  { bytes: 0.5 },
  { issuerBlockedNs: -1 },
  { purpose: 'gossip' as Purpose },
])('an impossible record is refused: %j', (changes) => {
  const ledger = new Ledger({ law: 'off', openedNs: 0 });
  expect(() => ledger.record(record(changes))).toThrow(InvariantError);
  expect(ledger.snapshot(0).totals).toEqual([]);
});

test('a crossing may be empty, start at once and block nobody', () => {
  const ledger = new Ledger({ law: 'off', openedNs: 0, accountsMax: 1 });
  ledger.record(record({ bytes: 0, startedNs: 10, completedNs: 10, issuerBlockedNs: 0 }));
  expect(ledger.snapshot(0).totals).toMatchObject([{ crossings: 1, bytes: 0, busyNs: 0 }]);
});

test('running totals stand in the order of accounts, whatever was there before', () => {
  fc.assert(
    fc.property(fc.array(anyRecord), (records) => {
      const ledger = new Ledger({ law: 'off', openedNs: 0 });
      for (const entry of records) ledger.record(entry);
      const found = new Float64Array(2 * ACCOUNTS.length).fill(-1);
      ledger.readTotals(found);
      const expected = ACCOUNTS.flatMap(({ purpose, direction }) => {
        const own = records.filter((r) => r.purpose === purpose && r.direction === direction);
        return [own.length, own.reduce((sum, { bytes }) => sum + bytes, 0)];
      });
      expect([...found]).toEqual(expected);
      expect(() => ledger.readTotals(found.subarray(2))).toThrow(InvariantError);
    }),
  );
});

test('256 names have an account unless told otherwise, and there is one at least', () => {
  const ledger = new Ledger({ law: 'off', openedNs: 0 });
  for (let i = 0; i < 300; i++) ledger.record(record({ tenant: `tenant-${i}` }));
  const { tenants } = ledger.snapshot(0);
  expect(tenants).toHaveLength(257);
  expect(tenants.at(-1)).toMatchObject({ tenant: OTHERS, crossings: 44 });
  expect(() => new Ledger({ law: 'off', openedNs: 0, accountsMax: 0 })).toThrow(InvariantError);
});

test('a tenant that is called as the rest are is one of them', () => {
  const ledger = new Ledger({ law: 'off', openedNs: 0 });
  ledger.record(record({ tenant: OTHERS }));
  for (let i = 0; i < 256; i++) ledger.record(record({ tenant: `tenant-${i}` }));
  ledger.record(record({ tenant: 'one more' }));
  const names = ledger.snapshot(0).tenants.map(({ tenant }) => tenant);
  expect(new Set(names).size).toBe(names.length);
  expect(ledger.snapshot(0).tenants.at(-1)).toMatchObject({ tenant: OTHERS, crossings: 2 });
});

test('a lane that was never announced is a worker; names that clients read stay', () => {
  const ledger = new Ledger({ law: 'off', openedNs: 0 });
  ledger.record(record({ lane: 'unheard of', tenant: SHARED_TENANT }));
  const { lanes, tenants } = ledger.snapshot(0);
  expect(lanes).toMatchObject([{ id: 'unheard of', kind: 'worker' }]);
  expect([tenants[0]!.tenant, OTHERS]).toEqual(['shared', 'others']);
});

test('a broken promise says that it is one', () => {
  const broken = new InvariantError('what was promised');
  expect(String(broken)).toBe('InvariantError: what was promised');
});
