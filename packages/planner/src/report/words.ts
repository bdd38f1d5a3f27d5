import { decimalSize, duration, threeDigits } from '@bridgekeeper/report';
import type { Plan } from '../plan/plan.ts';
import { FAMILY_TITLES, familyOf } from '../recommend/change.ts';
import type { Gain, Recommendation } from '../recommend/recommend.ts';
import { isDelivered } from '../simulate/engine-names.ts';
import type { Prediction, StepBreakdown } from '../simulate/prediction.ts';
import { STEP_PARTS } from './figures.ts';

/** A question that whoever plans has, and what the plan answers. */
export interface Answer {
  readonly question: string;
  readonly answer: string;
  readonly because: string;
}

/** To a tenth; nothing is said of less than half of that. */
export function percent(part: number): string {
  const value = 100 * part;
  const shown = Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toFixed(1)));
  return `${shown === '-0' ? '0' : shown} %`;
}

export const counted = (count: number, what: string): string =>
  `${count} ${what}${count === 1 ? '' : 's'}`;
export const ms = (value: number): string => `${threeDigits(value)} ms`;

/** More, less or the same, as people say it. */
export function gainText(gain: Gain): string {
  const parts = [
    [gain.throughput, 'output tokens/s'],
    [-gain.ttft, 'time to first token'],
    [-gain.itl, 'time between tokens'],
  ] as const;
  const said = parts
    .filter(([part]) => Math.abs(part) >= 0.005)
    .map(([part, what]) => `${part > 0 ? '+' : '−'}${percent(Math.abs(part))} ${what}`);
  return said.length === 0 ? 'no difference' : said.join(', ');
}

/** What a step is made of while there is something to do, the largest part first. */
function limitsOf(step: StepBreakdown): string {
  const busyNs = STEP_PARTS.reduce((sum, [part]) => sum + step[part], 0) - step.idleNs;
  const ranked = STEP_PARTS.filter(([part]) => part !== 'idleNs')
    .map(([part, title]) => [title, step[part] / Math.max(1, busyNs)] as const)
    .filter(([, share]) => share >= 0.005)
    .sort((a, b) => b[1] - a[1]);
  return ranked.map(([title, share]) => `${title} ${percent(share)}`).join(', ');
}

/** Those of the plan's own load under a law, best throughput or latency first. */
function ranked(plan: Plan, law: string) {
  const isOpen = plan.workload.concurrency === null;
  const worth = ({ outputTokensPerSecond, e2eMs }: Prediction) =>
    isOpen ? -e2eMs.p50 : outputTokensPerSecond;
  return plan.predictions
    .filter(({ prediction }) => prediction.law === law)
    .sort((a, b) => worth(b.prediction) - worth(a.prediction));
}

/** `1 x NVIDIA H200`, or of several engines `2 x (4 x NVIDIA H200)`. */
export function machineText(
  { tensorParallel, dataParallel }: Plan['flags'],
  { title }: Plan['gpu'],
): string {
  const engine = `${tensorParallel} x ${title}`;
  return dataParallel === 1 ? engine : `${dataParallel} x (${engine})`;
}

/** What to know and do, in the order in which it is asked. */
export function answersOf(plan: Plan): readonly Answer[] {
  return [
    fitAnswer(plan),
    ...loadAnswers(plan),
    ...plan.laws.filter((law) => law !== 'off').map((law) => taxAnswer(plan, law)),
    ...plan.recommendations
      .filter(({ law }) => law !== 'off' || plan.laws.length === 1)
      .map((recommendation) => startAnswer(plan, recommendation)),
    ...capacityAnswers(plan),
    coldAnswer(plan),
  ];
}

