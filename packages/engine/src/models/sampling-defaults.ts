import { ConfigReader, show } from './config-reader.ts';
import { type ModelFiles, readJson } from './files.ts';

/** What generation_config.json says about sampling where a request says nothing. */
export interface SamplingDefaults {
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
}

interface Key {
  readonly name: keyof SamplingDefaults;
  /** What a request may ask for; a value outside would refuse every request that says nothing. */
  readonly min: number;
  readonly max: number;
  readonly aboveMin?: boolean;
  readonly integer?: boolean;
}

const KEYS: Readonly<Record<string, Key>> = {
  temperature: { name: 'temperature', min: 0, max: 100 },
  top_k: { name: 'topK', min: 0, max: 2 ** 31 - 1, integer: true },
  top_p: { name: 'topP', min: 0, max: 1, aboveMin: true },
  min_p: { name: 'minP', min: 0, max: 1 },
  repetition_penalty: { name: 'repetitionPenalty', min: 0, max: 100, aboveMin: true },
};

/**
 * Reads a model's generation_config.json, as vLLM does by default: values apply whether or
 * not `do_sample` is set, and a `top_k` of -1 is none. Throws ModelError `malformed` for values
 * that no request may have.
 */
export async function readSamplingDefaults(files: ModelFiles): Promise<SamplingDefaults> {
  const config = new ConfigReader(
    (await readJson(files, 'generation_config.json')) ?? {},
    'generation_config.json',
  );
  const defaults: Record<string, number> = {};
  for (const [key, { name, min, max, aboveMin = false, integer = false }] of Object.entries(KEYS)) {
    const value = config.get(key) === -1 && key === 'top_k' ? 0 : config.get(key);
    if (value === undefined) continue;
    const isNumber = integer ? Number.isInteger(value) : typeof value === 'number';
    const number = value as number;
    if (!isNumber || !(aboveMin ? number > min : number >= min) || number > max) {
      const kind = integer ? 'a whole number' : 'a number';
      const range = `${kind} ${aboveMin ? 'above' : 'from'} ${min} to ${max}`;
      const effect = 'no request could do with this default';
      throw config.error('malformed', key, `is ${show(value)}; ${effect}: it must be ${range}`);
    }
    defaults[name] = number;
  }
  return defaults;
}
