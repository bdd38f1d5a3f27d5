import type { AnswerFormat } from './answer-reader.ts';
import type { ToolFormat } from './calls.ts';
import { DEEPSEEK_V3, DEEPSEEK_V31 } from './deepseek.ts';
import { FUNCTION_GEMMA, GEMMA4 } from './gemma.ts';
import { GLM } from './glm.ts';
import { HERMES } from './hermes.ts';
import { KIMI } from './kimi.ts';
import { LLAMA_JSON, PYTHONIC } from './llama.ts';
import { MISTRAL } from './mistral.ts';
import { QWEN_XML } from './qwen-xml.ts';
import {
  ASSUMED_THINK,
  GEMMA_THOUGHT,
  MISTRAL_THINK,
  type ReasoningFormat,
  SEED_THINK,
  THINK,
} from './reasoning.ts';

/** Formats of calls by vLLM's names. `harmony` has calls and reasoning in one. */
const TOOLS = {
  hermes: HERMES,
  qwen3_coder: QWEN_XML,
  qwen3_xml: QWEN_XML,
  mimo: QWEN_XML,
  llama3_json: LLAMA_JSON,
  llama4_json: LLAMA_JSON,
  llama4_pythonic: PYTHONIC,
  pythonic: PYTHONIC,
  mistral: MISTRAL,
  deepseek_v3: DEEPSEEK_V3,
  deepseek_v31: DEEPSEEK_V31,
  glm45: GLM,
  glm47: GLM,
  kimi_k2: KIMI,
  functiongemma: FUNCTION_GEMMA,
  gemma4: GEMMA4,
  openai: 'harmony',
} as const satisfies Readonly<Record<string, ToolFormat | 'harmony'>>;

/** Formats of reasoning by vLLM's names. */
const REASONING = {
  qwen3: THINK,
  deepseek_r1: ASSUMED_THINK,
  deepseek_v3: THINK,
  glm45: THINK,
  glm47: THINK,
  kimi_k2: THINK,
  holo2: THINK,
  mimo: THINK,
  olmo3: THINK,
  nemotron_v3: THINK,
  minimax_m2: ASSUMED_THINK,
  step3: ASSUMED_THINK,
  mistral: MISTRAL_THINK,
  seed_oss: SEED_THINK,
  gemma4: GEMMA_THOUGHT,
  openai_gptoss: 'harmony',
} as const satisfies Readonly<Record<string, ReasoningFormat | 'harmony'>>;

export type ToolParserName = keyof typeof TOOLS;
export type ReasoningParserName = keyof typeof REASONING;

export const TOOL_PARSERS = Object.keys(TOOLS) as readonly ToolParserName[];
export const REASONING_PARSERS = Object.keys(REASONING) as readonly ReasoningParserName[];

/** What a format is made of, by name; undefined: none. */
export interface FormatNames {
  readonly tools: ToolParserName | undefined;
  readonly reasoning: ReasoningParserName | undefined;
}

/** undefined where there is nothing to read but text. */
export function formatOf(names: FormatNames): AnswerFormat | undefined {
  const tools = names.tools && TOOLS[names.tools];
  const reasoning = names.reasoning && REASONING[names.reasoning];
  if (tools === 'harmony' || reasoning === 'harmony') return { kind: 'harmony' };
  if (tools === undefined && reasoning === undefined) return undefined;
  return { kind: 'tags', tools, reasoning };
}

/** What of a template says which format its model was trained on; the first that holds. */
const TOOL_SIGNS: readonly (readonly [ToolParserName, ...string[]])[] = [
  ['openai', '<|channel|>', 'functions'],
  ['kimi_k2', '<|tool_calls_section_begin|>'],
  ['deepseek_v3', '<｜tool▁calls▁begin｜>', '```json'],
  ['deepseek_v31', '<｜tool▁calls▁begin｜>'],
  ['mistral', '[TOOL_CALLS]'],
  ['glm45', '<tool_call>', '<arg_key>'],
  ['qwen3_coder', '<function=', '<parameter='],
  ['gemma4', '<|tool_call>call:'],
  ['functiongemma', '<start_function_call>'],
  ['hermes', '<tool_call>', 'arguments'],
  ['llama4_pythonic', '<|python_start|>'],
  ['pythonic', '[func_name1(params_name1='],
  ['llama3_json', '"parameters"', '<|python_tag|>'],
  ['llama3_json', '{"name": function name, "parameters":'],
];

const REASONING_SIGNS: readonly (readonly [ReasoningParserName, ...string[]])[] = [
  ['openai_gptoss', '<|channel|>', 'analysis'],
  ['mistral', '[THINK]'],
  ['gemma4', '<|channel>thought'],
  ['seed_oss', '<seed:think>'],
  ['qwen3', '</think>'],
];

/** The formats that a model's templates show. `shows`: one of them has all of these texts in it. */
export function detectFormats(shows: (signs: readonly string[]) => boolean): FormatNames {
  const first = <T>(list: readonly (readonly [T, ...string[]])[]): T | undefined =>
    list.find(([, ...signs]) => shows(signs))?.[0];
  return { tools: first(TOOL_SIGNS), reasoning: first(REASONING_SIGNS) };
}
