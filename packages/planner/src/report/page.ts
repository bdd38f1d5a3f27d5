import {
  answers,
  caveat,
  commandText,
  decimalSize,
  escapeXml,
  figures,
  folded,
  htmlTable,
  page,
  paragraph,
  rate,
  section,
  threeDigits,
  wideFigure,
} from '@bridgekeeper/report';
import type { Figure } from '../gpus/gpu.ts';
import type { Plan, Point } from '../plan/plan.ts';
import { FAMILY_TITLES } from '../recommend/change.ts';
import type { Recommendation } from '../recommend/recommend.ts';
import type { Prediction } from '../simulate/prediction.ts';
import {
  coldStartFigure,
  stepFigure,
  taxFigure,
  throughputFigure,
  timelineFigure,
} from './figures.ts';
import { caveatsOf, PREDICTION_HEADS, predictionRow } from './lines.ts';
import { answersOf, counted, gainText, machineText, ms, percent } from './words.ts';

/** A plan as one page that can be sent to somebody: no scripts, nothing loaded from elsewhere. */
export function planPage(plan: Plan): string {
  const { model, gpu, workload, flags } = plan;
  return page(`${model.name} on ${machineText(flags, gpu)}`, 'bridgekeeper plan', [
    paragraph(
      `${workload.name}: ${workload.requests} requests of ` +
        `${threeDigits(workload.promptTokensMean)} prompt and ` +
        `${threeDigits(workload.outputTokensMean)} output tokens on average` +
        `${arrivalText(plan)}. Simulated in virtual time from the numbers at the end; nothing ` +
        'here was measured on this load.',
    ),
    ...caveatsOf(plan).map(caveat),
    section('What follows', [answers(answersOf(plan))]),
    ...(plan.recommendations.length === 0 ? [] : [recommendationSection(plan)]),
    ...(plan.capacities.length === 0 ? [] : [capacitySection(plan)]),
    section('The load, by engine', [
      htmlTable(
        PREDICTION_HEADS,
        plan.predictions.map(({ prediction, tax }) => predictionRow(prediction, tax)),
      ),
      ...(plan.slo === null ? [] : [sloTable(plan)]),
      paragraph(
        'Law off is without confidential computing. Tax, against law off with the same engine: ' +
          'of so many requests at a time the throughput that is lost; of a load that comes at ' +
          'its own rate, which is served either way, the part by which it is longer between ' +
          'tokens.',
      ),
    ]),
    ...sweepSections(plan),
    section('Where a step’s time goes', [
      wideFigure(stepFigure(plan)),
      paragraph(
        'An average step of the load: what the GPU does (memory, arithmetic, kernels), and what ' +
          'it waits for: tolls and bytes of crossings, memory that is allocated for them, ' +
          'threads that are blocked in them, launches one by one, and the host’s own work.',
      ),
      ...timelines(plan),
    ]),
    section('What crosses', [
      crossingTable(plan),
      folded('Every copy by its name', [copyTable(plan)]),
    ]),
    section('KV', [kvTable(plan)]),
    section('Cold start', [wideFigure(coldStartFigure(plan)), coldTable(plan)]),
    section('What this rests on', [
      htmlTable(['', 'value', 'basis', 'source'], restsOn(plan)),
      ...notModelled(plan),
    ]),
  ]);
}

function arrivalText({ workload, slo }: Plan): string {
  const { concurrency, requestsPerSecond } = workload;
  const how =
    concurrency === null
      ? `, ${threeDigits(requestsPerSecond ?? 0)} a second`
      : `, ${concurrency} at a time`;
  if (slo === null) return how;
  const limits = [
    [slo.ttftMs, 'to the first token'],
    [slo.itlMs, 'between tokens'],
    [slo.e2eMs, 'for the whole'],
  ] as const;
  const said = limits.flatMap(([limit, what]) =>
    limit === undefined ? [] : [`${limit} ms ${what}`],
  );
  return `${how}; limits: ${said.join(', ')}`;
}

function sloTable({ predictions }: Plan): string {
  if (predictions.every(({ prediction }) => (prediction.slo?.any ?? 0) === 0)) {
    return paragraph('No request breaks a limit, with any engine or law.');
  }
  return htmlTable(
    ['requests that break a limit', 'law', 'any', 'first token', 'between tokens', 'whole'],
    predictions.map(({ prediction: { engine, law, slo } }) => [
      engine,
      law,
      ...[slo?.any, slo?.ttft, slo?.itl, slo?.e2e].map((part) => percent(part ?? 0)),
    ]),
  );
}

