import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HGX_TABLE } from '../simulate/fabric-manager.ts';
import { emptyState } from '../tenancy/state.ts';
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

  it('names the host that came nearest', () => {
    const offers = [
      { ...OFFER, host: 'full', claimed: [1, 2, 3, 4, 5, 6, 7, 8] },
      { ...OFFER, host: 'old', driverVersion: '580.95.05' },
    ];
    expect(plan(PAIR, offers)).toMatchObject({ fits: false, nearest: { host: 'full' } });
    expect(plan({ ...PAIR, driverVersion: '595.58' }, offers)).toMatchObject({
      fits: false,
      nearest: { host: 'full', cause: 'needs driver 595.58, the host has 590.48.01' },
    });
  });

  it('places whenever a partition is free, and never on a module that is not', () => {
    const modules = fc.uniqueArray(fc.integer({ min: 1, max: 8 }));
    const size = fc.constantFrom(1, 2, 4, 8);
    fc.assert(
      fc.property(fc.array(fc.tuple(modules, modules)), size, (hosts, gpus) => {
        const offers = hosts.map(([claimed, quarantined], index) => ({
          ...OFFER,
          host: String(index),
          claimed,
          quarantined,
        }));
        const isFree = ({ claimed, quarantined }: HostOffer, set: readonly number[]) =>
          set.every((module) => !claimed.includes(module) && !quarantined.includes(module));
        const result = plan({ ...PAIR, gpus }, offers);
        const canFit = offers.some((offer) =>
          HGX_TABLE.some((each) => each.modules.length === gpus && isFree(offer, each.modules)),
        );
        expect(result.fits).toBe(canFit);
        if (!result.fits) return;
        const { host, modules: chosen } = result.placement;
        expect(chosen).toHaveLength(gpus);
        expect(isFree(offers[Number(host)]!, chosen)).toBe(true);
      }),
    );
  });
});

describe('a change of the table', () => {
  it('shows who goes, who comes back, and what can be had', () => {
    const state = {
      ...emptyState('host-1'),
      daemon: {
        instance: '1',
        version: null,
        starting: null,
        resumes: 0,
        maintenance: null,
        table: { digest: 'old', partitions: [{ id: 1, modules: [1, 2] }] },
      },
    };
    const change = planTableChange(state, [{ id: 9, modules: [3, 4] }]);
    expect(change.added).toEqual([{ id: 9, modules: [3, 4] }]);
    expect(change.removed).toEqual([{ id: 1, modules: [1, 2] }]);
    expect(change.steps).toHaveLength(4);
  });

  it('is nothing for the table that is loaded, whatever the order', () => {
    const partitions = [
      { id: 1, modules: [1, 2] },
      { id: 2, modules: [3, 4] },
    ];
    const { to: digest } = planTableChange(emptyState('host-1'), partitions);
    const daemon = {
      instance: '1',
      version: null,
      starting: null,
      resumes: 0,
      maintenance: null,
      table: { digest, partitions },
    };
    const state = { ...emptyState('host-1'), daemon };
    expect(planTableChange(state, partitions.toReversed()).steps).toEqual([]);
  });
});
