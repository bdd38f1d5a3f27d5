import type { FleetView, NearestMiss } from './view.ts';

/** Something that is not done, or not used, and why. */
export interface Refusal {
  /** As the API has it where it has one. */
  readonly code: string;
  readonly about: string;
  readonly cause: string;
  /** What would lift it. */
  readonly lift: string;
  /** Since when; null: nobody wrote it down. */
  readonly sinceMs: number | null;
}

/** All that a fleet refuses now: quarantines first, then what is lost, then what has no place. */
export function refusalsOf(view: FleetView, nowMs: number): readonly Refusal[] {
  const hosts = view.all('host');
  return [
    ...hosts.flatMap(({ host, quarantined, facts }) => [
      ...quarantined.map(({ module, reason, atMs }): Refusal => {
        return {
          code: 'quarantined',
          about: `${host}, module ${module}`,
          cause: reason,
          lift: `a person looks at it, then: ${putHost(host, `"ready","clear":[${module}]`)}`,
          sinceMs: atMs,
        };
      }),
      ...(facts?.quarantined ?? []).map(({ module, reason }): Refusal => {
        return {
          code: 'quarantined',
          about: `${host}, module ${module}`,
          cause: `its agent: ${reason}`,
          lift: 'its agent takes it back when the cause is gone (fabric agent --clear)',
          sinceMs: null,
        };
      }),
    ]),
    ...hosts.flatMap(({ host, lostSinceMs }): readonly Refusal[] =>
      lostSinceMs === null
        ? []
        : [
            {
              code: 'lost',
              about: host,
              cause: 'nothing is heard of its agent',
              lift: 'its agent reaches control again; until then it gets nothing new',
              sinceMs: lostSinceMs,
            },
          ],
    ),
    ...view.all('pool').flatMap(({ pool, trouble, failures, notBeforeMs, spec }): Refusal[] => [
      ...(trouble === null
        ? []
        : [
            {
              code: isOverQuota(spec, trouble.cause) ? 'over-quota' : 'does-not-fit',
              about: `pool ${pool}`,
              cause: trouble.cause,
              lift: liftOfPool(isOverQuota(spec, trouble.cause), trouble.nearest),
              sinceMs: null,
            },
          ]),
      ...(failures > 0 && notBeforeMs > nowMs
        ? [
            {
              code: 'backing-off',
              about: `pool ${pool}`,
              cause: `${failures} replicas failed in a row`,
              lift: `it is tried again in ${Math.ceil((notBeforeMs - nowMs) / 1000)} s`,
              sinceMs: null,
            },
          ]
        : []),
    ]),
    ...view.all('evidence').flatMap(({ isAccepted, refusals, replica, policy, atMs }): Refusal[] =>
      isAccepted
        ? []
        : [
            {
              code: 'evidence-refused',
              about: `replica ${replica}`,
              cause: refusals[0] ?? 'its evidence does not hold',
              lift: `evidence that holds under policy ${policy}, or another policy`,
              sinceMs: atMs,
            },
          ],
    ),
    ...hosts.flatMap(({ host, state, facts }): readonly Refusal[] => {
      const isFrozen = facts?.isFrozen === true;
      if (state === 'ready' && !isFrozen) return [];
      return [
        {
          code: isFrozen ? 'frozen' : state,
          about: host,
          cause: isFrozen
            ? 'its Fabric Manager restarts, or its table changes'
            : (WHY[state] ?? ''),
          lift: isFrozen ? 'the change ends' : liftOf(host, state),
          sinceMs: null,
        },
      ];
    }),
  ];
}

/** Only a quota names the tenant's own GPUs. */
function isOverQuota({ tenant }: { readonly tenant: string | null }, cause: string): boolean {
  return tenant !== null && cause.startsWith(`${tenant} has `);
}

function liftOfPool(isQuota: boolean, nearest: NearestMiss | null): string {
  if (isQuota) return 'a larger quota (gpusMax) of its tenant, or fewer replicas';
  if (nearest === null) return 'another host';
  return `on ${nearest.host}: ${nearest.lift ?? `an end to this: ${nearest.cause}`}`;
}

const WHY: Readonly<Record<string, string>> = {
  joined: 'its agent has not said yet what it is',
  cordoned: 'an operator lets nothing new come to it',
  draining: 'an operator empties it',
};

function liftOf(host: string, state: string): string {
  return state === 'joined' ? 'its agent starts and reaches control' : putHost(host, '"ready"');
}

function putHost(host: string, state: string): string {
  return `bridgekeeper control put host ${host} '{"state":${state}}'`;
}
