import {
  MAX_BIAS,
  MAX_STOP_IDS,
  MAX_TOP_LOGPROBS,
  ROW,
  ROW_FLAG,
  ROW_WORDS,
} from '@bridgekeeper/device';
import { EngineError, type SamplingParams } from './request.ts';

/** Greedy, nothing else switched on: the starting point for tests and benchmarks. */
export const GREEDY: SamplingParams = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  allowedTokenIds: undefined,
  bannedTokenIds: [],
  seed: 0n,
  maxTokens: 16,
  minTokens: 0,
  stopTokenIds: [],
  logprobs: undefined,
  promptLogprobs: undefined,
};

interface Range {
  readonly parameter: string;
  readonly min: number;
  readonly max: number;
  readonly integer?: boolean;
  readonly aboveMin?: boolean;
}

const INT32_MAX = 0x7fffffff;

const RANGES: Partial<Record<keyof SamplingParams, Range>> = {
  temperature: { parameter: 'temperature', min: 0, max: 100 },
  topK: { parameter: 'top_k', min: 0, max: INT32_MAX, integer: true },
  topP: { parameter: 'top_p', min: 0, max: 1, aboveMin: true },
  minP: { parameter: 'min_p', min: 0, max: 1 },
  repetitionPenalty: { parameter: 'repetition_penalty', min: 0, max: 100, aboveMin: true },
  presencePenalty: { parameter: 'presence_penalty', min: -2, max: 2 },
  frequencyPenalty: { parameter: 'frequency_penalty', min: -2, max: 2 },
  maxTokens: { parameter: 'max_tokens', min: 1, max: INT32_MAX, integer: true },
  minTokens: { parameter: 'min_tokens', min: 0, max: INT32_MAX, integer: true },
  logprobs: { parameter: 'logprobs', min: 0, max: MAX_TOP_LOGPROBS, integer: true },
  promptLogprobs: { parameter: 'prompt_logprobs', min: 0, max: MAX_TOP_LOGPROBS, integer: true },
};

function refuse(parameter: string, message: string): never {
  throw new EngineError('bad-request', message, parameter);
}

/** Throws EngineError `bad-request` naming the first parameter outside its range. */
export function checkSampling(params: SamplingParams, vocabularySize: number): void {
  for (const [key, range] of Object.entries(RANGES)) {
    const value = params[key as keyof SamplingParams];
    if (value === undefined) continue;
    const { parameter, min, max } = range;
    const open = range.aboveMin === true ? '(' : '[';
    const inside =
      typeof value === 'number' &&
      (range.aboveMin === true ? value > min : value >= min) &&
      value <= max &&
      (range.integer !== true || Number.isInteger(value));
    if (!inside) {
      const kind = range.integer === true ? 'an integer' : 'a number';
      refuse(parameter, `${parameter} must be ${kind} in ${open}${min}, ${max}], got ${value}`);
    }
  }
  if (params.minTokens > params.maxTokens) {
    refuse(
      'min_tokens',
      `min_tokens (${params.minTokens}) must not exceed max_tokens (${params.maxTokens})`,
    );
  }
  if (params.seed !== undefined && (params.seed < 0n || params.seed > 0xffffffffffffffffn)) {
    refuse('seed', 'seed must be an unsigned 64-bit integer');
  }
  checkTokens(
    'logit_bias',
    params.logitBias.map((pair) => pair[0]),
    MAX_BIAS,
    vocabularySize,
  );
  for (const [, bias] of params.logitBias) {
    if (!(bias >= -100 && bias <= 100)) {
      refuse('logit_bias', `logit_bias values must be numbers in [-100, 100], got ${bias}`);
    }
  }
  checkTokens('stop_token_ids', params.stopTokenIds, MAX_STOP_IDS, vocabularySize);
  checkTokens('bad_words', params.bannedTokenIds, MAX_BIAS, vocabularySize);
  if (params.allowedTokenIds !== undefined) checkAllowed(params, vocabularySize);
  const biases = biasesOf(params).length;
  if (biases > MAX_BIAS) {
    refuse('bad_words', `logit_bias and bad_words name ${biases} tokens, of ${MAX_BIAS} at most`);
  }
}