function fitAnswer({ fit, flags, model, gpu, workload }: Plan): Answer {
  const free = fit.allowedBytes - fit.weightBytes - fit.activationBytes;
  const tokens = (count: number) => `${count.toLocaleString('en-US')} tokens`;
  const kept = (count: number) => model.kvBytesPerToken * count + model.stateBytesPerRequest;
  const part = kept(workload.requestTokensMax) / kept(flags.maxModelTokens);
  const longest = Math.floor(fit.requests / part);
  return {
    question: 'Does it fit?',
    answer:
      `Yes: ${Math.floor(fit.requests)} requests at a time of ${tokens(flags.maxModelTokens)}, ` +
      `or about ${longest} of this load’s longest, ${tokens(workload.requestTokensMax)}, on ` +
      counted(flags.tensorParallel, 'GPU') +
      (flags.dataParallel === 1 ? '' : `, in each of ${flags.dataParallel} engines`),
    because:
      `${decimalSize(fit.weightBytes)} of weights on a ${gpu.title}, ` +
      `${decimalSize(free)} left for KV at ${decimalSize(model.kvBytesPerToken)} a token` +
      (model.stateBytesPerRequest > 0
        ? ` and at most ${decimalSize(model.stateBytesPerRequest)} a request for windows and state`
        : ''),
  };
}

/** Of requests that may miss a limit before a load is said to be too much. */
const MISSES_MAX = 0.01;

/** Of a load that comes at its own rate: whether it is served, and how full a replica is. */
function loadAnswers(plan: Plan): Answer[] {
  if (plan.workload.concurrency !== null) return [];
  const law = plan.laws.at(-1)!;
  const all = ranked(plan, law).map(({ prediction }) => prediction);
  const isServed = ({ neverDrains, slo }: Prediction) =>
    neverDrains === null && (slo === null || slo.any <= MISSES_MAX);
  const served = all.filter(isServed);
  const names = (of: readonly Prediction[]) => of.map(({ engine }) => engine).join(', ');
  const soonest = served[0];
  const missing = all.length - served.length;
  const seconds = ({ e2eMs }: Prediction) => duration(e2eMs.p50 * 1e6);
  const answer =
    soonest === undefined
      ? `No, with none of ${counted(all.length, 'engine')}`
      : (missing === 0
          ? `Yes, with each of ${counted(all.length, 'engine')}`
          : `Yes, but not with ${names(all.filter((each) => !isServed(each)))}`) +
        `: ${soonest.engine} answers soonest, in ${seconds(soonest)} at the median`;
  const fullest = (served.length > 0 ? served : all).reduce((most, each) =>
    each.rows.mean > most.rows.mean ? each : most,
  );
  const { rows, kv, engine } = fullest;
  return [
    {
      question: 'Is one replica enough for this load?',
      answer,
      because:
        `${engine} has most to do at a time: ${threeDigits(rows.mean)} requests on average and ` +
        `${rows.max} at most, of ${plan.flags.maxRows}, and ${percent(kv.peakUsed)} of KV`,
    },
  ];
}

function taxAnswer(plan: Plan, law: string): Answer {
  const of = plan.predictions.filter(({ prediction }) => prediction.law === law);
  const isOpen = plan.workload.concurrency === null;
  const losses = of
    .map(({ prediction, tax }) => ({ engine: prediction.engine, loss: tax! }))
    .sort((a, b) => b.loss - a.loss);
  const [worst, best] = [losses[0]!, losses.at(-1)!];
  const asText = ({ engine, loss }: (typeof losses)[number]) =>
    isOpen
      ? `tokens come ${percent(Math.max(0, loss))} further apart with ${engine}`
      : `${percent(Math.max(0, loss))} of the throughput of ${engine}`;
  const capital = (text: string) => text[0]!.toUpperCase() + text.slice(1);
  return {
    question: `What does the bridge of ${law} take?`,
    answer: capital(losses.length === 1 ? asText(worst) : `${asText(worst)}, ${asText(best)}`),
    because: `A step of ${worst.engine}: ${limitsOf(
      of.find(({ prediction }) => prediction.engine === worst.engine)!.prediction.step,
    )}`,
  };
}

