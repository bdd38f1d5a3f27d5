import type { Rule } from '../rule.ts';
import { ANY_ENGINE_RULES } from './any-engine.ts';
import { CONFIDENTIAL_RULES } from './confidential.ts';
import { GPU_RULES } from './gpu.ts';
import { MACHINE_RULES } from './machine.ts';
import { OWN_SETTINGS_RULES } from './own-settings.ts';
import { SGLANG_RULES } from './sglang.ts';
import { TENSORRT_LLM_RULES } from './tensorrt-llm.ts';
import { VLLM_COLLECTIVE_RULES } from './vllm-collectives.ts';
import { VLLM_MEMORY_RULES } from './vllm-memory.ts';
import { VLLM_STEP_RULES } from './vllm-steps.ts';

export interface RuleFamily {
  readonly title: string;
  readonly rules: readonly Rule[];
}

/** Every rule, by what it is about. */
export const RULE_FAMILIES: readonly RuleFamily[] = [
  { title: 'Confidential computing', rules: CONFIDENTIAL_RULES },
  { title: 'GPU and driver', rules: GPU_RULES },
  { title: 'CPU and memory', rules: MACHINE_RULES },
  { title: 'Bridgekeeper’s own settings', rules: OWN_SETTINGS_RULES },
  { title: 'Any engine', rules: ANY_ENGINE_RULES },
  { title: 'vLLM: steps', rules: VLLM_STEP_RULES },
  { title: 'vLLM: memory and loading', rules: VLLM_MEMORY_RULES },
  { title: 'vLLM: collectives', rules: VLLM_COLLECTIVE_RULES },
  { title: 'SGLang', rules: SGLANG_RULES },
  { title: 'TensorRT-LLM', rules: TENSORRT_LLM_RULES },
];

export const RULES: readonly Rule[] = RULE_FAMILIES.flatMap(({ rules }) => rules);