function checkAllowed(params: SamplingParams, vocabularySize: number): void {
  checkTokens('allowed_token_ids', params.allowedTokenIds!, MAX_BIAS, vocabularySize);
  const left = biasesOf(params).filter(([, bias]) => bias !== Number.NEGATIVE_INFINITY);
  if (left.length === 0) refuse('allowed_token_ids', 'allowed_token_ids leaves no token to sample');
  if (params.minTokens > 0 && left.every(([token]) => params.stopTokenIds.includes(token))) {
    refuse('min_tokens', 'min_tokens cannot be reached: allowed_token_ids has only stop tokens');
  }
}

/** What the device adds to logits: a token's only entry. */
function biasesOf(params: SamplingParams): readonly (readonly [token: number, bias: number])[] {
  const { allowedTokenIds, bannedTokenIds, logitBias } = params;
  const biases = new Map<number, number>(logitBias);
  for (const token of bannedTokenIds) biases.set(token, Number.NEGATIVE_INFINITY);
  if (allowedTokenIds === undefined) return [...biases];
  return [...new Set(allowedTokenIds)].map((token) => [token, biases.get(token) ?? 0]);
}

function checkTokens(
  parameter: string,
  ids: readonly number[],
  most: number,
  vocabularySize: number,
): void {
  if (ids.length > most) {
    refuse(parameter, `${parameter} may name at most ${most} tokens, got ${ids.length}`);
  }
  for (const id of ids) {
    if (!Number.isInteger(id) || id < 0 || id >= vocabularySize) {
      refuse(parameter, `${parameter}: ${id} is not a token id (0 to ${vocabularySize - 1})`);
    }
  }
}

export function usesPenalties(params: SamplingParams): boolean {
  return (
    params.repetitionPenalty !== 1 || params.presencePenalty !== 0 || params.frequencyPenalty !== 0
  );
}

/** What a row starts with, besides the parameters of its request. */
export interface RowStart {
  readonly token: number;
  readonly position: number;
  readonly generated: number;
  readonly remaining: number;
  readonly seed: bigint;
  readonly epoch: number;
  /** Its tokens obey a grammar. */
  readonly hasGrammar: boolean;
}

const words = new Int32Array(ROW_WORDS);
const floats = new Float32Array(words.buffer);

/** Encodes a row's state for a command. The returned array is reused by the next call. */
export function encodeRow(params: SamplingParams, start: RowStart): Int32Array {
  words.fill(0);
  words[ROW.TOKEN] = start.token;
  words[ROW.POSITION] = start.position;
  words[ROW.GENERATED] = start.generated;
  words[ROW.REMAINING] = start.remaining;
  words[ROW.MIN_TOKENS] = params.minTokens;
  words[ROW.SEED_LO] = Number(start.seed & 0xffffffffn);
  words[ROW.SEED_HI] = Number(start.seed >> 32n);
  floats[ROW.TEMPERATURE] = params.temperature;
  words[ROW.TOP_K] = params.topK;
  floats[ROW.TOP_P] = params.topP;
  floats[ROW.MIN_P] = params.minP;
  floats[ROW.REPETITION] = params.repetitionPenalty;
  floats[ROW.PRESENCE] = params.presencePenalty;
  floats[ROW.FREQUENCY] = params.frequencyPenalty;
  words[ROW.FLAGS] =
    (usesPenalties(params) ? ROW_FLAG.PENALTIES : 0) |
    (params.logprobs === undefined ? 0 : ROW_FLAG.LOGPROBS) |
    (params.allowedTokenIds === undefined ? 0 : ROW_FLAG.ALLOWED) |
    (start.hasGrammar ? ROW_FLAG.GRAMMAR : 0);
  words[ROW.TOP_LOGPROBS] = params.logprobs ?? 0;
  words[ROW.BIAS_COUNT] = biasesOf(params).length;
  words[ROW.STOP_COUNT] = params.stopTokenIds.length;
  words[ROW.EPOCH] = start.epoch;
  words.set(params.stopTokenIds, ROW.STOP_IDS);
  return words;
}

/** [token id, bias bits] pairs for a command. */
export function encodeBias(params: SamplingParams): Int32Array {
  const biases = biasesOf(params);
  const pairs = new Int32Array(biases.length * 2);
  const bits = new Float32Array(pairs.buffer);
  biases.forEach(([token, bias], index) => {
    pairs[index * 2] = token;
    bits[index * 2 + 1] = bias;
  });
  return pairs;
}
