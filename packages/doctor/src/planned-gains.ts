import { referenceProfile } from '@bridgekeeper/bridge';
import {
  DEFAULT_FLAGS,
  gainOf,
  gainText,
  knownGpu,
  knownModel,
  PlanError,
  readSpec,
  type Scenario,
  simulate,
  specWorkload,
} from '@bridgekeeper/planner';
import { optionNumber } from './command/queries.ts';
import type { Facts } from './facts.ts';
import type { Finding } from './rule.ts';

/** What a finding's remedy would bring, as the planner predicts it. */
export interface PlannedGain {
  readonly finding: string;
  readonly text: string;
}

const USUAL_MODEL = 'Qwen3-8B';
const LOAD = '32 at a time, 1024+128, 96 requests';
const USUAL_TOKENS = 8192;

/**
 * Predicts one load with and without each finding's remedy, on the GPU and under the bridge that
 * the facts name. Nothing where these are not known, or the load cannot be had there.
 */
export async function plannedGains(
  facts: Facts,
  findings: readonly Finding[],
): Promise<readonly PlannedGain[]> {
  const { gpuKind, confidential } = facts;
  if (!gpuKind.known || !confidential.known || gpuKind.value === 'other') return [];
  const gpu = knownGpu(gpuKind.value);
  const law = confidential.value ? referenceProfile(gpu.confidential.law) : null;
  const model = modelOf(facts);
  const engine = facts.engine.known ? facts.engine.value : null;
  const asked = engine === null ? undefined : optionNumber(engine, 'max-model-len');
  const flags = {
    ...DEFAULT_FLAGS,
    maxModelTokens: Math.min(model.spec.maxPositions, Math.max(2048, asked ?? USUAL_TOKENS)),
    maxRows: 32,
  };
  const workload = specWorkload(readSpec(LOAD), 0);
  const common = {
    model,
    gpu,
    law,
    workload,
    slo: null,
    warmupRequests: 32,
    window: null,
    seed: 0,
  };
  const gains: PlannedGain[] = [];
  for (const { id, planned } of findings) {
    if (planned === null) continue;
    const graphs = planned.captures === true ? 'eager' : 'full';
    const before: Scenario = { ...common, engine: planned.before, flags: { ...flags, graphs } };
    const after: Scenario = { ...common, engine: planned.after, flags };
    const text = await gainBetween(before, after);
    if (text === null) continue;
    const where = `${model.name}, ${LOAD}, ${gpu.name}, ${law?.name ?? 'law off'}`;
    const compared =
      planned.captures === true
        ? `${planned.after} with graphs after without`
        : `${planned.after} after ${planned.before}`;
    gains.push({ finding: id, text: `${text} (${compared}; ${where})` });
  }
  return gains;
}

/** null: this load cannot be had there. */
async function gainBetween(before: Scenario, after: Scenario): Promise<string | null> {
  try {
    return gainText(gainOf(await simulate(before), await simulate(after)));
  } catch (error) {
    if (error instanceof PlanError) return null;
    throw error;
  }
}

/** The first word of the command that names a model that is known. */
function modelOf({ engine }: Facts) {
  const words = engine.known ? engine.value.words : [];
  for (const { text } of words) {
    try {
      if (/^\w/.test(text)) return knownModel(text);
    } catch (error) {
      if (!(error instanceof PlanError)) throw error;
    }
  }
  return knownModel(USUAL_MODEL);
}
