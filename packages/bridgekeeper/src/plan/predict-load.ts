import { isReferenceProfileName, type Profile, referenceProfile } from '@bridgekeeper/bridge';
import type { LoadQuestion, Predicted } from '@bridgekeeper/control';
import {
  chooseModelTokens,
  DEFAULT_FLAGS,
  knownGpu,
  knownModel,
  makePlan,
  PlanError,
  type PlanRequest,
  type Prediction,
  readSpec,
  simulate,
  specWorkload,
} from '@bridgekeeper/planner';

/** What is simulated of a load: enough for its percentiles, and of a bounded size. */
const REQUESTS_MAX = 50;
const TOKENS_MAX = 500_000;
/** Of the guest's memory, where nobody says: it is accepted page by page as it starts. */
const GUEST_BYTES = 256 * 2 ** 30;
const SEED = 1;

/** What one replica makes of a load, by the planner. Takes seconds. Throws PlanError. */
export async function predictLoad(question: LoadQuestion): Promise<Predicted> {
  const { slo, outputTokens } = question.load;
  const { predictions } = await makePlan(
    requestOf(question),
    async (scenarios, onDone) => {
      const done: Prediction[] = [];
      for (const scenario of scenarios) {
        done.push(await simulate({ ...scenario, slo }));
        onDone();
      }
      return done;
    },
    () => undefined,
  );
  // Law off comes first, and is the only one where the host has no bridge.
  const off = predictions[0]!.prediction;
  const on = predictions.at(-1)!.prediction;
  const percentiles = ({ p50, p99 }: { readonly p50: number; readonly p99: number }) => ({
    p50: p50 / 1e3,
    p99: p99 / 1e3,
  });
  return {
    ttftSeconds: percentiles(on.ttftMs),
    tpotSeconds: percentiles(on.tpotMs),
    tokensPerSecond: on.outputTokensPerSecond,
    law: on.law,
    coldStartSeconds: on.coldStart.reduce((sum, { seconds }) => sum + seconds, 0),
    bridgeSecondsPerToken: Math.max(0, on.e2eMs.mean - off.e2eMs.mean) / 1e3 / outputTokens,
    sloMissed: on.slo?.any ?? null,
    overload: on.neverDrains,
    requests: on.requests,
  };
}

function requestOf({ load, gpus, bridge }: LoadQuestion): PlanRequest {
  const { requestsPerSecond, promptTokens, outputTokens } = load;
  const model = knownModel(load.model);
  const gpu = knownGpu(load.gpu);
  const longest = promptTokens + outputTokens;
  if (longest > model.spec.maxPositions) {
    const most = model.spec.maxPositions;
    const message = `load: ${longest} tokens are more than the ${most} that ${model.name} takes`;
    throw new PlanError('bad-workload', message);
  }
  const requests = Math.max(1, Math.min(REQUESTS_MAX, Math.floor(TOKENS_MAX / longest)));
  const words = `${decimal(requestsPerSecond)} req/s, ${promptTokens}+${outputTokens}`;
  const law = lawOf(bridge, referenceProfile(gpu.confidential.law));
  const flags = { ...DEFAULT_FLAGS, tensorParallel: gpus };
  const isConfidential = law?.confidential === true;
  const maxModelTokens = chooseModelTokens({ model, gpu, flags, isConfidential }, longest);
  return {
    model,
    gpu,
    laws: [law],
    engines: ['bridgekeeper-resident'],
    flags: { ...flags, maxModelTokens },
    workload: specWorkload(readSpec(`${words}, ${requests} requests`), SEED),
    // With limits, a plan looks for the rate at which they break: that takes many simulations.
    slo: null,
    guest: { memoryBytes: GUEST_BYTES, acceptance: 'lazy' },
    concurrencies: [],
    requestsPerSecond: [],
    fleetRequestsPerSecond: null,
    recommends: false,
    window: null,
    stepFactor: 1,
    observed: null,
    seed: SEED,
  };
}

/** A number as a load in words has it: never with an exponent. */
function decimal(value: number): string {
  return value.toFixed(6).replace(/\.?0+$/, '');
}

/** The profile that the host names; of another name, the GPU's own in confidential mode. */
export function lawOf(bridge: LoadQuestion['bridge'], confidential: Profile): Profile | null {
  if (bridge === null) return null;
  return isReferenceProfileName(bridge.profile) ? referenceProfile(bridge.profile) : confidential;
}
