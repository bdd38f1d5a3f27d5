import { ConfigReader } from './config-reader.ts';
import { type ModelFiles, readJson } from './files.ts';

/** What generation_config.json says about sampling where a request says nothing. */
export interface SamplingDefaults {
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
}

const KEYS = {
  temperature: 'temperature',
  topK: 'top_k',
  topP: 'top_p',
  minP: 'min_p',
  repetitionPenalty: 'repetition_penalty',
} as const;

/**
 * Reads a model's generation_config.json, as vLLM does by default: values apply whether or
 * not `do_sample` is set. Throws ModelError `malformed` for values that are not numbers.
 */
export async function readSamplingDefaults(files: ModelFiles): Promise<SamplingDefaults> {
  const config = new ConfigReader(
    (await readJson(files, 'generation_config.json')) ?? {},
    'generation_config.json',
  );
  const defaults: Record<string, number> = {};
  for (const [name, key] of Object.entries(KEYS)) {
    const value = config.get(key);
    if (value === undefined) continue;
    if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) {
      throw config.error('malformed', key, 'must be a number from 0');
    }
    defaults[name] = value;
  }
  return defaults;
}
