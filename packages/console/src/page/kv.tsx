/// <reference lib="dom" />

import { lineChart } from './chart.ts';
import { each, when } from './flow.ts';
import { type ByTier, bridge, type KvTotals, samples } from './live.ts';
import { bytesText, countText, percentText, secondsText } from './units.ts';

const TIERS = ['device', 'host', 'disk'] as const;
const EVENTS = [
  ['spilled', 'written from the device to the host'],
  ['demoted', 'moved from the host to the disk'],
  ['restored', 'brought back to the device'],
  ['recomputed', 'computed again, since that was cheaper than bringing them back'],
  ['avoided', 'not written, since they were not worth what it costs'],
  ['refused', 'found damaged, and computed again'],
  ['lost', 'gone with no copy left'],
] as const;

const BY_TENANT = ['spilled', 'restored', 'recomputed', 'avoided', 'refused', 'lost'] as const;

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
