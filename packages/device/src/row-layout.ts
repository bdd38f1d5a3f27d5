/**
 * What the host and the kernels agree on: the layout of device-resident row state, of packed
 * commands and of the result ring. All in 32-bit words, little-endian. The CUDA sources get these
 * names as #defines from this file, so there is no second copy.
 */

/** Word offsets in a row's state. Floats are stored as their bits. */
export const ROW = {
  /** 1 while the row decodes. Rows whose prompt is still being prefilled are 0. */
  ACTIVE: 0,
  /** The last token sampled: the next decode step's input. */
  TOKEN: 1,
  /** Where TOKEN will be written: how many tokens of this row are in KV. */
  POSITION: 2,
  /** Tokens sampled so far. Also the counter of the row's random numbers. */
  GENERATED: 3,
  /** Tokens that may still be sampled. */
  REMAINING: 4,
  /** While GENERATED is below this, the stop ids are masked. */
  MIN_TOKENS: 5,
  SEED_LO: 6,
  SEED_HI: 7,
  /** 0 is greedy. */
  TEMPERATURE: 8,
  /** 0 is off. */
  TOP_K: 9,
  /** 1 is off. */
  TOP_P: 10,
  /** 0 is off. */
  MIN_P: 11,
  /** 1 is off; over prompt and output, as in the CTRL paper (arXiv 1909.05858) and vLLM. */
  REPETITION: 12,
  /** 0 is off; over the output only, as OpenAI defines them. */
  PRESENCE: 13,
  FREQUENCY: 14,
  FLAGS: 15,
  /** How many of the best alternatives to report: 0 to MAX_TOP_LOGPROBS. */
  TOP_LOGPROBS: 16,
  BIAS_COUNT: 17,
  STOP_COUNT: 18,
  /** Which occupant of the row this is, echoed in results so that late ones are told apart. */
  EPOCH: 19,
  /** STOP_COUNT token ids that end the row. */
  STOP_IDS: 20,
} as const;

export const MAX_STOP_IDS = 32;
/**
 * Logit biases a row may carry; entry i of a row is [token id, bias bits]. OpenAI documents 300 in
 * practice.
 */
export const MAX_BIAS = 300;
export const MAX_TOP_LOGPROBS = 20;
export const ROW_WORDS = 64;

/** Bits of ROW.FLAGS. */
export const ROW_FLAG = {
  /** Penalties are on: counts[row] is kept and read. */
  PENALTIES: 1,
  /** The logprob of each sampled token is reported. */
  LOGPROBS: 2,
  /** Only tokens with a bias may be sampled. */
  ALLOWED: 4,
  /** Only tokens that the row's grammar admits may be sampled (grammar-layout.ts). */
  GRAMMAR: 8,
} as const;

/**
 * counts[row * vocab + token]: how often the token was sampled, plus COUNT_PROMPT when it occurs in
 * the prompt. Kept only for rows with ROW_FLAG.PENALTIES.
 */
export const COUNT_PROMPT = 0x40000000;

/** Rows with one of these have no drafts: their next line's logits depend on its token's fate. */
export const NO_DRAFTS = ROW_FLAG.PENALTIES | ROW_FLAG.LOGPROBS | ROW_FLAG.GRAMMAR;
/** Drafts that a row may have in a step, and tokens by which it may look for them. */
export const MAX_DRAFTS = 15;
export const MAX_LOOKUP = 16;

/** The control buffer's words. */
export const CONTROL = {
  /** Sampling steps done since start, one per `advance`; slot = STEP % ringSlots. */
  STEP: 0,
} as const;
export const CONTROL_WORDS = 16;

/** A slot of the result ring: a header, then `lines` results. */
export const RESULT_HEADER = { STEP: 0, LINES: 1 } as const;
export const RESULT_HEADER_WORDS = 4;
/** One line's result. ROW is -1 where the line was empty; then the other words mean nothing. */
export const RESULT = { ROW: 0, EPOCH: 1, TOKEN: 2, FINISH: 3 } as const;
export const RESULT_WORDS = 4;
/**
 * RESULT.FINISH. ERROR: the token is NO_TOKEN. REJECTED: so is this one, of a line whose draft was
 * not what came; it says nothing of its row.
 */
export const FINISH = { NONE: 0, STOP: 1, LENGTH: 2, ERROR: 3, REJECTED: 4 } as const;
/**
 * What is sampled where no token is possible, because each logit is NaN or minus infinity: what a
 * NaN anywhere in a model comes to.
 */
export const NO_TOKEN = -1;

export function resultSlotWords(lines: number): number {
  return RESULT_HEADER_WORDS + lines * RESULT_WORDS;
}

/**
 * One line of logprobs: natural logarithms of the softmax of the unmodified logits (vLLM's
 * raw_logprobs). RANK counts from 1. The alternatives come best first, ties by lower id; entries
 * past TOP_LOGPROBS are undefined.
 */
export const LOGPROB = { LOGPROB: 0, RANK: 1, IDS: 2, LOGPROBS: 2 + MAX_TOP_LOGPROBS } as const;
export const LOGPROB_WORDS = 2 + 2 * MAX_TOP_LOGPROBS;

/** Where a command's record goes: the index of an array among CommandTargets. */
export const TARGET = {
  ROWS: 0,
  PAGE_TABLE: 1,
  BIAS: 2,
  DECODE_ROWS: 3,
  TOKENS: 4,
  TOKEN_ROWS: 5,
  POSITIONS: 6,
  SELECT: 7,
  SELECT_ROWS: 8,
  PROMPT_SELECT: 9,
  PROMPT_TARGETS: 10,
  CONTROL: 11,
  GRAMMAR_ROWS: 12,
  HISTORY: 13,
  WINDOW_TABLE: 14,
  /**
   * Not a copy: clears counts[OFFSET], then counts the payload [prompt length, prompt ids.., output
   * ids..].
   */
  COUNTS: 15,
} as const;
export type Target = (typeof TARGET)[keyof typeof TARGET];

/**
 * A command: header, directory of records, payload. Records are independent: the kernel may apply
 * them in any order.
 */
export const COMMAND_HEADER_WORDS = 4;
export const COMMAND_HEADER = { RECORDS: 0, WORDS: 1 } as const;
export const RECORD_WORDS = 4;
/** OFFSET and LENGTH are words in the target; PAYLOAD is a word offset in the command. */
export const RECORD = { TARGET: 0, OFFSET: 1, LENGTH: 2, PAYLOAD: 3 } as const;
