import { POLICY_NAMES } from '@bridgekeeper/engine';
import { PlanError } from '../errors.ts';
import { nearestNames } from '../nearest.ts';
import { type EngineName, PERSONALITY_NAMES } from './scenario.ts';

const OWN = POLICY_NAMES.map((policy) => `bridgekeeper-${policy}` as const);

export const ENGINE_NAMES: readonly EngineName[] = [...PERSONALITY_NAMES, ...OWN];

/** What a plan looks at unless told otherwise: as delivered, and what can be done about it. */
export const USUAL_ENGINES: readonly EngineName[] = [
  'vllm-v1-async',
  'vllm-v1-sync',
  'vllm-v1-worker',
  'sglang-overlap',
  'sglang-worker',
  'trtllm-overlap',
  'bridgekeeper-resident',
];

/** Builds that nobody has released. */
const PATCHED: readonly EngineName[] = [
  'vllm-v1-worker',
  'vllm-v1-packed',
  'vllm-v1-staged',
  'sglang-worker',
];

/** Whether it can be had as it is delivered, however it is started. */
export const isDelivered = (engine: EngineName): boolean => !PATCHED.includes(engine);

/** Names that stand for several. */
const GROUPS: Readonly<Record<string, readonly EngineName[]>> = {
  all: ENGINE_NAMES,
  vllm: PERSONALITY_NAMES.filter((name) => name.startsWith('vllm-')),
  sglang: PERSONALITY_NAMES.filter((name) => name.startsWith('sglang-')),
  trtllm: PERSONALITY_NAMES.filter((name) => name.startsWith('trtllm-')),
  bridgekeeper: OWN,
};

/** The engines of a list of names and groups of them. Throws PlanError `unknown-engine`. */
export function enginesOf(names: readonly string[]): readonly EngineName[] {
  const found = names.flatMap((name) => {
    if (Object.hasOwn(GROUPS, name)) return GROUPS[name]!;
    const known = ENGINE_NAMES.find((each) => each === name);
    if (known !== undefined) return [known];
    const near = nearestNames(name, [...ENGINE_NAMES, ...Object.keys(GROUPS)]).join(', ');
    throw new PlanError('unknown-engine', `--engine ${name}: is not known; nearest: ${near}`);
  });
  return [...new Set(found)];
}