function sweepSections(plan: Plan): string[] {
  const kinds: readonly Point['kind'][] = ['concurrency', 'rate'];
  const drawn = kinds.flatMap((kind) => {
    const pair = [throughputFigure(plan, kind), taxFigure(plan, kind)];
    const found = pair.filter((svg) => svg !== null);
    return found.length === 0 ? [] : [figures(found)];
  });
  return drawn.length === 0 ? [] : [section('Other loads of the same lengths', drawn)];
}

/** Of the first engine and the last under the last law: what is delivered, and what is ours. */
function timelines({ predictions, laws }: Plan): string[] {
  const of = predictions.filter(({ prediction }) => prediction.law === laws.at(-1));
  const shown = of.length > 1 ? [of[0]!, of.at(-1)!] : of;
  return shown.flatMap(({ prediction }) => {
    const svg = timelineFigure(prediction);
    return svg === null ? [] : [wideFigure(svg)];
  });
}

/** Under the last law, what each engine copies for a token, and what it launches. */
function crossingTable({ predictions, laws }: Plan): string {
  const heads = [
    'engine',
    'copies/token',
    'to the GPU',
    'from the GPU',
    'most by',
    'launches/step',
  ];
  const rows = predictions
    .filter(({ prediction }) => prediction.law === laws.at(-1))
    .map(({ prediction: { engine, crossings, launchesPerStep } }) => {
      const bytes = (direction: string) =>
        crossings
          .filter((each) => each.direction === direction)
          .reduce((sum, each) => sum + each.bytesPerToken, 0);
      const copies = crossings.reduce((sum, each) => sum + each.crossingsPerToken, 0);
      const most = crossings.toSorted((x, y) => y.bytesPerToken - x.bytesPerToken)[0];
      return [
        engine,
        threeDigits(copies),
        `${decimalSize(bytes('h2d'))}/token`,
        `${decimalSize(bytes('d2h'))}/token`,
        most?.name ?? '',
        threeDigits(launchesPerStep),
      ];
    });
  return htmlTable(heads, rows);
}

function copyTable({ predictions, laws }: Plan): string {
  const rows = predictions
    .filter(({ prediction }) => prediction.law === laws.at(-1))
    .flatMap(({ prediction: { engine, crossings } }) =>
      crossings.map(({ name, direction, crossingsPerToken, bytesPerToken }) => [
        engine,
        name,
        direction === 'h2d' ? 'to the GPU' : 'from the GPU',
        threeDigits(crossingsPerToken),
        decimalSize(bytesPerToken),
      ]),
    );
  return htmlTable(['engine', 'what', 'direction', 'copies/token', 'bytes/token'], rows);
}

function recommendationSection(plan: Plan): string {
  const shown = plan.recommendations.filter(({ law }) => law !== 'off' || plan.laws.length === 1);
  return section('How to start it', shown.flatMap(recommendationParts));
}

function recommendationParts(recommendation: Recommendation): string[] {
  const { family, law, before, after, gain, tried, start, patched } = recommendation;
  return [
    `<h3>${escapeXml(`${FAMILY_TITLES[family]}, ${law}`)}</h3>`,
    commandText(start.command),
    ...(start.file === null
      ? []
      : [paragraph(`${start.file.name}:`), commandText(start.file.text.trimEnd())]),
    paragraph(
      `As delivered (${before.engine}): ${speedText(before)}. So: ${speedText(after)}, which is ` +
        `${gainText(gain)}.` +
        (patched === null
          ? ''
          : ` With ${patched.change.shown}: ${speedText(patched.prediction)}.`),
    ),
    ...(tried.length + start.notes.length === 0
      ? []
      : [
          htmlTable(
            ['setting', 'brings by itself', 'taken', 'because', 'source'],
            [
              ...tried.map(({ change, gain: own, isTaken }) => [
                change.shown,
                gainText(own),
                isTaken ? 'yes' : change.needsPatch ? 'needs a build' : 'no',
                change.reason,
                change.source,
              ]),
              ...start.notes.map(({ setting, reason, source }) => [
                setting,
                'not simulated',
                'yes',
                reason,
                source,
              ]),
            ],
          ),
        ]),
  ];
}

