import { columns, decimalSize, threeDigits } from '@bridgekeeper/report';
import { reachedByOwn } from '../gpus/gpu.ts';
import type { Plan, Point } from '../plan/plan.ts';
import { FAMILY_TITLES } from '../recommend/change.ts';
import type { Prediction } from '../simulate/prediction.ts';
import { answersOf, gainText, machineText, ms, percent } from './words.ts';

export const PREDICTION_HEADS = [
  'engine',
  'law',
  'tokens/s',
  'TTFT p50',
  'p99',
  'between tokens p50',
  'p99',
  'whole p50',
  'tax',
  'crossings/token',
  'bytes/token',
] as const;

/** One prediction as a row under `PREDICTION_HEADS`. */
export function predictionRow(prediction: Prediction, tax: number | null): readonly string[] {
  const { ttftMs, tpotMs, e2eMs, crossings } = prediction;
  const total = (field: 'crossingsPerToken' | 'bytesPerToken') =>
    crossings.reduce((sum, rate) => sum + rate[field], 0);
  return [
    prediction.engine,
    prediction.law,
    threeDigits(prediction.outputTokensPerSecond),
    ms(ttftMs.p50),
    ms(ttftMs.p99),
    ms(tpotMs.p50),
    ms(tpotMs.p99),
    ms(e2eMs.p50),
    tax === null ? '' : percent(tax),
    threeDigits(total('crossingsPerToken')),
    decimalSize(total('bytesPerToken')),
  ];
}

/** What a reader must know before believing the rest. */
export function caveatsOf(plan: Plan): readonly string[] {
  const stuck = [...plan.predictions, ...plan.points].filter(
    ({ prediction }) => prediction.neverDrains !== null,
  );
  return [
    ...stuck.map(({ prediction }) => {
      const { engine, law, workload, neverDrains, completed, requests } = prediction;
      return (
        `${engine}, ${law}, ${workload}: never drains: ${neverDrains}. ${completed} of ` +
        `${requests} requests had ended when it was given up; its numbers are of those.`
      );
    }),
    ...(plan.observed === null ? [] : [observedText(plan.observed)]),
    ...(plan.model.hasExperts && hasOwn(plan) ? [ownExperts(plan)] : []),
    ...(plan.flags.expertParallel ? [WHOLE_EXPERTS] : []),
    ...(plan.flags.speculation === null ? [] : [draftsText(plan)]),
    ...plan.model.approximations,
  ];
}

const hasOwn = ({ predictions }: Plan) =>
  predictions.some(({ prediction }) => prediction.engine.startsWith('bridgekeeper-'));

function ownExperts({ gpu }: Plan): string {
  const factors = reachedByOwn(gpu, true).map(({ factor }) => factor);
  const [least, most] = [Math.min(...factors), Math.max(...factors)];
  return (
    `Bridgekeeper’s kernels of experts take ${least.toFixed(1)} to ${most.toFixed(1)} times as ` +
    'long as the roofline says, prompts most, measured on an H200 and taken over for other GPUs. ' +
    'Kernels of other engines are priced by the roofline.'
  );
}

const WHOLE_EXPERTS =
  'Of whole experts on several GPUs a step takes as long as the GPU with most to do: ' +
  'how much that is, is statistics of lines that choose evenly. No speed of them was measured.';

/** Of a load with drafts: who has them, and what was assumed and found. */
function draftsText({ flags, predictions }: Plan): string {
  const { drafts, chance } = flags.speculation!;
  const found = predictions.flatMap(({ prediction }) =>
    prediction.drafts === undefined ? [] : [prediction.drafts.tokensPerRowStep],
  );
  const brings =
    found.length === 0
      ? 'No engine here has them.'
      : `A row’s step brings ${threeDigits(Math.max(...found))} tokens.`;
  return (
    `${drafts} drafts by n-gram, each right with a chance of ${threeDigits(chance)}, as given. ` +
    `${brings} Only our own policies draft here: other engines are predicted without.`
  );
}

function observedText({ engine, hostFactor }: NonNullable<Plan['observed']>): string {
  return (
    `The host of ${engine} takes ${threeDigits(hostFactor)} times what its description says: a ` +
    'server was observed.'
  );
}

/** The plan for a terminal. */
export function planLines(plan: Plan): string[] {
  const { workload } = plan;
  return [
    `${plan.model.name} on ${machineText(plan.flags, plan.gpu)}: ${workload.name}, ` +
      `${workload.requests} requests of ${threeDigits(workload.promptTokensMean)} + ` +
      `${threeDigits(workload.outputTokensMean)} tokens`,
    '',
    ...columns([
      PREDICTION_HEADS,
      ...plan.predictions.map(({ prediction, tax }) => predictionRow(prediction, tax)),
    ]),
    ...(plan.points.length === 0 ? [] : ['', ...columns(pointRows(plan))]),
    '',
    ...answersOf(plan).flatMap(({ question, answer, because }) => [
      `${question}  ${answer}`,
      `    ${because}`,
    ]),
    ...plan.recommendations
      .filter(({ law }) => law !== 'off' || plan.laws.length === 1)
      .flatMap(({ family, law, start, gain, tried }) => [
        '',
        `${FAMILY_TITLES[family]}, ${law}: ${gainText(gain)}`,
        `  ${start.command}`,
        ...(start.file === null
          ? []
          : [
              `  ${start.file.name}:`,
              ...start.file.text
                .trimEnd()
                .split('\n')
                .map((line) => `    ${line}`),
            ]),
        ...tried.map(
          ({ change, gain: own, isTaken }) =>
            `  ${isTaken ? '*' : ' '} ${change.shown}: ${gainText(own)}`,
        ),
        ...start.notes.map(({ setting, reason }) => `  * ${setting}: ${reason}`),
      ]),
    ...caveatsOf(plan).map((text) => `! ${text}`),
  ];
}

/** Output tokens/s (and tax) of each engine and law, by load. */
function pointRows({ points }: Plan): (readonly string[])[] {
  const loadOf = ({ kind, value }: Point) =>
    kind === 'concurrency' ? `${value} at a time` : `${value} req/s`;
  const loads = [...new Set(points.map(loadOf))];
  const rows = new Map<string, string[]>();
  for (const point of points) {
    const { engine, law, outputTokensPerSecond } = point.prediction;
    const key = `${engine} ${law}`;
    const row = rows.get(key) ?? [engine, law, ...loads.map(() => '')];
    const tax = point.tax === null ? '' : ` (${percent(point.tax)})`;
    row[2 + loads.indexOf(loadOf(point))] = `${threeDigits(outputTokensPerSecond)}${tax}`;
    rows.set(key, row);
  }
  return [['tokens/s (tax)', '', ...loads], ...rows.values()];
}
