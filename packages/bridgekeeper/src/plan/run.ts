import { availableParallelism } from 'node:os';
import { basename, isAbsolute } from 'node:path';
import {
  chooseModelTokens,
  DEFAULT_FLAGS,
  type EngineFlags,
  enginesOf,
  makePlan,
  type PlanRequest,
  type Progress,
  planDocument,
  planLines,
  planPage,
  SimulationPool,
  summariseWorkload,
  traceEvents,
  USUAL_ENGINES,
} from '@bridgekeeper/planner';
import {
  flagOf,
  type Resolved,
  readSpeculativeConfig,
  UsageError,
  type Values,
} from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { CliIo } from '../io.ts';
import { progressBar } from '../progress-bar.ts';
import { readVersion } from '../version.ts';
import type { PLAN_FLAGS } from './flags.ts';
import { chooseGpu, chooseLaws, readLoad, readModel, readObserved } from './inputs.ts';

type Flags = typeof PLAN_FLAGS;

/** Where timelines look unless told otherwise: past the first prompts of most loads. */
const USUAL_WINDOW = { fromMs: 500, toMs: 560 };
const USUAL_SWEEP = [1, 8, 32, 128] as const;

/** Plans, and writes what was asked for. Throws UsageError or PlanError. */
export async function runPlan(resolved: Resolved<Flags>, io: CliIo): Promise<0 | 1> {
  const { values } = resolved;
  const startedAt = new Date(HOST_CLOCK.unixSeconds() * 1000);
  const request = requestOf(values, io);
  const pool = new SimulationPool(values.threads ?? availableParallelism());
  try {
    const plan = await makePlan(
      request,
      (scenarios, onDone) => pool.run(scenarios, onDone),
      (progress) => show(progress, io),
    );
    io.redraw?.('');
    const context = { version: readVersion().version, command: commandOf(resolved), startedAt };
    const document = JSON.stringify(planDocument(plan, context), null, 1);
    io.out(values.json ? document : planLines(plan).join('\n'));
    const predictions = plan.predictions.map(({ prediction }) => prediction);
    const written = [
      [values.out, () => `${document}\n`],
      [values.html, () => planPage(plan)],
      [values.perfetto, () => traceEvents(predictions)],
    ] as const;
    // A plan that took minutes is not thrown away for a file that cannot be written.
    const outcomes = written.map(([path, text]) => path === undefined || write(path, text(), io));
    return outcomes.every((isWritten) => isWritten) ? 0 : 1;
  } finally {
    await pool.close();
  }
}

function write(path: string, text: string, io: CliIo): boolean {
  try {
    io.writeFile(path, text);
    return true;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    io.err(`bridgekeeper: ${path} cannot be written (${code ?? message})`);
    return false;
  }
}

function requestOf(values: Values<Flags>, io: CliIo): PlanRequest {
  const model = readModel(values.model, io);
  const gpu = chooseGpu(values.gpu);
  const laws = chooseLaws(values.law, gpu);
  const engines = values.engine === undefined ? USUAL_ENGINES : enginesOf(values.engine);
  const mostTokens = values.maxModelLen ?? model.spec.maxPositions;
  if (mostTokens > model.spec.maxPositions) {
    const message = `--max-model-len ${mostTokens}: ${model.name} has ${model.spec.maxPositions}`;
    throw new UsageError('bad-value', message);
  }
  const workload = readLoad(values, mostTokens, io);
  const flags = flagsOf(values);
  const isConfidential = laws.some((law) => law?.confidential === true);
  const longest = summariseWorkload(workload).requestTokensMax;
  const question = { model, gpu, flags, isConfidential };
  const maxModelTokens = values.maxModelLen ?? chooseModelTokens(question, longest);
  const { sloTtftMs: ttftMs, sloItlMs: itlMs, sloE2eMs: e2eMs } = values;
  const hasSlo = [ttftMs, itlMs, e2eMs].some((limit) => limit !== undefined);
  if (values.fleetRate !== undefined && !hasSlo) {
    const message = '--fleet-rate: needs a limit to plan for, such as --slo-itl-ms 50';
    throw new UsageError('bad-combination', message);
  }
  const hasPicture = values.html !== undefined || values.perfetto !== undefined;
  const window = values.window ?? (hasPicture ? USUAL_WINDOW : undefined);
  const sweep = values.html === undefined ? [] : USUAL_SWEEP.filter((n) => n <= values.maxNumSeqs);
  return {
    model,
    gpu,
    laws,
    engines,
    flags: { ...flags, maxModelTokens },
    workload,
    slo: hasSlo ? { ttftMs, itlMs, e2eMs } : null,
    guest: { memoryBytes: values.guestMemory, acceptance: values.acceptMemory },
    concurrencies: values.sweepConcurrency ?? sweep,
    requestsPerSecond: values.sweepRate,
    fleetRequestsPerSecond: values.fleetRate ?? null,
    recommends: values.recommend,
    window: window === undefined ? null : { fromNs: window.fromMs * 1e6, toNs: window.toMs * 1e6 },
    stepFactor: values.stepFactor,
    observed: values.observed === undefined ? null : readObserved(values.observed, io),
    seed: values.seed,
  };
}

