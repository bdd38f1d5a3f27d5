import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceInfo } from '@bridgekeeper/device';
import { type GoldenResult, runGolden } from '@bridgekeeper/engine/selftest';
import { type EngineConfig, engineOptions, openDevice } from '@bridgekeeper/server';
import { type CaseResult, type Contract, chooseCases, isIn, runCases } from './contract.ts';
import { chooseModels, isPassed, type ModelResult, type Models, runModels } from './models.ts';
import { runSanitizer, type Sanitizer, type SanitizerResult } from './sanitizer.ts';

/** What to check. */
export interface SelftestSelection {
  readonly contract: Contract;
  /** undefined: all on a GPU, few elsewhere. */
  readonly models: Models | undefined;
  /** Only cases and models with this text in their names. */
  readonly filter: string;
  /** A Python to run the reference framework with. */
  readonly peer: string | undefined;
  readonly sanitizers: readonly Sanitizer[];
}

/** Takes results as they come. */
export interface SelftestListener {
  readonly onCase: (result: CaseResult) => void;
  readonly onModel: (result: ModelResult) => void;
  readonly onSanitizer: (result: SanitizerResult) => void;
}

export interface SelftestReport {
  readonly device: DeviceInfo;
  readonly cases: readonly CaseResult[];
  /** undefined: the device does no arithmetic, or the model brings no golden.json. */
  readonly golden: readonly GoldenResult[] | undefined;
  readonly models: readonly ModelResult[];
  /** Versions of the reference framework; undefined: it was not asked. */
  readonly peer: string | undefined;
  readonly sanitizers: readonly SanitizerResult[];
  /** What was not checked, and why. */
  readonly skipped: readonly string[];
  readonly passed: boolean;
}

/**
 * Largest relative error of golden logits that an element type may cause. In f32 greedy tokens must
 * agree as well; bf16 rounds away margins that decide them.
 */
const GOLDEN_TOLERANCE = { f32: 1e-4, bf16: 2e-2 } as const;

/**
 * Checks on this machine what the product relies on: the device's contract, the model's golden
 * results, random models against float64 and against a reference framework, and memory and races by
 * compute-sanitizer.
 */
export async function selftest(
  config: EngineConfig,
  selection: SelftestSelection,
  listener: SelftestListener,
): Promise<SelftestReport> {
  const skipped: string[] = [];
  const chosen = chooseCases(selection.contract, selection.filter);
  const cases = await runCases(config, chosen, listener.onCase);
  const { info, golden } = await checkGolden(config, selection, skipped);
  const { models, peer } = await checkModels(config, info, selection, listener, skipped);
  const sanitizers: SanitizerResult[] = [];
  for (const tool of selection.sanitizers) {
    const result = await sanitize(tool, info, selection);
    sanitizers.push(result);
    listener.onSanitizer(result);
    if (result.outcome === 'skipped') skipped.push(`${tool}: ${result.details.join('; ')}`);
  }
  const passed =
    cases.every((result) => result.outcome !== 'failed') &&
    goldenPassed(golden, info) &&
    models.every(isPassed) &&
    sanitizers.every(({ outcome }) => outcome === 'clean' || outcome === 'skipped');
  return { device: info, cases, golden, models, peer, sanitizers, skipped, passed };
}

async function checkGolden(
  config: EngineConfig,
  { contract, filter }: SelftestSelection,
  skipped: string[],
) {
  const device = await openDevice(config);
  try {
    const { info } = device;
    if (info.kind === 'model' || contract !== 'all' || !isIn(filter, 'golden results')) {
      return { info, golden: undefined };
    }
    if (!existsSync(join(config.model, 'golden.json'))) {
      skipped.push('golden results: the model brings no golden.json');
      return { info, golden: undefined };
    }
    return {
      info,
      golden: await runGolden(engineOptions({ ...config, expertParallel: false }, device)),
    };
  } finally {
    await device.close();
  }
}

function goldenPassed(golden: readonly GoldenResult[] | undefined, info: DeviceInfo): boolean {
  return (golden ?? []).every(
    (result) =>
      result.relativeError <= GOLDEN_TOLERANCE[info.element] &&
      (info.element !== 'f32' || result.greedyAgreed === result.greedyTokens),
  );
}

async function checkModels(
  config: EngineConfig,
  info: DeviceInfo,
  selection: SelftestSelection,
  { onModel }: SelftestListener,
  skipped: string[],
): Promise<Pick<SelftestReport, 'models' | 'peer'>> {
  const wanted = selection.models ?? (info.kind === 'cuda' ? 'all' : 'quick');
  if (info.kind === 'model') {
    skipped.push('random models: the model device does no arithmetic');
    return { models: [], peer: undefined };
  }
  const models = chooseModels(wanted, selection.filter);
  if (wanted !== 'all') skipped.push(`random models: ${models.length} of them ran (--models all)`);
  if (models.length === 0) return { models: [], peer: undefined };
  // Random models have no seal, and the config's may have a key in it.
  const unsealed: EngineConfig = { ...config, seal: { mode: 'off' } };
  const { models: results, peer } = await runModels(unsealed, models, selection.peer, onModel);
  if (peer === undefined) skipped.push('the reference framework: not asked for (--peer python3)');
  else if ('skipped' in peer) skipped.push(`the reference framework: ${peer.skipped}`);
  return { models: results, peer: peer && 'name' in peer ? peer.name : undefined };
}

async function sanitize(
  tool: Sanitizer,
  info: DeviceInfo,
  { filter, models }: SelftestSelection,
): Promise<SanitizerResult> {
  if (info.kind !== 'cuda') {
    const details = ['compute-sanitizer is for --device cuda'];
    return { tool, outcome: 'skipped', findings: 0, details };
  }
  const only = filter === '' ? [] : ['--filter', filter];
  const few = models === 'none' ? 'none' : 'quick';
  return runSanitizer(tool, ['--contract', 'kernels', '--models', few, ...only]);
}
