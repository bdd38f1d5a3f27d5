/// <reference lib="dom" />
import { bridge } from './live.ts';
import { bytesText, countText, percentText } from './units.ts';

interface Rule {
  readonly rule: string;
  /** What this machine does about it now. */
  readonly does: () => string;
  readonly figure: () => string;
  /** What reproduces the figure. */
  readonly command: string;
}

type Bridge = NonNullable<ReturnType<typeof bridge>>;
const of = (read: (now: Bridge) => string) => () => {
  const now = bridge();
  return now === null ? '–' : read(now);
};

const RULES: readonly Rule[] = [
  {
    rule: 'Treat crossings as scheduled resources',
    does: of(({ policy }) => `Policy ${policy.name}: ${policy.reason}`),
    figure: of(
      ({ per_generated_token: { crossings, bytes } }) =>
        `${crossings.toFixed(3)} crossings and ${bytesText(bytes)} a token`,
    ),
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
    command: 'bridgekeeper probe',
  },
  {
    rule: 'Make runtime defaults aware of confidential computing',
    does: of(({ assumed_bridge: assumed }) => `Decided for ${assumed.name}: ${assumed.reason}`),
    figure: of(
      ({ steps_per_launch: steps, chunk_tokens: chunk }) =>
        `${steps} steps a launch, chunks of up to ${countText(chunk)} tokens`,
    ),
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
    command: 'bridgekeeper bench kv --generate multi-turn',
  },
  {
    rule: 'Schedule and attest the fabric as part of the tenant boundary',
    does: () => 'Not by this server: the fabric’s agent brings partitions up, and logs them',
    figure: () => 'what is proved of them stands under Evidence',
    command: 'bridgekeeper fabric status',
  },
];

/** Page 9: what follows from a slow bridge, and what is done about it here. */
export function RulesPage() {
  return (
    <>
      <h1>Five rules of confidential serving</h1>
      <p class="hint">
        Each with what this machine does about it now, the figure that shows it, and the command
        that measures it.
      </p>
      <ol class="rules">
        {RULES.map(({ rule, does, figure, command }) => (
          <li>
            <h2>{rule}</h2>
            <p>{does}</p>
            <p>
              <strong>{figure}</strong>
            </p>
            <code>{command}</code>
          </li>
        ))}
      </ol>
    </>
  );
}