function startAnswer(plan: Plan, recommendation: Recommendation): Answer {
  const { family, law, gain, tried, patched, before } = recommendation;
  const taken = tried.filter(({ isTaken }) => isTaken).map(({ change }) => change.title);
  const under = plan.laws.length > 2 ? ` under ${law}` : '';
  const isOpen = plan.workload.concurrency === null;
  const speed = (prediction: Prediction) =>
    isOpen
      ? `${ms(prediction.tpotMs.p50)} between tokens`
      : `${threeDigits(prediction.outputTokensPerSecond)} tokens/s`;
  const more =
    patched === null ? '' : `; with ${patched.change.shown}: ${speed(patched.prediction)}`;
  return {
    question: `How should ${FAMILY_TITLES[family]} be started${under}?`,
    answer: taken.length === 0 ? 'As it is' : `${taken.join('; ')}: ${gainText(gain)}`,
    because: `${before.engine} as delivered: ${speed(before)}${more}`,
  };
}

const LIMITS = {
  ttft: 'the time to the first token',
  itl: 'the time between tokens',
  e2e: 'the time of the whole answer',
  'never drains': 'that more comes than ends',
} as const;

function capacityAnswers(plan: Plan): Answer[] {
  const capacities = plan.capacities.filter(({ law }) => law !== 'off' || plan.laws.length === 1);
  if (capacities.length === 0) return [];
  const most = (of: typeof capacities) =>
    of.reduce((a, b) => (b.requestsPerSecond > a.requestsPerSecond ? b : a));
  const delivered = capacities.filter(({ engine }) => isDelivered(engine));
  const best = most(delivered.length > 0 ? delivered : capacities);
  const patched = most(capacities);
  const { fleet, limitedBy, breaksAt } = best;
  const because =
    breaksAt === null || limitedBy === null
      ? 'that is all that a replica does when it is full, and within the limits'
      : `at ${threeDigits(breaksAt)} req/s more than 1 % of requests break it, first by ` +
        LIMITS[limitedBy];
  return [
    {
      question: 'How much does one replica take within the limits?',
      answer:
        `${threeDigits(best.requestsPerSecond)} req/s with ${best.engine}, ${best.law}` +
        (patched === best
          ? ''
          : `; ${threeDigits(patched.requestsPerSecond)} with ${patched.engine}, which is not ` +
            'released'),
      because,
    },
    ...(fleet === null
      ? []
      : [
          {
            question: `How many for ${threeDigits(fleet.requestsPerSecond)} req/s?`,
            answer:
              `${counted(fleet.replicas, 'replica')} of ${best.engine} on ` +
              counted(fleet.gpus, 'GPU'),
            because:
              `each is then given ${percent(fleet.utilization)} of what it takes; 85 % at most, ` +
              `because arrivals are never spread evenly. ${oneDown(fleet, best)} Other engines ` +
              'are in the table below',
          },
        ]),
  ];
}

/** What is left when a replica is down: reset, boot and load take it that long each time. */
function oneDown(
  { replicas, requestsPerSecond }: NonNullable<Plan['capacities'][number]['fleet']>,
  { requestsPerSecond: most }: Plan['capacities'][number],
): string {
  if (replicas === 1) return 'While it is down, or starts, nothing serves.';
  const share = requestsPerSecond / ((replicas - 1) * most);
  const given = `While one is down, or starts, the others are given ${percent(share)}`;
  return share <= 1 ? `${given}.` : `${given}: add one to get over that.`;
}

function coldAnswer(plan: Plan): Answer {
  const law = plan.laws.at(-1)!;
  const seconds = (prediction: Prediction) =>
    prediction.coldStart.reduce((sum, phase) => sum + phase.seconds, 0);
  const all = ranked(plan, law).map(({ prediction }) => prediction);
  const best = all[0]!;
  // One of each: how it starts is an engine's, not a policy's.
  const others = all.filter(
    ({ engine }, at) =>
      all.findIndex((other) => familyOf(other.engine) === familyOf(engine)) === at && at > 0,
  );
  const phases = best.coldStart.filter((phase) => phase.seconds >= 0.5);
  const startOf = (one: Prediction) => `${duration(seconds(one) * 1e9)} with ${one.engine}`;
  return {
    question: 'How long until it serves?',
    answer: [`${startOf(best)}, ${law}`, ...others.map(startOf)].join('; '),
    because: phases.map(({ phase, seconds: of }) => `${phase} ${duration(of * 1e9)}`).join(', '),
  };
}