const speedText = ({ outputTokensPerSecond, ttftMs, tpotMs }: Prediction) =>
  `${threeDigits(outputTokensPerSecond)} output tokens/s, ${ms(ttftMs.p50)} to the first token ` +
  `and ${ms(tpotMs.p50)} between tokens at the median`;

function capacitySection({ capacities }: Plan): string {
  const hasFleet = capacities.some(({ fleet }) => fleet !== null);
  return section('How much it takes within the limits', [
    htmlTable(
      ['engine', 'law', 'req/s of a replica', 'breaks at', 'by', ...(hasFleet ? ['fleet'] : [])],
      capacities.map(({ engine, law, requestsPerSecond, breaksAt, limitedBy, fleet }) => [
        engine,
        law,
        threeDigits(requestsPerSecond),
        breaksAt === null ? 'not before it is full' : `${threeDigits(breaksAt)} req/s`,
        limitedBy ?? '',
        ...(hasFleet
          ? [
              fleet === null
                ? 'none'
                : `${counted(fleet.replicas, 'replica')}, ${counted(fleet.gpus, 'GPU')}`,
            ]
          : []),
      ]),
    ),
    paragraph(
      'The highest rate at which at most 1 % of requests break a limit, to a twelfth of what a ' +
        'full replica does. A fleet fills replicas to 85 % of it.',
    ),
  ]);
}

function kvTable({ predictions }: Plan): string {
  return htmlTable(
    ['engine', 'law', 'KV', 'tokens', 'used, mean', 'peak', 'found again', 'preemptions'],
    predictions.map(({ prediction: { engine, law, kv } }) => [
      engine,
      law,
      decimalSize(kv.bytes),
      kv.tokens.toLocaleString('en-US'),
      percent(kv.meanUsed),
      percent(kv.peakUsed),
      percent(kv.hitFraction),
      String(kv.preemptions),
    ]),
  );
}

/** Phases of engines that differ; what is the same is said once. */
function coldTable({ predictions, laws }: Plan): string {
  const seen = new Set<string>();
  const rows = predictions
    .filter(({ prediction }) => prediction.law === laws.at(-1))
    .flatMap(({ prediction: { engine, coldStart } }) =>
      coldStart.flatMap(({ phase, seconds, basis, source }) => {
        const key = `${phase} ${source}`;
        if (seen.has(key)) return [];
        seen.add(key);
        const isOwn = engine.startsWith('bridgekeeper-');
        const whose =
          phase === 'load' || phase === 'kernels' ? (isOwn ? 'Bridgekeeper' : 'others') : 'all';
        return [[phase, whose, `${threeDigits(seconds)} s`, basis, source]];
      }),
    );
  return htmlTable(['phase', 'of', 'seconds', 'basis', 'source'], rows);
}

function restsOn({ gpu, model }: Plan): string[][] {
  const row = (
    title: string,
    { value, basis, source }: Figure,
    text: (value: number) => string,
  ) => [title, text(value), basis, source];
  const flops = (value: number) => `${threeDigits(value / 1e12)} TFLOP/s`;
  return [
    ['model', `${threeDigits(model.parameters / 1e9)} billion parameters`, '', model.source],
    row('memory', gpu.memoryBytes, decimalSize),
    row('memory rate', gpu.memoryBytesPerSecond, rate),
    row('memory rate reached', gpu.reachedBytesPerSecond, rate),
    row('bf16', gpu.bf16FlopsPerSecond, flops),
    row('bf16 reached', gpu.reachedBf16FlopsPerSecond, flops),
    row('fp8', gpu.fp8FlopsPerSecond, flops),
    row('a kernel at least', gpu.kernelNs, (ns) => `${threeDigits(ns / 1000)} us`),
    row('from host memory, open', gpu.hostBytesPerSecond, rate),
    row('kept by confidential computing', gpu.reservedBytesUnderCc, decimalSize),
  ];
}

function notModelled({ predictions }: Plan): string[] {
  const said = [...new Set(predictions.flatMap(({ prediction }) => prediction.notModelled))];
  if (said.length === 0) return [];
  const items = said.map((text) => `<li>${escapeXml(text)}</li>`).join('');
  return ['<h3>Not modelled</h3>', `<ul>${items}</ul>`];
}
