import { aloneNs, type CrossingCost, type Profile } from '@bridgekeeper/bridge';
import { burstSteps } from '@bridgekeeper/engine';
import { duration, type MeasuredRun, rate, size, threeDigits } from '@bridgekeeper/report';
import { policyOn } from '@bridgekeeper/server';
import { select } from './runs.ts';
import { DIRECTIONS } from './workbench.ts';

/** A question that operators ask, what the measurements answer, and what they rest on. */
export interface Advice {
  readonly question: string;
  readonly answer: string;
  readonly because: string;
}

/** What follows from a measured profile; `runs` are those it was fitted to. */
export function adviseOn(profile: Profile, runs: readonly MeasuredRun[]): Advice[] {
  return [
    adviseOnPolicy(profile),
    adviseOnContexts(profile, runs),
    ...DIRECTIONS.map((direction) => adviseOnMemory(profile, direction)),
    adviseOnIssuing(profile, runs),
    adviseOnChunks(profile),
    adviseOnLaunches(profile),
    ...adviseOnAllocation(profile, runs),
    ...adviseOnCollectives(profile, runs),
    adviseOnForbidden(profile, runs),
  ];
}

/** The default of `--inter-token-limit-ms`. */
const INTER_TOKEN_LIMIT_NS = 50e6;
const STEPS_NS = [0.3e6, 1e6, 5e6] as const;

function adviseOnPolicy(profile: Profile): Advice {
  const { policy, burst } = policyOn(profile, INTER_TOKEN_LIMIT_NS);
  const bursts = STEPS_NS.map((stepNs) => `${burstSteps(burst, stepNs)} at ${duration(stepNs)}`);
  const isResident = policy.value === 'resident';
  return {
    question: 'Which step policy?',
    answer: isResident
      ? `resident; decode steps to a launch by the time of a step: ${bursts.join(', ')}`
      : policy.value,
    because: policy.reason,
  };
}

/** Together they must gain this much to be worth their opening. */
const WORTHWHILE = 1.15;
/** Fewer contexts that reach this part of the best are as good. */
const NEARLY = 0.95;

function adviseOnContexts({ contexts }: Profile, runs: readonly MeasuredRun[]): Advice {
  const { aggregateRate, createNs, max } = contexts;
  const best = Math.max(...aggregateRate.map(({ factor }) => factor));
  const enough = aggregateRate.find(({ factor }) => factor >= NEARLY * best)!;
  const most = aggregateRate.at(-1)!;
  const streams = select(runs, 'streams').at(-1);
  const one = select(runs, 'streams', { streams: 1 })[0]?.metrics.bytesPerSecond;
  const shared =
    streams === undefined || one === undefined
      ? ''
      : `; ${streams.parameters.streams} streams of one context move ` +
        `${threeDigits(streams.metrics.bytesPerSecond! / one)}x of one`;
  const refusal = select(runs, 'context-limit')[0]?.parameters.refusal;
  const limit =
    typeof refusal === 'string' ? `${max} were open before one was refused` : `${max} were open`;
  const evidence = `${most.contexts} contexts together move ${threeDigits(most.factor)}x of one`;
  const because = `${evidence}${shared}; one more takes ${duration(createNs)} to open; ${limit}`;
  const question = 'Do more contexts help?';
  if (best < WORTHWHILE) {
    return { question, answer: 'No: one lane carries what the bridge can carry', because };
  }
  const gain = `${enough.contexts} of them move ${threeDigits(enough.factor)}x of one`;
  return { question, answer: `Yes: ${gain}; load and spill through ${enough.contexts}`, because };
}

const SMALL_BYTES = 4_096;
const LARGE_BYTES = 64 * 1024 * 1024;
/** Times nearer than this are the same. */
const SAME = 1.05;

function adviseOnMemory({ crossings }: Profile, direction: 'h2d' | 'd2h'): Advice {
  const { pinned, pageable } = crossings[direction];
  const better = (bytes: number) => {
    const ratio = aloneNs(pageable, bytes) / aloneNs(pinned, bytes);
    return ratio > SAME ? 'pinned' : ratio < 1 / SAME ? 'pageable' : 'either';
  };
  const small = better(SMALL_BYTES);
  const large = better(LARGE_BYTES);
  const where = direction === 'h2d' ? 'to the device' : 'from the device';
  const speed = (cost: CrossingCost) => rate((LARGE_BYTES * 1e9) / aloneNs(cost, LARGE_BYTES));
  return {
    question: `Pinned or pageable memory ${where}?`,
    answer: small === large ? small : `${small} for small crossings, ${large} for large ones`,
    because:
      `${size(SMALL_BYTES)} take ${duration(aloneNs(pinned, SMALL_BYTES))} pinned and ` +
      `${duration(aloneNs(pageable, SMALL_BYTES))} pageable; ${size(LARGE_BYTES)} move at ` +
      `${speed(pinned)} pinned and ${speed(pageable)} pageable`,
  };
}

function adviseOnIssuing({ crossings }: Profile, runs: readonly MeasuredRun[]): Advice {
  const ways = DIRECTIONS.flatMap((direction) =>
    (['pinned', 'pageable'] as const).map((memory) => ({ direction, memory })),
  );
  const blocking = ways.filter(
    ({ direction, memory }) => crossings[direction][memory].issuer.blockedUntil === 'done',
  );
  const names = blocking.map(({ direction, memory }) => `${memory} ${direction.toUpperCase()}`);
  const held = select(runs, 'issue', { bytes: SMALL_BYTES }).map(
    ({ parameters, metrics }) =>
      `${parameters.memory} ${String(parameters.direction).toUpperCase()} ` +
      `${duration(metrics.queuedBlockedNs!)} of ${duration(metrics.queuedDoneNs!)}`,
  );
  const answer =
    blocking.length === 0
      ? 'No: every copy lets its thread go on'
      : `Yes: ${names.join(', ')}. Issue them from threads of their own, on idle streams`;
  return {
    question: 'Does a copy hold up the thread that issues it?',
    answer,
    because:
      `behind queued work, a copy of ${size(SMALL_BYTES)} held its thread: ` +
      (held.length === 0 ? 'not measured' : held.join('; ')),
  };
}

