import { MAX_DRAFTS, MAX_LOOKUP } from '@bridgekeeper/device';
import type { NgramOptions } from '@bridgekeeper/engine';
import { UsageError } from '../../settings/resolve.ts';

const FLAG = '--speculative-config';
const KEYS = ['num_speculative_tokens', 'prompt_lookup_max', 'prompt_lookup_min'] as const;
/** vLLM's, where neither is given. */
const DEFAULT_LOOKUP = 5;

/**
 * Reads `--speculative-config` as vLLM spells it: a JSON object of a method, which must be ngram,
 * and its numbers. One missing of prompt_lookup_max and prompt_lookup_min is as the other. Throws
 * UsageError.
 */
export function readSpeculativeConfig(text: string): NgramOptions {
  const { method, ...numbers } = parseObject(text);
  if (method !== 'ngram') refuse(`"method" must be "ngram"; other drafts are not supported`);
  for (const key of Object.keys(numbers)) {
    if (KEYS.some((known) => known === key)) continue;
    refuse(`unknown key ${JSON.stringify(key)}; there are "method", "${KEYS.join('", "')}"`);
  }
  const read = (key: (typeof KEYS)[number], most: number): number | undefined => {
    const value = numbers[key];
    if (value === undefined) return undefined;
    const isWhole = typeof value === 'number' && Number.isSafeInteger(value);
    if (isWhole && value >= 1 && value <= most) return value;
    return refuse(`"${key}" must be an integer from 1 to ${most}`);
  };
  const drafts = read('num_speculative_tokens', MAX_DRAFTS);
  if (drafts === undefined) return refuse('"num_speculative_tokens" is missing');
  const max = read('prompt_lookup_max', MAX_LOOKUP);
  const min = read('prompt_lookup_min', MAX_LOOKUP);
  const lookupMax = max ?? min ?? DEFAULT_LOOKUP;
  const lookupMin = min ?? lookupMax;
  if (lookupMin > lookupMax) {
    refuse(`"prompt_lookup_min" (${lookupMin}) must be at most "prompt_lookup_max" (${lookupMax})`);
  }
  return { drafts, lookupMin, lookupMax };
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  } catch {
    // Whatever else it is, it is no object.
  }
  return refuse('must be a JSON object, as {"method": "ngram", "num_speculative_tokens": 4}');
}

function refuse(why: string): never {
  throw new UsageError('bad-value', `${FLAG}: ${why}`);
}
