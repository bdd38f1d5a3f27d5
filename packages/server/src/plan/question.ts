import { isReferenceProfileName, type Profile, referenceProfile } from '@bridgekeeper/bridge';
import type { Gpu, PlannedModel, PlanRequest } from '@bridgekeeper/planner';
import { z } from '@hono/zod-openapi';
import { ApiError } from '../http/errors.ts';

type Planner = typeof import('@bridgekeeper/planner');

const LAWS_MAX = 3;
const ENGINES_MAX = 8;
const LOADS_MAX = 6;
/** Of one load: what is simulated here is looked at, and not kept. */
const REQUESTS_MAX = 2_000;
const GUEST_BYTES = 256 * 2 ** 30;
const limitMs = z.number().min(0.001).max(1e9).nullable().optional();

/** What POST /v1/plan takes: the words of `bridgekeeper plan`. */
export const PlanQuestion = z
  .strictObject({
    /** A name that the planner knows; null: the model that is served. */
    model: z.string().min(1).max(128).nullable().optional(),
    gpu: z.string().min(1).max(64),
    /** `auto`: the GPU's own; `off`; or a reference profile. */
    laws: z.array(z.string().max(64)).min(1).max(LAWS_MAX).optional(),
    /** In words: `8 at a time, 1024+256`. */
    workload: z.string().min(1).max(200),
    engines: z.array(z.string().max(64)).min(1).max(ENGINES_MAX).optional(),
    concurrencies: z.array(z.int().min(1).max(512)).max(LOADS_MAX).optional(),
    ttft_ms: limitMs,
    itl_ms: limitMs,
    seed: z
      .int()
      .min(0)
      .max(2 ** 31)
      .optional(),
  })
  .openapi('PlanQuestion');

export type PlanQuestion = z.output<typeof PlanQuestion>;

/**
 * What the planner is asked. Throws PlanError, or ApiError for what is no law or more than is
 * simulated beside serving.
 */
export function planRequestOf(
  question: PlanQuestion,
  served: PlannedModel | null,
  planner: Planner,
): PlanRequest {
  const { DEFAULT_FLAGS, USUAL_ENGINES, enginesOf, knownGpu, knownModel, specWorkload } = planner;
  const model = modelOf(question, served, knownModel);
  const gpu = knownGpu(question.gpu);
  const seed = question.seed ?? 1;
  const spec = planner.readSpec(question.workload);
  if (spec.requests > REQUESTS_MAX) {
    const message = `workload has ${spec.requests} requests: at most ${REQUESTS_MAX} here, more by`;
    throw new ApiError('invalid_value', `${message} \`bridgekeeper plan\`.`, 'workload');
  }
  const workload = specWorkload(spec, seed);
  const laws = (question.laws ?? ['auto']).map((name) => lawOf(name, gpu));
  const longest = planner.summariseWorkload(workload).requestTokensMax;
  if (longest > model.spec.maxPositions) {
    const message = `workload has requests of ${longest} tokens, ${model.name} takes`;
    throw new ApiError('invalid_value', `${message} ${model.spec.maxPositions}.`, 'workload');
  }
  const isConfidential = laws.some((law) => law?.confidential === true);
  const flags = DEFAULT_FLAGS;
  const asked = { model, gpu, flags, isConfidential };
  const maxModelTokens = planner.chooseModelTokens(asked, longest);
  const { ttft_ms: ttftMs, itl_ms: itlMs } = question;
  const hasSlo = ttftMs != null || itlMs != null;
  return {
    model,
    gpu,
    laws,
    engines: question.engines === undefined ? USUAL_ENGINES : enginesOf(question.engines),
    flags: { ...flags, maxModelTokens },
    workload,
    slo: hasSlo ? { ttftMs: ttftMs ?? undefined, itlMs: itlMs ?? undefined } : null,
    guest: { memoryBytes: GUEST_BYTES, acceptance: 'lazy' },
    concurrencies: question.concurrencies ?? [1, 8, 32],
    requestsPerSecond: [],
    fleetRequestsPerSecond: null,
    recommends: false,
    window: null,
    stepFactor: 1,
    observed: null,
    seed,
  };
}

function modelOf(
  { model }: PlanQuestion,
  served: PlannedModel | null,
  knownModel: Planner['knownModel'],
): PlannedModel {
  if (model != null) return knownModel(model);
  if (served !== null) return served;
  const message = 'The model that is served cannot be planned: say which.';
  throw new ApiError('invalid_value', message, 'model');
}

function lawOf(name: string, gpu: Gpu): Profile | null {
  if (name === 'off') return null;
  if (name === 'auto') return referenceProfile(gpu.confidential.law);
  if (isReferenceProfileName(name)) return referenceProfile(name);
  const message = `laws: ${JSON.stringify(name)} is none: auto, off or a reference profile.`;
  throw new ApiError('invalid_value', message, 'laws');
}
