import type { CrossingCost, Profile } from '@bridgekeeper/bridge';
import { duration, rate, size } from '@bridgekeeper/report';
import { WAYS } from './workbench.ts';

/** One parameter of a law, fit for a table. */
export interface Parameter {
  /** Its path in the profile. */
  readonly path: string;
  readonly title: string;
  readonly value: number;
  readonly text: (value: number) => string;
}

const plain = String;
const times = (value: number) => `${Number(value.toPrecision(3))}x`;

/** What tells two bridges apart, in the order of the report. */
export function parametersOf(profile: Profile): Parameter[] {
  const { contexts, submission, roofline } = profile;
  const most = contexts.aggregateRate.at(-1)!;
  return [
    ...WAYS.flatMap(({ direction, memory }) =>
      wayParameters(
        `crossings.${direction}.${memory}`,
        `${memory} ${direction.toUpperCase()}`,
        profile.crossings[direction][memory],
      ),
    ),
    { path: 'contexts.max', title: 'contexts open at once', value: contexts.max, text: plain },
    {
      path: 'contexts.aggregateRate',
      title: `rate of ${most.contexts} contexts, of one`,
      value: most.factor,
      text: times,
    },
    ...durations('contexts', [
      ['createNs', 'opening a context', contexts.createNs],
      ['destroyNs', 'closing a context', contexts.destroyNs],
    ]),
    ...durations('submission', [
      ['launchNs', 'launch', submission.launchNs],
      ['launchWithWaitNs', 'launch and wait', submission.launchWithWaitNs],
      ['graphLaunchNs', 'graph launch', submission.graphLaunchNs],
      ['graphNodeNs', 'start of a kernel in a graph', submission.graphNodeNs],
    ]),
    {
      path: 'roofline.copyBytesPerSecond',
      title: 'device memory, read and written',
      value: roofline.copyBytesPerSecond,
      text: rate,
    },
    {
      path: 'roofline.bf16FlopsPerSecond',
      title: 'matrix product',
      value: roofline.bf16FlopsPerSecond,
      text: (value) => `${Number((value / 1e12).toPrecision(3))} TFLOP/s`,
    },
    ...linkParameters(profile.links),
  ];
}

const MEETINGS = [
  ['pushed', 'small sums'],
  ['pulled', 'large sums'],
  ['gathered', 'gathers'],
] as const;

function linkParameters(links: Profile['links']): Parameter[] {
  if (links === undefined) return [];
  const { gpus, copyBytesPerSecond } = links;
  const name = `${gpus} GPUs`;
  const copies = { path: 'links.copyBytesPerSecond', title: `${name}: copies from one to another` };
  return [
    ...(copyBytesPerSecond === undefined
      ? []
      : [{ ...copies, value: copyBytesPerSecond, text: rate }]),
    ...MEETINGS.flatMap(([meeting, what]): Parameter[] => {
      const { tollNs, bandwidth } = links[meeting];
      const { bytesPerSecond } = bandwidth.at(-1)!;
      return [
        ...durations(`links.${meeting}`, [['tollNs', `${name}: toll of ${what}`, tollNs]]),
        {
          path: `links.${meeting}.bandwidth`,
          title: `${name}: rate of ${what}`,
          value: bytesPerSecond,
          text: rate,
        },
      ];
    }),
  ];
}

function wayParameters(path: string, name: string, cost: CrossingCost): Parameter[] {
  const last = cost.bandwidth.at(-1)!;
  return [
    ...durations(path, [
      ['idleTollNs', `${name}: toll`, cost.idleTollNs],
      ['queuedTollNs', `${name}: more when queued`, cost.queuedTollNs],
      ['freshTollNs', `${name}: more when fresh`, cost.freshTollNs],
    ]),
    {
      path: `${path}.bandwidth`,
      title: `${name}: rate of ${size(last.bytes)}`,
      value: last.bytesPerSecond,
      text: rate,
    },
  ];
}

function durations(
  path: string,
  entries: readonly (readonly [name: string, title: string, value: number])[],
): Parameter[] {
  return entries.map(([name, title, value]) => ({
    path: `${path}.${name}`,
    title,
    value,
    text: duration,
  }));
}
