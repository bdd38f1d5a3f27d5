import { deepSeekV3Families } from './deepseek-v3.ts';
import type { Family } from './family.ts';
import { gemma3Seeing, gemma3Text } from './gemma3.ts';
import { gemma4Families } from './gemma4.ts';
import { glm4Moe } from './glm4-moe.ts';
import { gptOss } from './gpt-oss.ts';
import { granite } from './granite.ts';
import { llama } from './llama.ts';
import { miniMaxM2 } from './minimax-m2.ts';
import { ministral3, mistral, mistral3 } from './mistral.ts';
import { olmo3 } from './olmo3.ts';
import { phi3 } from './phi3.ts';
import { qwen2, qwen3, qwen3Moe } from './qwen.ts';
import { qwen3Next, qwen35Families } from './qwen3-next.ts';
import { smolLm3 } from './smollm3.ts';

/** Every family of models that this engine runs. */
export const FAMILIES: readonly Family[] = [
  llama,
  mistral,
  mistral3,
  ministral3,
  qwen2,
  qwen3,
  qwen3Moe,
  qwen3Next,
  ...qwen35Families,
  gptOss,
  phi3,
  smolLm3,
  olmo3,
  granite,
  glm4Moe,
  ...deepSeekV3Families,
  miniMaxM2,
  gemma3Text,
  gemma3Seeing,
  ...gemma4Families,
];
