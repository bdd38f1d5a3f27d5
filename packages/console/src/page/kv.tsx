/// <reference lib="dom" />

import { lineChart } from './chart.ts';
import { each, when } from './flow.ts';
import {
  type ByTier,
  bridge,
  type KvTotals,
  RECOMPUTED_FOR,
  type RecomputedFor,
  samples,
} from './live.ts';
import { bytesText, countText, percentText, secondsText } from './units.ts';

const TIERS = ['device', 'host', 'disk'] as const;
const EVENTS = [
  ['spilled', 'written from the device to the host'],
  ['demoted', 'moved from the host to the disk'],
  ['restored', 'brought back to the device'],
  ['avoided', 'not written: not worth what it costs, or no room for it'],
  ['refused', 'not written: staging or the budget of spills was short'],
  ['lost', 'lost on their way, or in a store'],
  ['late', 'on their way for so long that they were given up'],
  ['recomputed', 'computed again: the other table says why'],
] as const;

/** Where the content was, what spoke for computing it, and the same in a few words. */
const WHY: Readonly<Record<RecomputedFor, Readonly<Record<'was' | 'since' | 'short', string>>>> = {
  sooner: {
    was: 'in a store',
    since: 'computing was sooner than bringing it, whatever else the lane had to do',
    short: 'sooner computed',
  },
  lane_busy: {
    was: 'in a store',
    since: 'the lane had too much to bring before it',
    short: 'lane busy',
  },
  overlapped: {
    was: 'in a store',
    since: 'it was computed while what follows it was brought',
    short: 'beside what was brought',
  },
  lane_slower: {
    was: 'on its way',
    since: 'the lane became slower than computing',
    short: 'lane became slower',
  },
  failed: {
    was: 'in a store',
    since: 'bringing had failed for the same request before',
    short: 'bringing had failed',
  },
  not_written: {
    was: 'nowhere',
    since: 'writing it had not been worth it, or there was no room',
    short: 'never written',
  },
  refused: {
    was: 'nowhere',
    since: 'staging or the budget of spills had been short',
    short: 'refused when it left',
  },
  lost: { was: 'nowhere', since: 'it was lost on its way, or in a store', short: 'lost' },
  evicted: {
    was: 'nowhere',
    since: 'it had been given up in the last place that it had',
    short: 'evicted',
  },
};

const BY_TENANT = ['spilled', 'restored', 'avoided', 'refused', 'lost', 'recomputed'] as const;

type Tenant = KvTotals & { readonly tenant: string };

/** Page 3: where pages are, and why they moved. */
export function KvPage() {
  const kv = () => bridge()?.kv;
  const part = (tier: keyof ByTier) => {
    const now = kv();
    return now === undefined || now.places[tier] === 0 ? 0 : now.resident[tier] / now.places[tier];
  };
  return (
    <>
      <h1>KV</h1>
      {when(
        () => kv() !== undefined,
        () => (
          <>
            <section aria-labelledby="tiers-title">
              <h2 id="tiers-title">Residency</h2>
              <table>
                <thead>
                  <tr>
                    <th scope="col">Tier</th>
                    <th scope="col" class="number">
                      Pages
                    </th>
                    <th scope="col" class="number">
                      of
                    </th>
                    <th scope="col" class="number">
                      Bytes
                    </th>
                    <th scope="col">Full</th>
                    <th scope="col" class="number">
                      Hits
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {TIERS.map((tier) => (
                    <tr>
                      <th scope="row">{tier}</th>
                      <td class="number">{() => countText(kv()?.resident[tier] ?? 0)}</td>
                      <td class="number">{() => countText(kv()?.places[tier] ?? 0)}</td>
                      <td class="number">
                        {() => bytesText((kv()?.resident[tier] ?? 0) * (kv()?.page_bytes ?? 0))}
                      </td>
                      <td>
                        <meter min={0} max={1} value={() => part(tier)} />{' '}
                        {() => percentText(part(tier))}
                      </td>
                      <td class="number">{() => countText(kv()?.hits[tier] ?? 0)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
              <p class="hint">
                {() => `A page is ${bytesText(kv()?.page_bytes ?? 0)}. `}
                {() =>
                  (kv()?.places.host ?? 0) === 0
                    ? 'Nothing is below the device: --kv-offloading-size puts host memory there.'
                    : waiting(kv()!)
                }
              </p>
              <h2>Pages on the device, two minutes</h2>
              {lineChart(
                () => samples().map(({ atSeconds }) => atSeconds),
                () => samples().map(({ pagesHeld }) => pagesHeld),
              )}
            </section>
            <div class="columns">
              <section aria-labelledby="moves-title">
                <h2 id="moves-title">What became of pages</h2>
                <table>
                  <tbody>
                    {EVENTS.map(([name, meaning]) => (
                      <tr>
                        <th scope="row">{name}</th>
                        <td class="number">{() => countText(kv()?.[name] ?? 0)}</td>
                        <td class="hint">{meaning}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </section>
              <section aria-labelledby="recomputed-title">
                <h2 id="recomputed-title">Computed again, and why</h2>
                <table>
                  <thead>
                    <tr>
                      <th scope="col">Content was</th>
                      <th scope="col">Computed again, since</th>
                      <th scope="col" class="number">
                        Pages
                      </th>
                    </tr>
                  </thead>
                  <tbody>
                    {RECOMPUTED_FOR.map((why) => (
                      <tr>
                        <td>{WHY[why].was}</td>
                        <th scope="row">{WHY[why].since}</th>
                        <td class="number">{() => countText(kv()?.recomputed_for[why] ?? 0)}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </section>
            </div>
            <section aria-labelledby="tenants-title">
              <h2 id="tenants-title">By tenant</h2>
              <table>
                <thead>
                  <tr>
                    <th scope="col">Tenant</th>
                    {[...TIERS, 'hits', ...BY_TENANT].map((name) => (
                      <th scope="col" class="number">
                        {name}
                      </th>
                    ))}
                    <th scope="col">and why</th>
                  </tr>
                </thead>
                <tbody>
                  {each(
                    () => kv()?.tenants ?? [],
                    (tenant: Tenant) => (
                      <tr>
                        <th scope="row">{tenant.tenant}</th>
                        {TIERS.map((tier) => (
                          <td class="number">{countText(tenant.resident[tier])}</td>
                        ))}
                        <td class="number">
                          {countText(TIERS.reduce((sum, tier) => sum + tenant.hits[tier], 0))}
                        </td>
                        {BY_TENANT.map((name) => (
                          <td class="number">{countText(tenant[name])}</td>
                        ))}
                        <td>{reasonsText(tenant)}</td>
                      </tr>
                    ),
                  )}
                </tbody>
              </table>
            </section>
          </>
        ),
        () => (
          <p class="empty">Nothing came yet.</p>
        ),
      )}
    </>
  );
}

function waiting(kv: NonNullable<ReturnType<typeof bridge>>['kv']): string {
  const spills = secondsText(kv.spill_queue_seconds);
  const restores = secondsText(kv.restore_queue_seconds);
  return `Lane time that waits: ${spills} of spills, ${restores} of restores.`;
}

/** Why a tenant's pages were computed again, the most frequent first. */
function reasonsText({ recomputed_for: pages }: Tenant): string {
  const reasons = RECOMPUTED_FOR.filter((why) => pages[why] > 0);
  reasons.sort((a, b) => pages[b] - pages[a]);
  return reasons.map((why) => `${countText(pages[why])} ${WHY[why].short}`).join(', ');
}
