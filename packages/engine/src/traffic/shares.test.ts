import { type CrossingRecord, Ledger, PURPOSES } from '@bridgekeeper/bridge';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type CrossingShare, CrossingShares, type Resident } from './shares.ts';

function record(changes: Partial<CrossingRecord> = {}): CrossingRecord {
  return {
    direction: 'h2d',
    bytes: 60,
    purpose: 'command',
    tenant: 'shared',
    memory: 'pinned',
    lane: 'inline',
    issuedNs: 0,
    startedNs: 0,
    completedNs: 1,
    issuerBlockedNs: 1,
    ...changes,
  };
}

function opened() {
  const ledger = new Ledger({ law: 'off', openedNs: 0 });
  ledger.record(record({ purpose: 'weights', bytes: 1e6 }));
  return { ledger, shares: new CrossingShares<Resident>(ledger) };
}

test('a step is divided among those that hold a row in it; what was before is left out', () => {
  const { ledger, shares } = opened();
  const [a, b, late] = [{ admittedNs: 1 }, { admittedNs: 1 }, { admittedNs: undefined }];
  for (const request of [a, b, late]) shares.arrived(request);
  ledger.record(record());
  ledger.record(record({ purpose: 'tokens', direction: 'd2h', bytes: 8 }));
  shares.divide();
  expect(shares.take(a)).toEqual([
    { purpose: 'command', direction: 'h2d', crossings: 0.5, bytes: 30 },
    { purpose: 'tokens', direction: 'd2h', crossings: 0.5, bytes: 4 },
  ]);
  ledger.record(record());
  shares.divide();
  expect(shares.take(b)).toMatchObject([
    { purpose: 'command', crossings: 1.5, bytes: 90 },
    { purpose: 'tokens', crossings: 0.5, bytes: 4 },
  ]);
  // It never had a row, and has none to come.
  expect(shares.take(late)).toEqual([]);
  // And it is in the way of none that comes after it.
  const next = { admittedNs: 2 };
  shares.arrived(next);
  ledger.record(record());
  shares.divide();
  expect(shares.take(next)).toMatchObject([{ crossings: 1, bytes: 60 }]);
});

test('a grammar is the share of the request that brought it, and whole', () => {
  const { ledger, shares } = opened();
  const owner = { admittedNs: 1, grammarUploads: { crossings: 1, bytes: 900 } };
  const other = { admittedNs: 1 };
  for (const request of [owner, other]) shares.arrived(request);
  ledger.record(record({ purpose: 'grammar', tenant: 'a', bytes: 900 }));
  shares.divide();
  expect(shares.take(owner)).toEqual([
    { purpose: 'grammar', direction: 'h2d', crossings: 1, bytes: 900 },
  ]);
  expect(shares.take(other)).toEqual([]);
});

test('a request pays from its own first step to its end, and once', () => {
  const { ledger, shares } = opened();
  const early = { admittedNs: 1 };
  const late: { admittedNs: number | undefined } = { admittedNs: undefined };
  shares.arrived(early);
  shares.arrived(late);
  for (let i = 0; i < 3; i++) {
    ledger.record(record());
    shares.divide();
  }
  late.admittedNs = 2;
  ledger.record(record());
  shares.divide();
  expect(shares.take(late)).toMatchObject([{ crossings: 0.5, bytes: 30 }]);
  expect(shares.take(late)).toEqual([]);
  expect(shares.take(early)).toMatchObject([{ crossings: 3.5, bytes: 210 }]);
  // What crosses while no request has a row belongs to none.
  ledger.record(record());
  shares.divide();
  const next = { admittedNs: 3 };
  shares.arrived(next);
  ledger.record(record({ bytes: 7 }));
  shares.divide();
  expect(shares.take(next)).toMatchObject([{ crossings: 1, bytes: 7 }]);
});

test('the shares of all add up to what crossed while any had a row', () => {
  const crossing = fc.record({
    purpose: fc.constantFrom(...PURPOSES.filter((purpose) => purpose !== 'grammar')),
    direction: fc.constantFrom('h2d' as const, 'd2h' as const),
    bytes: fc.nat(1000),
  });
  const round = fc.record({ arrive: fc.nat(2), leave: fc.nat(2), crossed: fc.array(crossing) });
  fc.assert(
    fc.property(fc.array(round), (rounds) => {
      const { ledger, shares } = opened();
      const open: { admittedNs: number }[] = [];
      const taken: CrossingShare[] = [];
      let [crossings, bytes] = [0, 0];
      for (const { arrive, leave, crossed } of rounds) {
        for (let i = 0; i < arrive; i++) {
          open.push({ admittedNs: 0 });
          shares.arrived(open.at(-1)!);
        }
        for (const changes of crossed) {
          ledger.record(record(changes));
          if (open.length === 0) continue;
          crossings += 1;
          bytes += changes.bytes;
        }
        shares.divide();
        for (const request of open.splice(0, leave)) taken.push(...shares.take(request));
      }
      for (const request of open) taken.push(...shares.take(request));
      const sum = (of: (share: CrossingShare) => number) =>
        taken.reduce((all, share) => all + of(share), 0);
      expect(sum((share) => share.crossings)).toBeCloseTo(crossings, 6);
      expect(sum((share) => share.bytes)).toBeCloseTo(bytes, 4);
    }),
  );
});
