/// <reference lib="dom" />

import { createMemo } from 'solid-js';
import { refusalsOf } from '../fleet/refusals.ts';
import {
  type HostRow,
  PHASES,
  type PoolRow,
  type ReplicaRow,
  type TenantRow,
} from '../fleet/view.ts';
import { board } from './board.ts';
import { nowMs } from './connection.ts';
import { fleet, isTenant } from './fleet-live.ts';
import { each, when } from './flow.ts';
import { route } from './router.ts';
import { countText, secondsText } from './units.ts';

/** Boards are large: so many on a page. Tables have more. */
const BOARDS = 24;
const ROWS = 200;

const ago = (sinceMs: number | null) =>
  sinceMs === null ? '–' : secondsText(Math.max(0, (nowMs() - sinceMs) / 1000));

/** Page 5: what there is, whose it is, what it is at, and what is refused and why. */
export function FleetPage() {
  const hosts = createMemo(() => fleet().all('host'));
  const replicas = createMemo(() => fleet().all('replica'));
  const pools = createMemo(() => fleet().all('pool'));
  const refusals = createMemo(() => refusalsOf(fleet(), nowMs()));
  const page = () => Math.max(1, Number(route().query.get('page')) || 1);
  const wanted = () => route().query.get('host');
  const shown = createMemo(() => {
    const name = wanted();
    if (name !== null) return hosts().filter(({ host }) => host === name);
    // Those that somebody must look at come first.
    const order = (row: HostRow) =>
      row.quarantined.length > 0 || row.lostSinceMs !== null ? 0 : 1;
    return [...hosts()]
      .sort((a, b) => order(a) - order(b) || (a.host < b.host ? -1 : 1))
      .slice((page() - 1) * BOARDS, page() * BOARDS);
  });
  const gpus = () => hosts().reduce((sum, { facts }) => sum + (facts?.gpus.length ?? 0), 0);
  const held = () => replicas().reduce((sum, { modules }) => sum + modules.length, 0);
  const count = (phase: string) => replicas().filter((each) => each.phase === phase).length;
  const figure = (title: string, value: () => string, hint: () => string = () => '') => (
    <div class="figure">
      <dt>{title}</dt>
      <dd>
        <span>{value}</span>
        <small>{hint}</small>
      </dd>
    </div>
  );
  return (
    <>
      <h1>Fleet</h1>
      <dl class="figures">
        {figure('Hosts', () => countText(hosts().length))}
        {figure(
          'GPUs',
          () => countText(gpus()),
          () => `${countText(held())} held`,
        )}
        {figure('Pools', () => countText(pools().length))}
        {figure(
          'Replicas that serve',
          () => countText(count('serving')),
          () => `of ${countText(replicas().length)}`,
        )}
        {figure('Refusals', () => countText(refusals().length))}
      </dl>
      <section aria-labelledby="refusals-title">
        <h2 id="refusals-title">What is refused, and why</h2>
        {when(
          () => refusals().length === 0,
          () => (
            <p class="empty">Nothing.</p>
          ),
          () => (
            <table>
              <thead>
                <tr>
                  {['Code', 'About', 'Cause', 'What would lift it'].map((name) => (
                    <th scope="col">{name}</th>
                  ))}
                  <th scope="col" class="number">
                    Since
                  </th>
                </tr>
              </thead>
              <tbody>
                {() =>
                  refusals()
                    .slice(0, ROWS)
                    .map(({ code, about, cause, lift, sinceMs }) => (
                      <tr>
                        <th scope="row" class="code">{`⬢ ${code}`}</th>
                        <td>{about}</td>
                        <td>{cause}</td>
                        <td>{lift}</td>
                        <td class="number">{ago(sinceMs)}</td>
                      </tr>
                    ))
                }
              </tbody>
            </table>
          ),
        )}
      </section>
      {when(
        () => !isTenant(),
        () => (
          <section aria-labelledby="hosts-title">
            <div class="bar">
              <h2 id="hosts-title">Hosts</h2>
              {when(
                () => wanted() !== null,
                () => (
                  <a href="#/fleet">All hosts</a>
                ),
              )}
            </div>
            <div class="hosts">
              {each(shown, (host: HostRow) =>
                hostCard(host, () => replicas().filter((row) => row.host === host.host)),
              )}
            </div>
            <nav class="bar" aria-label="More hosts">
              {when(
                () => wanted() === null && page() > 1,
                () => (
                  <a href={() => `#/fleet?page=${page() - 1}`}>Earlier</a>
                ),
              )}
              {when(
                () => wanted() === null && hosts().length > page() * BOARDS,
                () => (
                  <a href={() => `#/fleet?page=${page() + 1}`}>More</a>
                ),
              )}
            </nav>
          </section>
        ),
      )}
      {replicasTable(replicas)}
      {poolsTable(pools, replicas)}
      {when(() => !isTenant(), Quotas)}
    </>
  );
}

