/// <reference lib="dom" />
import { CROSSINGS_A_TOKEN, LOG_MS, TOKENS_A_SECOND } from './bundled-results.ts';
import { stacksFigure } from './figure.ts';
import { bridge } from './live.ts';
import { bytesText, countText, percentText, secondsText } from './units.ts';

interface Rule {
  readonly rule: string;
  /** What this machine does about it now. */
  readonly does: () => string;
  readonly figure: () => string;
  /** The same drawn, of this machine or of what was measured elsewhere; null: nothing came yet. */
  readonly plots: readonly (() => HTMLElement | null)[];
  /** What reproduces the figure. */
  readonly command: string;
}

type Bridge = NonNullable<ReturnType<typeof bridge>>;
const of = (read: (now: Bridge) => string) => () => {
  const now = bridge();
  return now === null ? '–' : read(now);
};

const plotOf = (draw: (now: Bridge) => HTMLElement) => () => {
  const now = bridge();
  return now === null ? null : draw(now);
};
const arrow = (direction: string) => (direction === 'h2d' ? '▲' : '▼');
const msText = (ms: number) => `${Number(ms.toPrecision(3))} ms`;

/** Whom a lane's time kept: a worker's own thread may wait, the launching one should not. */
const TIME_PARTS = ['nobody waited', 'its own thread waited', 'the launching thread waited'];
const timeOf = ({
  kind,
  busy_seconds: busy,
  blocked_seconds: blocked,
}: Bridge['lanes'][number]) => {
  const waited = Math.min(busy, blocked);
  return kind === 'worker' ? [busy - waited, waited, 0] : [busy - waited, 0, waited];
};

const RULES: readonly Rule[] = [
  {
    rule: 'Treat crossings as scheduled resources',
    does: of(({ policy }) => `Policy ${policy.name}: ${policy.reason}`),
    figure: of(
      ({ per_generated_token: { crossings, bytes } }) =>
        `${crossings.toFixed(3)} crossings and ${bytesText(bytes)} a token`,
    ),
    plots: [
      plotOf(({ ledger }) =>
        stacksFigure(
          'This machine since its start: time on lanes by purpose',
          ['time on a lane'],
          ledger.map(({ purpose, direction, busy_seconds: busy }) => ({
            name: `${arrow(direction)} ${purpose}`,
            values: [busy],
          })),
          secondsText,
        ),
      ),
      () =>
        stacksFigure(
          'One H100, 32 requests at once: what the law of a B300 takes, by policy',
          ['tokens a second'],
          TOKENS_A_SECOND.map(({ policy, law, tokens }) => ({
            name: `${policy}, ${law === 'off' ? 'no law' : law}`,
            values: [tokens],
          })),
          (tokens) => countText(Math.round(tokens)),
        ),
    ],
    command: 'bridgekeeper bench policies',
  },
  {
    rule: 'Get transfer concurrency from pooled contexts',
    does: of(({ lanes }) => {
      const own = lanes.filter(({ kind }) => kind === 'worker').length;
      return `${own} lanes with threads and contexts of their own, beside the launching thread’s`;
    }),
    figure: of(({ lanes }) => {
      const busiest = Math.max(0, ...lanes.map(({ utilisation }) => utilisation));
      return `the busiest lane is ${percentText(busiest)} busy`;
    }),
    plots: [
      plotOf(({ lanes }) =>
        stacksFigure(
          'This machine since its start: time of each lane',
          TIME_PARTS,
          lanes.map((lane) => ({ name: `${lane.id} (${lane.kind})`, values: timeOf(lane) })),
          secondsText,
        ),
      ),
    ],
    command: 'bridgekeeper probe',
  },
  {
    rule: 'Make runtime defaults aware of confidential computing',
    does: of(({ assumed_bridge: assumed }) => `Decided for ${assumed.name}: ${assumed.reason}`),
    figure: of(
      ({ steps_per_launch: steps, chunk_tokens: chunk }) =>
        `${steps} steps a launch, chunks of up to ${countText(chunk)} tokens`,
    ),
    plots: [
      plotOf(({ per_generated_token: { crossings } }) =>
        stacksFigure(
          'Crossings a token: this machine since its start, beside one H100 with one request',
          ['crossings a token'],
          [
            { name: 'here', values: [crossings] },
            ...CROSSINGS_A_TOKEN.map((each) => ({
              name:
                each.policy === 'overlap' ? 'one step a launch' : `${each.policy} under b300-cc`,
              values: [each.crossings],
            })),
          ],
          (each) => String(Number(each.toPrecision(3))),
        ),
      ),
    ],
    command: 'bridgekeeper doctor',
  },
  {
    rule: 'Buy residency for weights and KV',
    does: of(({ kv }) =>
      kv.places.host === 0
        ? 'KV stays on the device, and what is evicted is computed again'
        : `KV that leaves the device has ${countText(kv.places.host)} pages on the host`,
    ),
    figure: of(
      ({ kv }) =>
        `${countText(kv.resident.device)} of ${countText(kv.places.device)} pages held, ` +
        `${countText(kv.restored)} restored, ${countText(kv.avoided)} writes avoided`,
    ),
    plots: [
      plotOf(({ kv }) =>
        stacksFigure(
          'This machine: pages by where they are, and since its start',
          ['on the device', 'on the host', 'on disk'],
          [
            { name: 'held now', values: tiersOf(kv.resident) },
            { name: 'found again', values: tiersOf(kv.hits) },
            { name: 'brought back', values: [0, kv.restored, 0] },
            { name: 'computed again', values: [kv.recomputed, 0, 0] },
            { name: 'not written, nobody wants them', values: [0, kv.avoided, 0] },
          ],
          countText,
        ),
      ),
    ],
    command: 'bridgekeeper bench kv --generate multi-turn',
  },
  {
    rule: 'Schedule and attest the fabric as part of the tenant boundary',
    does: () => 'Not by this server: the fabric’s agent brings partitions up, and logs them',
    figure: () =>
      `${msText(LOG_MS.append.p50Ms)} for an entry of the log, of which ` +
      `${msText(LOG_MS.diskSync.p50Ms)} are the disk`,
    plots: [
      () =>
        stacksFigure(
          'Two CPU cores: what the log of a fabric takes',
          ['median', 'to the 95th percentile'],
          [
            { name: 'an entry is written', ...spreadOf(LOG_MS.append) },
            { name: 'of it the disk', ...spreadOf(LOG_MS.diskSync) },
            { name: 'a witness answers', ...spreadOf(LOG_MS.witness) },
          ],
          msText,
        ),
    ],
    command: 'bridgekeeper fabric status',
  },
];

const tiersOf = ({ device, host, disk }: Bridge['kv']['resident']) => [device, host, disk];
const spreadOf = ({ p50Ms, p95Ms }: { readonly p50Ms: number; readonly p95Ms: number }) => ({
  values: [p50Ms, p95Ms - p50Ms],
});

/** Page 9: what follows from a slow bridge, and what is done about it here. */
export function RulesPage() {
  return (
    <>
      <h1>Five rules of confidential serving</h1>
      <p class="hint">
        Each with what this machine does about it now, the figure that shows it, and the command
        that measures it. What is of this machine says so; the rest was measured elsewhere, with raw
        files in docs/results.
      </p>
      <ol class="rules">
        {RULES.map(({ rule, does, figure, plots, command }) => (
          <li>
            <h2>{rule}</h2>
            <p>{does}</p>
            <p>
              <strong>{figure}</strong>
            </p>
            <div class="plots">{plots.map((plot) => plot as () => never)}</div>
            <code>{command}</code>
          </li>
        ))}
      </ol>
    </>
  );
}