/** A chunk is large enough when its toll takes less than this of it. */
const TOLL_PART = 0.1;

function adviseOnChunks({ crossings }: Profile): Advice {
  const sizes = Array.from({ length: 19 }, (_, power) => 1_024 * 2 ** power);
  const chunk = (cost: CrossingCost) => {
    const last = cost.bandwidth.at(-1)!.bytesPerSecond;
    const enough = (bytes: number) =>
      (bytes * 1e9) / aloneNs(cost, bytes) >= (1 - TOLL_PART) * last;
    return sizes.find(enough) ?? sizes.at(-1)!;
  };
  const up = chunk(crossings.h2d.pinned);
  const down = chunk(crossings.d2h.pinned);
  const tollOf = ({ idleTollNs, queuedTollNs }: CrossingCost) =>
    queuedTollNs > 0
      ? `${duration(idleTollNs)} on an idle stream, ${duration(queuedTollNs)} more on a queued one`
      : duration(idleTollNs);
  const tolls = [tollOf(crossings.h2d.pinned), tollOf(crossings.d2h.pinned)];
  return {
    question: 'How large should bulk copies be?',
    answer: `at least ${size(up)} to the device and ${size(down)} from it`,
    because:
      'smaller ones lose more than a tenth of the rate; the toll of a pinned copy is ' +
      (tolls[0] === tolls[1] ? tolls[0] : `${tolls[0]} to the device; ${tolls[1]} from it`),
  };
}

function adviseOnLaunches({ submission, roofline }: Profile): Advice {
  const { launchNs, graphLaunchNs, graphNodeNs } = submission;
  const nodeNs = roofline.kernelNs + graphNodeNs;
  const kernels = Math.max(2, Math.ceil(graphLaunchNs / Math.max(1, launchNs - nodeNs)) + 1);
  const pays = launchNs > nodeNs;
  return {
    question: 'Launch kernels one by one, or as graphs?',
    answer: pays ? `graphs, from ${kernels} kernels on` : 'either: launches keep up with the GPU',
    because:
      `a launch keeps its thread ${duration(launchNs)}, a graph ${duration(graphLaunchNs)} ` +
      `and ${duration(nodeNs)} on the GPU for each small kernel in it`,
  };
}

function adviseOnAllocation({ crossings }: Profile, runs: readonly MeasuredRun[]): Advice[] {
  const pinned = select(runs, 'host-memory', { memory: 'pinned' }).at(-1);
  // A modelled machine allocates in no time, which says nothing.
  if (pinned === undefined || pinned.metrics.allocateNs === 0) return [];
  const { freshTollNs } = crossings.h2d.pinned;
  const fresh =
    freshTollNs > 0 ? `the first crossing of new memory costs ${duration(freshTollNs)} more` : '';
  const allocation =
    `allocating ${size(Number(pinned.parameters.bytes))} of pinned memory takes ` +
    duration(pinned.metrics.allocateNs!);
  return [
    {
      question: 'Allocate host memory as needed, or once?',
      answer: pinned.metrics.allocateNs! > 1e6 || freshTollNs > 0 ? 'once, and reuse it' : 'either',
      because: [allocation, fresh].filter(Boolean).join('; '),
    },
  ];
}

/** What a step of a model on several GPUs pays for, and what the links carry. */
function adviseOnCollectives({ links }: Profile, runs: readonly MeasuredRun[]): Advice[] {
  const sums = select(runs, 'collective', { name: 'all-reduce' });
  const [small, large] = [sums[0], sums.at(-1)];
  if (links === undefined || small === undefined || large === undefined) return [];
  const { gpus, copyBytesPerSecond } = links;
  const sizeOf = ({ parameters }: MeasuredRun) => size(Number(parameters.bytes));
  const reached = large.metrics.bytesPerSecond!;
  const beside =
    copyBytesPerSecond === undefined
      ? ''
      : `, ${threeDigits(reached / copyBytesPerSecond)}x of what a copy between two of them ` +
        `reaches (${rate(copyBytesPerSecond)})`;
  return [
    {
      question: `What does a sum over ${gpus} GPUs cost?`,
      answer:
        `${duration(small.metrics.operationNs!)} for ${sizeOf(small)}, ` +
        `${rate(reached)} for ${sizeOf(large)}`,
      because:
        `medians in a captured graph; without the start of a kernel a small one takes ` +
        `${duration(links.pushed.tollNs)} and its bytes, a large one ` +
        `${duration(links.pulled.tollNs)} and its bytes${beside}`,
    },
  ];
}

function adviseOnForbidden({ forbidden }: Profile, runs: readonly MeasuredRun[]): Advice {
  const tried = select(runs, 'feature').map(
    ({ parameters }) => `${parameters.feature}: ${parameters.detail}`,
  );
  return {
    question: 'What must not be used here?',
    answer: forbidden.length === 0 ? 'nothing of what was tried' : forbidden.join(', '),
    because: tried.length === 0 ? 'nothing could be tried on this device' : tried.join('; '),
  };
}