function hostCard(host: HostRow, replicas: () => readonly ReplicaRow[]) {
  const { facts, state, lostSinceMs } = host;
  const about =
    facts === null
      ? 'its agent has not said yet what it is'
      : [
          `platform ${facts.platform}`,
          facts.driverVersion === null ? '' : `driver ${facts.driverVersion}`,
          `vouched for by ${facts.grade}`,
        ]
          .filter((text) => text !== '')
          .join(', ');
  const sign = lostSinceMs !== null ? '✕' : state === 'ready' ? '●' : '◐';
  return (
    <article class="host">
      <h3>
        <a href={`#/fleet?host=${encodeURIComponent(host.host)}`}>{host.host}</a>
      </h3>
      <p>
        {() => (lostSinceMs === null ? `${sign} ${state}` : `${sign} lost for ${ago(lostSinceMs)}`)}
      </p>
      {() => board(host, replicas())}
      <p class="hint">{about}</p>
      <ul class="plain">
        {host.quarantined.map(({ module, reason, atMs }) => (
          <li class="problem">{() => `✕ module ${module}, for ${ago(atMs)}: ${reason}`}</li>
        ))}
        {each(replicas, (replica: ReplicaRow) => (
          <li>{() => `${replica.pool} on ${replica.modules.join(', ')}: ${stepText(replica)}`}</li>
        ))}
      </ul>
    </article>
  );
}

function stepText({ phase, phaseSinceMs, reason }: ReplicaRow): string {
  return `${phase} for ${ago(phaseSinceMs)}${reason === null ? '' : `, because ${reason}`}`;
}

