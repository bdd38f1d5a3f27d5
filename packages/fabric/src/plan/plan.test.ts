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
  evidenceAgeSeconds: 0,
};

const PAIR: PlacementRequest = {
  gpus: 2,
  platform: 'b300',
  driverVersion: null,
  grades: ['host', 'service-vm', 'guest'],
  tokens: 1e6,
  evidenceMaxAgeSeconds: null,
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

  it('goes where evidence held last, and rather there than where it never did', () => {
    const offers = ([null, 86_400 * 9, 7200, 3600] as const).map((evidenceAgeSeconds, index) => {
      return { ...OFFER, host: `host-${index}`, evidenceAgeSeconds };
    });
    expect(plan(PAIR, offers)).toMatchObject({ placement: { host: 'host-3' } });
    expect(plan(PAIR, offers.slice(0, 3))).toMatchObject({ placement: { host: 'host-2' } });
    // What is too old is worth no more than none: the first of equals.
    expect(plan(PAIR, offers.slice(0, 2))).toMatchObject({
      placement: { host: 'host-0', seconds: { doubt: 30 } },
    });
    // It is less than a larger partition is worth.
    const whole = { ...OFFER, host: 'whole', evidenceAgeSeconds: 0 };
    const broken = { ...OFFER, host: 'broken', evidenceAgeSeconds: null, claimed: [1] };
    expect(plan(PAIR, [whole, broken])).toMatchObject({ placement: { host: 'broken' } });
  });

  it.each([
    [{ platform: 'h100' }, 'needs b300, the host is h100', 'let a host join that is b300'],
    [
      { fmVersion: '580.95.05' },
      'needs Fabric Manager 590.48.01, the host has 580.95.05',
      'run Fabric Manager 590.48.01 there',
    ],
    [
      { fmVersion: null },
      'needs Fabric Manager 590.48.01, the host has none that answers',
      'run Fabric Manager 590.48.01 there',
    ],
    [{ isFrozen: true }, 'the host is frozen until Fabric Manager serves', 'wait for that'],
    [
      { evidenceAgeSeconds: 601 },
      'needs evidence of at most 600 s ago, the host has one of 601 s ago',
      'have a guest attested there',
    ],
    [
      { evidenceAgeSeconds: null },
      'needs evidence of at most 600 s ago, the host has none since its boot',
      'have a guest attested there',
    ],
    [
      { claimed: [1, 2, 3], quarantined: [6, 8] },
      'every partition of 2 GPUs has a claimed or quarantined module',
      'end what holds module 3',
    ],
    [
      { claimed: [1, 2, 3, 4, 7, 8], quarantined: [6] },
      'every partition of 2 GPUs has a claimed or quarantined module',
      'look at module 6 and clear what is sound',
    ],
    [{ table: [] }, 'no partition of its table has 2 GPUs', 'change its partition table'],
  ] as const)('refuses %j, and says why and what would lift it', (change, cause, lift) => {
    const request = { ...PAIR, evidenceMaxAgeSeconds: 600 };
    expect(plan(request, [{ ...OFFER, ...change }])).toEqual({
      fits: false,
      nearest: { host: 'host-1', cause, lift: expect.stringContaining(lift) },
      considered: 1,
    });
    expect(plan(request, [{ ...OFFER, evidenceAgeSeconds: 600 }]).fits).toBe(true);
  });

  it('names the host that came nearest, and of two alike the first', () => {
    const farther: readonly Partial<HostOffer>[] = [
      { platform: 'h100' },
      { grade: 'guest' },
      { driverVersion: '580.95.05' },
      { fmVersion: null },
      { isFrozen: true },
      { evidenceAgeSeconds: 601 },
      { table: [] },
      { claimed: [1, 2, 3, 4, 5, 6, 7, 8] },
    ];
    const evidenceMaxAgeSeconds = 600;
    const grades = ['host'] as const;
    const request = { ...PAIR, driverVersion: '590.48.01', grades, evidenceMaxAgeSeconds };
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
              const seconds = { coldStart: each.coldStartSeconds, bridge, doubt: 0 };
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
