import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tableDigest } from '../fm/table.ts';
import { HGX_TABLE } from '../simulate/fabric-manager.ts';
import { type AgentState, emptyState } from '../tenancy/state.ts';
import { type HostOffer, type PlacementRequest, plan } from './plan.ts';
import { planTableChange } from './table-change.ts';

const OFFER: HostOffer = {
  host: 'host-1',
  platform: 'b300',
  fmVersion: '590.48.01',
  driverVersion: '590.48.01',
  table: HGX_TABLE,
  claimed: [],
  quarantined: [],
  isFrozen: false,
  grade: 'host',
  coldStartSeconds: 100,
  bridgeSecondsPerToken: 0,
};

const PAIR: PlacementRequest = {
  gpus: 2,
  platform: 'b300',
  driverVersion: null,
  grades: ['host', 'service-vm', 'guest'],
  tokens: 1e6,
};

describe('plan', () => {
  it('takes what breaks the fewest larger partitions', () => {
    const result = plan(PAIR, [OFFER, { ...OFFER, host: 'host-2', claimed: [1] }]);
    expect(result).toMatchObject({ fits: true, placement: { host: 'host-2', modules: [3, 4] } });
  });

  it('weighs a cold start against what crossings cost over all tokens', () => {
    const slow = {
      ...OFFER,
      host: 'slow-bridge',
      coldStartSeconds: 10,
      bridgeSecondsPerToken: 1e-3,
    };
    expect(plan(PAIR, [slow, OFFER])).toMatchObject({ placement: { host: 'host-1' } });
    expect(plan({ ...PAIR, tokens: 100 }, [slow, OFFER])).toMatchObject({
      placement: { host: 'slow-bridge' },
    });
  });

  it.each([
    [{ platform: 'h100' }, 'needs b300, the host is h100'],
    [{ fmVersion: '580.95.05' }, 'needs Fabric Manager 590.48.01, the host has 580.95.05'],
    [{ fmVersion: null }, 'needs Fabric Manager 590.48.01, the host has none that answers'],
    [{ isFrozen: true }, 'the host is frozen until Fabric Manager serves'],
    [
      { claimed: [1, 3], quarantined: [6, 8] },
      'every partition of 2 GPUs has a claimed or quarantined module',
    ],
    [{ table: [] }, 'no partition of its table has 2 GPUs'],
  ] as const)('refuses %j and says why', (change, cause) => {
    expect(plan(PAIR, [{ ...OFFER, ...change }])).toEqual({
      fits: false,
      nearest: { host: 'host-1', cause },
      considered: 1,
    });
  });

  it('names the host that came nearest, and of two alike the first', () => {
    const farther: readonly Partial<HostOffer>[] = [
      { platform: 'h100' },
      { grade: 'guest' },
      { driverVersion: '580.95.05' },
      { fmVersion: null },
      { isFrozen: true },
      { table: [] },
      { claimed: [1, 2, 3, 4, 5, 6, 7, 8] },
    ];
    const request = { ...PAIR, driverVersion: '590.48.01', grades: ['host'] as const };
    const some = fc.array(fc.nat(farther.length - 1), { minLength: 1 });
    fc.assert(
      fc.property(some, (ranks) => {
        const offers = ranks.map((rank, index) => ({
          ...OFFER,
          host: String(index),
          ...farther[rank],
        }));
        const nearest = ranks.indexOf(Math.max(...ranks));
        const result = plan(request, offers);
        expect(result).toMatchObject({ fits: false, nearest: { host: String(nearest) } });
      }),
    );
  });

  it('says that there was no host', () => {
    expect(plan(PAIR, [])).toEqual({ fits: false, nearest: null, considered: 0 });
  });

  it('takes any platform where none is named', () => {
    expect(plan({ ...PAIR, platform: null }, [{ ...OFFER, platform: 'h100' }]).fits).toBe(true);
  });

  it('finds what looking at every partition of every host finds', () => {
    const some = fc.uniqueArray(fc.integer({ min: 1, max: 8 }), { maxLength: 5 });
    const offer = fc.record({
      claimed: some,
      quarantined: some,
      coldStartSeconds: fc.integer({ min: 0, max: 300 }),
      bridgeSecondsPerToken: fc.constantFrom(0, 0.00001, 0.0001),
      table: fc.constantFrom(HGX_TABLE, HGX_TABLE.slice(3), []),
    });
    fc.assert(
      fc.property(fc.array(offer), fc.constantFrom(1, 2, 4, 8), (list, gpus) => {
        const offers = list.map((each, index) => ({ ...OFFER, ...each, host: String(index) }));
        const all = offers.flatMap((each) => {
          const out = [...each.claimed, ...each.quarantined];
          const free = each.table.filter(({ modules }) => !modules.some((m) => out.includes(m)));
          return free
            .filter(({ modules }) => modules.length === gpus)
            .map(({ id, modules }) => {
              const lost = free.filter(
                (other) =>
                  other.modules.length > gpus && modules.some((m) => other.modules.includes(m)),
              ).length;
              const bridge = each.bridgeSecondsPerToken * PAIR.tokens;
              const cost = each.coldStartSeconds + bridge + 60 * lost;
              const seconds = { coldStart: each.coldStartSeconds, bridge };
              const placement = { host: each.host, partition: id, modules, seconds };
              return { cost, placement: { ...placement, partitionsLost: lost } };
            });
        });
        const least = Math.min(...all.map(({ cost }) => cost));
        const result = plan({ ...PAIR, gpus }, offers);
        if (all.length === 0) expect(result.fits).toBe(false);
        else {
          const { placement } = all.find(({ cost }) => cost === least)!;
          expect(result).toEqual({ fits: true, placement, considered: offers.length });
        }
      }),
    );
  });
});

