import { once as nextEvent } from 'node:events';
import { Worker } from 'node:worker_threads';
import { type MeasuredRun, tableOf } from '@bridgekeeper/report';
import { flag, integer, text, UsageError } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { Suite, SuiteResult } from '../suite.ts';
import type { ModuleCoverage } from './coverage.ts';
import type { FuzzMessage, FuzzOrder, TargetOutcome } from './messages.ts';

/** What an input may take before its parser counts as one that hangs. */
const SLOW_MS_MAX = 1000;
/** After that long on one input, its thread is ended. */
const HUNG_SECONDS = 30;

const FLAGS = {
  inputs: flag(integer(1, 2 ** 31 - 1), 100_000, 'inputs over all parsers'),
  seed: flag(integer(0, 2 ** 21), 1, 'the same seed, the same mutations'),
  target: flag(text('name'), 'all', 'one parser, by its name in the result'),
};

/** Mutations of valid evidence to every parser and every verification. */
export const FUZZ_SUITE: Suite<typeof FLAGS> = {
  name: 'fuzz',
  summary: 'mutated evidence to every parser: nothing may crash, hang or be wrongly accepted',
  flags: FLAGS,
  async run({ inputs, seed, target }, progress) {
    const place = new SharedArrayBuffer(8);
    const order = { inputs, seed, target: target === 'all' ? null : target, place };
    const { outcomes, modules, hung } = await campaign(order, progress);
    if (outcomes.length === 0 && hung === null) {
      throw new UsageError('bad-value', `--target: there is no parser ${JSON.stringify(target)}`);
    }
    return resultOf(seed, outcomes, modules, hung);
  },
};

interface Campaign {
  readonly outcomes: readonly TargetOutcome[];
  readonly modules: readonly ModuleCoverage[];
  /** Where it was stuck. */
  readonly hung: string | null;
}

/** Runs all of it in a thread of its own, so that an input which hangs can be told and left. */
async function campaign(order: FuzzOrder, progress: (line: string) => void): Promise<Campaign> {
  const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: order });
  const outcomes: TargetOutcome[] = [];
  let modules: readonly ModuleCoverage[] = [];
  let hung: string | null = null;
  worker.on('message', (message: FuzzMessage) => {
    if (message.kind === 'coverage') modules = message.modules;
    else {
      outcomes.push(message.outcome);
      progress(lineOf(message.outcome));
    }
  });
  const stop = watch(new Int32Array(order.place), (target, input) => {
    hung = `input ${input} of parser ${target} took more than ${HUNG_SECONDS} s`;
    void worker.terminate();
  });
  try {
    await nextEvent(worker, 'exit');
  } finally {
    stop();
  }
  return { outcomes, modules, hung };
}

function watch(place: Int32Array, isHung: (target: number, input: number) => void): () => void {
  let [target, input, seconds] = [0, 0, 0];
  return HOST_CLOCK.every(1, () => {
    const [nowTarget, nowInput] = [place[0]!, place[1]!];
    seconds = nowTarget === target && nowInput === input ? seconds + 1 : 0;
    [target, input] = [nowTarget, nowInput];
    if (seconds >= HUNG_SECONDS) isHung(target, input);
  });
}

function lineOf({ target, inputs, seconds, slowestMs, fault }: TargetOutcome): string {
  const pace = `${inputs} inputs in ${seconds.toFixed(1)} s, slowest ${slowestMs.toFixed(1)} ms`;
  const ending = fault === null ? '' : `\n${fault.kind}: ${fault.message}\n${fault.inputBase64}`;
  return `${target}: ${pace}${ending}`;
}

function resultOf(
  seed: number,
  outcomes: readonly TargetOutcome[],
  modules: readonly ModuleCoverage[],
  hung: string | null,
): SuiteResult {
  const parsers = outcomes.map((outcome) => {
    return once({ target: outcome.target, seed }, targetMetrics(outcome));
  });
  const files = modules.map(({ module, lines, linesReached }) => {
    const metrics = { lines, linesReached, lineCoverage: linesReached / Math.max(1, lines) };
    return once({ module: `attest/${module}` }, metrics);
  });
  const total = totalOf(seed, parsers, files);
  const failure = hung ?? failureOf(outcomes);
  return {
    device: { name: 'none', driver: null },
    runs: [total, ...parsers, ...files],
    text: [tableOf([total, ...parsers].map(brief)), tableOf(files)].join('\n\n'),
    ...(failure === null ? {} : { failure }),
  };
}

/** What is measured once has no spread. */
const once = (
  parameters: MeasuredRun['parameters'],
  metrics: MeasuredRun['metrics'],
): MeasuredRun => {
  return { parameters, metrics, repeats: 1, spread: {} };
};

function targetMetrics(outcome: TargetOutcome): MeasuredRun['metrics'] {
  const { inputs, seconds, read, slowestMs, fault } = outcome;
  const refused = Object.entries(outcome.refused).map(([code, n]) => [`refused:${code}`, n]);
  return {
    inputs,
    inputsPerSecond: inputs / seconds,
    seconds,
    slowestMs,
    wronglyAccepted: fault?.kind === 'accepted' ? 1 : 0,
    crashed: fault?.kind === 'crashed' ? 1 : 0,
    read,
    ...Object.fromEntries(refused),
  };
}

function totalOf(
  seed: number,
  parsers: readonly MeasuredRun[],
  files: readonly MeasuredRun[],
): MeasuredRun {
  const metrics: Record<string, number> = {};
  for (const run of [...parsers, ...files]) {
    for (const [name, value] of Object.entries(run.metrics)) {
      metrics[name] = (metrics[name] ?? 0) + value;
    }
  }
  metrics.slowestMs = Math.max(0, ...parsers.map((run) => run.metrics.slowestMs!));
  metrics.inputsPerSecond = metrics.inputs! / metrics.seconds!;
  metrics.lineCoverage = (metrics.linesReached ?? 0) / Math.max(1, metrics.lines ?? 0);
  return once({ target: 'all', seed }, metrics);
}

/** What people look for first: the codes are in the JSON. */
function brief(run: MeasuredRun): MeasuredRun {
  const { inputs, inputsPerSecond, slowestMs, wronglyAccepted, crashed, read } = run.metrics;
  const metrics = { inputs, inputsPerSecond, slowestMs, wronglyAccepted, crashed, read };
  return { ...run, metrics: metrics as MeasuredRun['metrics'] };
}

function failureOf(outcomes: readonly TargetOutcome[]): string | null {
  const fault = outcomes.find((outcome) => outcome.fault !== null);
  if (fault !== undefined) return `${fault.target}: ${fault.fault!.kind}: ${fault.fault!.message}`;
  const slow = outcomes.find(({ slowestMs }) => slowestMs > SLOW_MS_MAX);
  return slow === undefined ? null : `${slow.target}: one input took ${slow.slowestMs} ms`;
}
