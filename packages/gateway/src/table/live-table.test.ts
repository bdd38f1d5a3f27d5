import type { RoutePool, RoutingChange, RoutingTable } from '@bridgekeeper/control/api';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LiveTable } from './live-table.ts';

const pool = (name: string, models = [name]): RoutePool => ({
  pool: name,
  models,
  state: 'serving',
  coldStartSeconds: 0,
  tenant: null,
});
const SECRET = Buffer.alloc(32).toString('base64url');
const tableOf = (sequence: number, pools: readonly RoutePool[]): RoutingTable => ({
  sequence,
  secret: { prefixKey: SECRET, madeMs: 0 },
  pools: [...pools],
  replicas: [],
  tenants: [],
  keys: [],
});

/** Changes one after the other, from a table that is empty. */
const histories = fc
  .array(fc.record({ name: fc.constantFrom('a', 'b', 'c'), model: fc.string({ minLength: 1 }) }))
  .map((steps) =>
    steps.map(
      ({ name, model }, at): RoutingChange =>
        model < 'I'
          ? { kind: 'gone', sequence: at + 1, of: 'pool', name }
          : { kind: 'pool', sequence: at + 1, put: pool(name, [model]) },
    ),
  );

function after(changes: readonly RoutingChange[]): RoutingTable {
  const table = new LiveTable();
  table.replace(tableOf(0, []));
  for (const change of changes) expect(table.change(change)).toBe('applied');
  return table.snapshot();
}

describe('a table', () => {
  it('is the same, whatever comes twice or late, once all has come', () => {
    const cases = histories.chain((changes) =>
      fc.tuple(fc.constant(changes), fc.array(fc.nat(Math.max(0, changes.length - 1)))),
    );
    fc.assert(
      fc.property(cases, ([changes, noise]) => {
        const table = new LiveTable();
        table.replace(tableOf(0, []));
        for (const change of changes) {
          // Before it some that came already.
          for (const at of noise.splice(0, 2)) {
            const other = changes[at]!;
            if (other.sequence > table.sequence!) continue;
            const isLast = other.sequence === table.sequence!;
            expect(table.change(other)).toBe(isLast ? 'applied' : 'old');
          }
          table.change(change);
        }
        expect(table.snapshot()).toEqual(after(changes));
      }),
    );
  });

  it('has every row of a commit, whose changes have one sequence', () => {
    const table = new LiveTable();
    table.replace(tableOf(5, [pool('a')]));
    for (const name of ['b', 'c', 'b']) {
      expect(table.change({ kind: 'pool', sequence: 9, put: pool(name) })).toBe('applied');
    }
    expect([...table.pools.keys()]).toEqual(['a', 'b', 'c']);
  });

  it('takes no change before it is whole, and no older table', () => {
    const table = new LiveTable();
    const change: RoutingChange = { kind: 'pool', sequence: 1, put: pool('a') };
    expect(table.change(change)).toBe('early');
    expect(table.replace(tableOf(5, [pool('b')]))).toBe('applied');
    expect(table.replace(tableOf(4, []))).toBe('old');
    expect(table.change(change)).toBe('old');
    expect(table.snapshot()).toEqual(tableOf(5, [pool('b')]));
    expect(table.replace(tableOf(6, []))).toBe('applied');
    expect(table.pools.size).toBe(0);
  });
});