function replicasTable(replicas: () => readonly ReplicaRow[]) {
  const order = (row: ReplicaRow) => (row.phase === 'serving' ? 1 : 0);
  const rows = () =>
    [...replicas()]
      .sort((a, b) => order(a) - order(b) || b.phaseSinceMs - a.phaseSinceMs)
      .slice(0, ROWS);
  return (
    <section aria-labelledby="replicas-title">
      <h2 id="replicas-title">Replicas</h2>
      <table>
        <thead>
          <tr>
            {['Replica', 'Pool', 'Tenant', 'Host, modules', 'Step', 'Why'].map((name) => (
              <th scope="col">{name}</th>
            ))}
            <th scope="col" class="number">
              For
            </th>
            <th scope="col" class="number">
              At most
            </th>
          </tr>
        </thead>
        <tbody>
          {each(rows, (row: ReplicaRow) => (
            <tr>
              <th scope="row">{row.replica}</th>
              <td>{row.pool}</td>
              <td>{row.tenant ?? '–'}</td>
              <td>{`${row.host}: ${row.modules.join(', ')}`}</td>
              <td>{steps(row)}</td>
              <td>{whyOf(row)}</td>
              <td class="number">{() => ago(row.phaseSinceMs)}</td>
              <td class="number">
                {row.deadlineMs === null
                  ? '–'
                  : secondsText(Math.max(0, (row.deadlineMs - row.phaseSinceMs) / 1000))}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {when(
        () => replicas().length === 0,
        () => (
          <p class="empty">There is none.</p>
        ),
      )}
      {when(
        () => replicas().length > ROWS,
        () => (
          <p class="hint">{() => `${ROWS} of ${replicas().length} are shown.`}</p>
        ),
      )}
    </section>
  );
}

function whyOf({ reason, phase, challenge }: ReplicaRow): string {
  if (reason !== null) return reason;
  if (challenge !== null) return 'it was asked for evidence';
  return phase === 'starting' ? 'its host brings it up' : '';
}

/** The state machine with the step that it is at: by place and by name. */
function steps({ phase }: ReplicaRow) {
  const at = PHASES.indexOf(phase);
  return (
    <span class="steps">
      <span aria-hidden="true">
        {PHASES.map((_, index) => (index < at ? '━' : index === at ? '●' : '┄')).join('')}
      </span>{' '}
      {phase}
    </span>
  );
}

function poolsTable(pools: () => readonly PoolRow[], replicas: () => readonly ReplicaRow[]) {
  const serving = ({ pool }: PoolRow) =>
    replicas().filter((row) => row.pool === pool && row.phase === 'serving').length;
  return (
    <section aria-labelledby="pools-title">
      <h2 id="pools-title">Pools</h2>
      <table>
        <thead>
          <tr>
            {['Pool', 'Models', 'Tenant', 'Policy'].map((name) => (
              <th scope="col">{name}</th>
            ))}
            {['GPUs each', 'Serve', 'of'].map((name) => (
              <th scope="col" class="number">
                {name}
              </th>
            ))}
            <th scope="col">What it lacks</th>
          </tr>
        </thead>
        <tbody>
          {each(
            () => pools().slice(0, ROWS),
            (row: PoolRow) => (
              <tr>
                <th scope="row">{row.pool}</th>
                <td>{row.spec.models.join(', ')}</td>
                <td>{row.spec.tenant ?? 'all'}</td>
                <td>{row.spec.policy}</td>
                <td class="number">{row.spec.gpus}</td>
                <td class="number">{() => countText(serving(row))}</td>
                <td class="number">{`${row.spec.replicas.min} to ${row.spec.replicas.max}`}</td>
                <td>{row.trouble === null ? '–' : `⬢ ${row.trouble.cause}`}</td>
              </tr>
            ),
          )}
        </tbody>
      </table>
    </section>
  );
}

const QUOTAS = [
  ['requestsPerMinute', 'Requests a minute'],
  ['tokensPerMinute', 'Tokens a minute'],
  ['inFlightMax', 'At a time'],
  ['gpusMax', 'GPUs'],
  ['weight', 'Weight'],
] as const;

function Quotas() {
  const limit = (value: number | null | undefined) =>
    value === null || value === undefined ? 'no limit' : countText(value);
  return (
    <section aria-labelledby="quotas-title">
      <h2 id="quotas-title">Quotas</h2>
      <table>
        <thead>
          <tr>
            <th scope="col">Tenant</th>
            {QUOTAS.map(([, name]) => (
              <th scope="col" class="number">
                {name}
              </th>
            ))}
            <th scope="col">Pools</th>
          </tr>
        </thead>
        <tbody>
          {each(
            () => fleet().all('tenant').slice(0, ROWS),
            (row: TenantRow) => (
              <tr>
                <th scope="row">{row.tenant}</th>
                {QUOTAS.map(([name]) => (
                  <td class="number">{limit(row.spec.quota[name])}</td>
                ))}
                <td>
                  {row.spec.pools === null
                    ? 'all that are nobody’s own'
                    : row.spec.pools.join(', ')}
                </td>
              </tr>
            ),
          )}
        </tbody>
      </table>
    </section>
  );
}