function flagsOf(values: Values<Flags>): EngineFlags {
  return {
    maxModelTokens: DEFAULT_FLAGS.maxModelTokens,
    maxRows: values.maxNumSeqs,
    maxBatchTokens: values.maxNumBatchedTokens,
    pageTokens: DEFAULT_FLAGS.pageTokens,
    memoryUtilization: values.gpuMemoryUtilization,
    kvFormat: values.kvCacheDtype === 'fp8' ? 'fp8-e4m3' : 'element',
    prefixCaching: values.enablePrefixCaching,
    tensorParallel: values.tensorParallelSize,
    dataParallel: values.dataParallelSize,
    expertParallel: values.enableExpertParallel,
    speculation: draftsOf(values),
    graphs: values.graphs,
    interTokenLimitMs: values.interTokenLimitMs,
  };
}

/** What drafts bring is the text's: nothing is assumed of it. */
function draftsOf(values: Values<Flags>): EngineFlags['speculation'] {
  const { speculativeConfig, draftAcceptance: chance } = values;
  if (speculativeConfig === undefined && chance === undefined) return null;
  if (speculativeConfig === undefined) {
    const message = '--draft-acceptance: nothing is drafted: add --speculative-config';
    throw new UsageError('bad-combination', message);
  }
  const options = readSpeculativeConfig(speculativeConfig);
  if (chance === undefined) {
    const message =
      '--speculative-config: what drafts bring depends on the text: add --draft-acceptance, 0 to ' +
      '1 (/v1/bridge of a server that drafts counts how many are right)';
    throw new UsageError('bad-combination', message);
  }
  return { ...options, chance };
}

const STAGES: Readonly<Record<Progress['stage'], string>> = {
  loads: 'loads by law and engine',
  capacity: 'rates at which limits break',
  recommendations: 'what may be changed',
};

/** On a terminal after each simulation; in a log ten lines a stage at most. */
function show({ stage, done, total }: Progress, io: CliIo): void {
  const text = `${done}/${total} ${STAGES[stage]}`;
  if (io.redraw !== undefined) {
    io.redraw(`${progressBar(done, total)} ${text}`);
    return;
  }
  const step = Math.max(1, Math.ceil(total / 10));
  if (total > 0 && (done % step === 0 || done === total)) io.err(`plan: ${text}`);
}

/** As the user wrote it, without places of this machine. */
function commandOf({ values, given }: Resolved<Flags>): string {
  const words = Object.keys(values).flatMap((name) => {
    const value = given[name];
    if (value === undefined) return [];
    if (typeof value === 'boolean') return [value ? `--${flagOf(name)}` : `--no-${flagOf(name)}`];
    const texts = [value].flat().map((text) => {
      const shown = isAbsolute(text) ? basename(text) : text;
      return /[^\w.,/:@%+~-]/.test(shown) ? JSON.stringify(shown) : shown;
    });
    return [`--${flagOf(name)} ${texts.join(' ')}`];
  });
  return ['bridgekeeper plan', ...words].join(' ');
}