const TENANCY = {
  tenant: 'aurora-bank',
  order: 'stop-first',
  guest: null,
  epoch: 1,
  salt: '0'.repeat(64),
  partition: 1,
  phase: 'activated',
  isIntended: false,
  begunNs: 0,
  leaving: null,
  sanitizedUnder: '1',
  evidence: null,
} as const;

/** With two tenancies, on modules 1 and 2, and 3 and 4. */
function stateWith(partitions: { id: number; modules: number[] }[]): AgentState {
  const state = emptyState('host-1');
  return {
    ...state,
    tenancies: [
      { ...TENANCY, id: 'a', modules: [1, 2] },
      { ...TENANCY, id: 'b', modules: [3, 4] },
    ],
    daemon: { ...state.daemon, table: { digest: tableDigest(partitions), partitions } },
  };
}

describe('a change of the table', () => {
  const before = [
    { id: 1, modules: [1, 2] },
    { id: 2, modules: [3, 4] },
  ];

  it('shows who goes, who comes back, and what can be had', () => {
    const after = [
      { id: 7, modules: [1, 2] },
      { id: 9, modules: [5, 6] },
    ];
    const { steps, ...change } = planTableChange(stateWith(before), after);
    expect(change).toEqual({
      from: tableDigest(before),
      to: tableDigest(after),
      added: [{ id: 9, modules: [5, 6] }],
      removed: [{ id: 2, modules: [3, 4] }],
      drained: [
        { tenancy: 'a', modules: [1, 2], returns: true },
        { tenancy: 'b', modules: [3, 4], returns: false },
      ],
    });
    expect(steps[0]).toContain('2 tenancies');
    expect(steps[2]).toContain(change.to);
  });

  it('is nothing for the table that is loaded, in whatever order', () => {
    const { steps, drained } = planTableChange(stateWith(before), before.toReversed());
    expect({ steps, drained }).toEqual({ steps: [], drained: [] });
  });

  it('is one from nothing where no table was read yet', () => {
    const { from, added } = planTableChange(emptyState('host-1'), before);
    expect({ from, added }).toEqual({ from: null, added: before });
  });
});
