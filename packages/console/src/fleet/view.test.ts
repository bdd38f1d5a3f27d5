import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { refusalsOf } from './refusals.ts';
import { FleetView } from './view.ts';

const NEAREST = { cause: 'it is full', lift: 'drain a pool there' };

const pool = (name: string, cause: string | null) => ({
  pool: name,
  spec: {
    models: ['m'],
    tenant: null,
    gpus: 1,
    policy: 'trial',
    replicas: { min: 1, max: 1 },
  },
  generation: 1,
  failures: 0,
  notBeforeMs: 0,
  trouble: cause === null ? null : { cause, nearest: { host: 'h', ...NEAREST } },
});

const event = (sequence: number, id: string, row: object | null, kind = 'pool') => {
  return { sequence, atMs: 0, kind, id, version: 1, row };
};

const host = (quarantined: readonly object[], more: object = {}) => ({
  host: 'h',
  state: 'ready',
  lostSinceMs: null,
  facts: null,
  quarantined,
  checkpoint: null,
  ...more,
});

describe('a fleet as it is heard of', () => {
  it('is the same whatever the order of events, and however often each comes', () => {
    const rows = fc.array(
      fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.option(fc.string({ maxLength: 3 }))),
      { minLength: 1, maxLength: 12 },
    );
    fc.assert(
      fc.property(rows, fc.infiniteStream(fc.nat()), (changes, order) => {
        const events = changes.map(([id, cause], at) =>
          event(at + 1, id, cause === null ? null : pool(id, cause)),
        );
        const straight = new FleetView().after(events);
        const shuffled = [...events, ...events]
          .map((each) => ({ each, at: order.next().value }))
          .sort((a, b) => a.at - b.at)
          .map(({ each }) => each);
        let mixed = new FleetView();
        for (const each of shuffled) mixed = mixed.after([each]);
        const sorted = (view: FleetView) =>
          view
            .all('pool')
            .map((row) => JSON.stringify(row))
            .sort();
        expect(sorted(mixed)).toEqual(sorted(straight));
      }),
    );
  });

  it('does not take back what changed while it was being read', () => {
    const view = new FleetView().after([event(7, 'a', pool('a', 'newer'))]);
    const read = view.with('pool', [pool('a', 'older') as never, pool('b', 'own') as never], 5);
    expect(read.all('pool').map(({ trouble }) => trouble?.cause)).toEqual(['newer', 'own']);
  });

  it('is not changed by what is no event, nor by rows that cannot be drawn', () => {
    const kind = fc.constantFrom('host', 'pool', 'replica', 'tenant', 'evidence', 'secret', 'x');
    const any = fc.record({ sequence: fc.nat(), kind, id: fc.string(), row: fc.anything() });
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.anything(), any)), (events) => {
        const view = new FleetView().after(events);
        expect(Array.isArray(refusalsOf(view, 0))).toBe(true);
        for (const each of ['host', 'pool', 'replica', 'tenant', 'evidence'] as const) {
          expect(view.all(each)).toEqual([]);
        }
      }),
    );
  });
});

describe('what a fleet refuses', () => {
  it('says quarantines first, each with what would lift it', () => {
    const view = new FleetView().after([
      event(1, 'a', pool('a', 'no host fits')),
      event(
        2,
        'h',
        host([{ module: 3, reason: 'Xid 145', atMs: 50 }], { state: 'draining' }),
        'host',
      ),
    ]);
    const refusals = refusalsOf(view, 1_000);
    expect(refusals.map(({ code }) => code)).toEqual(['quarantined', 'does-not-fit', 'draining']);
    expect(refusals[0]).toMatchObject({ about: 'h, module 3', cause: 'Xid 145', sinceMs: 50 });
    for (const { lift } of refusals) expect(lift).not.toBe('');
    // As control says it, of the host that came nearest.
    expect(refusals[1]).toMatchObject({ cause: 'no host fits', lift: 'on h: drain a pool there' });
  });
});
