import type { Slice } from '../device.ts';
import { GRAMMAR_ROW_WORDS } from '../grammar-layout.ts';
import type { CommandTargets, GrammarTables, OpArgs } from '../ops.ts';
import {
  CONTROL,
  CONTROL_WORDS,
  MAX_BIAS,
  ROW,
  ROW_FLAG,
  ROW_WORDS,
  resultSlotWords,
} from '../row-layout.ts';
import { buildVocabulary, type Vocabulary } from '../vocabulary.ts';
import { expectThat } from './case.ts';
import type { Workbench } from './workbench.ts';

/** Sizes of the row state in these cases: small, and none a multiple of another. */
export const STATE = {
  maxRows: 5,
  pagesPerRow: 7,
  maxTokens: 11,
  historyTokens: 41,
  vocab: 97,
  ringSlots: 3,
  ringLines: 6,
} as const;

const FLOAT = new Float32Array(1);
const WORD = new Int32Array(FLOAT.buffer);

/** The bits of a float, as rows store them. */
function floatBits(value: number): number {
  FLOAT[0] = value;
  return WORD[0]!;
}

/** A row with everything off: greedy, no penalties, no stops. Float fields are given as numbers. */
export interface RowSetting {
  readonly active?: boolean;
  readonly token?: number;
  readonly position?: number;
  readonly generated?: number;
  readonly remaining?: number;
  readonly minTokens?: number;
  readonly seed?: readonly [low: number, high: number];
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetition?: number;
  readonly presence?: number;
  readonly frequency?: number;
  readonly penalties?: boolean;
  readonly topLogprobs?: number;
  readonly bias?: readonly (readonly [token: number, bias: number])[];
  /** Only tokens with a bias may be sampled. */
  readonly allowedOnly?: boolean;
  readonly stopIds?: readonly number[];
  /** Only tokens of its mask may be sampled. */
  readonly grammar?: boolean;
  readonly epoch?: number;
}

/** The words of a row. */
export function rowWords(setting: RowSetting): Int32Array {
  const words = new Int32Array(ROW_WORDS);
  words[ROW.ACTIVE] = setting.active === false ? 0 : 1;
  words[ROW.TOKEN] = setting.token ?? 0;
  words[ROW.POSITION] = setting.position ?? 0;
  words[ROW.GENERATED] = setting.generated ?? 0;
  words[ROW.REMAINING] = setting.remaining ?? 100;
  words[ROW.MIN_TOKENS] = setting.minTokens ?? 0;
  words.set(setting.seed ?? [0, 0], ROW.SEED_LO);
  words[ROW.TEMPERATURE] = floatBits(setting.temperature ?? 0);
  words[ROW.TOP_K] = setting.topK ?? 0;
  words[ROW.TOP_P] = floatBits(setting.topP ?? 1);
  words[ROW.MIN_P] = floatBits(setting.minP ?? 0);
  words[ROW.REPETITION] = floatBits(setting.repetition ?? 1);
  words[ROW.PRESENCE] = floatBits(setting.presence ?? 0);
  words[ROW.FREQUENCY] = floatBits(setting.frequency ?? 0);
  words[ROW.FLAGS] =
    (setting.penalties ? ROW_FLAG.PENALTIES : 0) |
    (setting.topLogprobs === undefined ? 0 : ROW_FLAG.LOGPROBS) |
    (setting.allowedOnly ? ROW_FLAG.ALLOWED : 0) |
    (setting.grammar ? ROW_FLAG.GRAMMAR : 0);
  words[ROW.TOP_LOGPROBS] = setting.topLogprobs ?? 0;
  words[ROW.BIAS_COUNT] = setting.bias?.length ?? 0;
  words[ROW.STOP_COUNT] = setting.stopIds?.length ?? 0;
  words[ROW.EPOCH] = setting.epoch ?? 0;
  words.set(setting.stopIds ?? [], ROW.STOP_IDS);
  return words;
}

/** Grammars one behind the other, and what tokens are. */
export type DeviceGrammars = Omit<GrammarTables, 'grammarRows'>;

const NO_WORDS = new Uint32Array(1);
const NO_TEXTS = buildVocabulary(STATE.vocab, () => null, new Set());

export async function uploadGrammars(
  bench: Workbench,
  grammars: readonly Uint32Array[],
  vocabulary: Vocabulary,
): Promise<DeviceGrammars> {
  const pool = grammars.flatMap((words) => [...words]);
  return {
    grammarPool: await bench.uploadWords(pool.length === 0 ? NO_WORDS : pool),
    tokenSpans: await bench.uploadWords(vocabulary.spans),
    tokenHeads: await bench.uploadWords(vocabulary.heads),
    tokenBytes: await bench.uploadWords(vocabulary.bytes),
  };
}

/**
 * Everything that commands write, on the device: `rows` as set, page table and lists full of -1,
 * the rest zero.
 */
export interface DeviceRows extends DeviceGrammars {
  readonly targets: CommandTargets;
  readonly counts: Slice;
  readonly results: Slice;
}

export async function uploadRows(
  bench: Workbench,
  settings: readonly RowSetting[],
  counts: Int32Array = new Int32Array(STATE.maxRows * STATE.vocab),
  step = 0,
): Promise<DeviceRows> {
  expectThat(settings.length <= STATE.maxRows, `a state of ${settings.length} rows`);
  const rows = new Int32Array(STATE.maxRows * ROW_WORDS);
  const bias = new Int32Array(STATE.maxRows * MAX_BIAS * 2);
  settings.forEach((setting, row) => {
    rows.set(rowWords(setting), row * ROW_WORDS);
    const pairs = (setting.bias ?? []).flatMap(([token, value]) => [token, floatBits(value)]);
    bias.set(pairs, row * MAX_BIAS * 2);
  });
  const control = new Int32Array(CONTROL_WORDS);
  control[CONTROL.STEP] = step;
  const list = (length: number) => bench.uploadWords(new Int32Array(length).fill(-1));
  const targets: CommandTargets = {
    rows: await bench.uploadWords(rows),
    pageTable: await list(STATE.maxRows * STATE.pagesPerRow),
    bias: await bench.uploadWords(bias),
    decodeRows: await list(STATE.maxRows),
    tokens: await list(STATE.maxTokens),
    tokenRows: await list(STATE.maxTokens),
    positions: await list(STATE.maxTokens),
    select: await list(STATE.maxRows),
    selectRows: await list(STATE.maxRows),
    promptSelect: await list(STATE.maxRows),
    promptTargets: await list(STATE.maxRows),
    control: await bench.uploadWords(control),
    grammarRows: await list(STATE.maxRows * GRAMMAR_ROW_WORDS),
    history: await list(STATE.maxRows * STATE.historyTokens),
    windowTable: await list(STATE.maxRows * STATE.pagesPerRow),
  };
  return {
    targets,
    ...(await uploadGrammars(bench, [], NO_TEXTS)),
    counts: await bench.uploadWords(counts),
    results: await bench.poisoned(STATE.ringSlots * resultSlotWords(STATE.ringLines) * 4),
  };
}

/** Arguments of `advance` over `lineRows`, whose sampled tokens are in `sampled`. */
export function advanceArgs(
  state: DeviceRows,
  lineRows: Slice,
  sampled: Slice,
  count: number,
): OpArgs['advance'] {
  return {
    rows: state.targets.rows,
    control: state.targets.control,
    grammarRows: state.targets.grammarRows,
    grammarPool: state.grammarPool,
    tokenSpans: state.tokenSpans,
    tokenHeads: state.tokenHeads,
    tokenBytes: state.tokenBytes,
    counts: state.counts,
    results: state.results,
    lineRows,
    sampled,
    count,
    vocab: STATE.vocab,
    ringSlots: STATE.ringSlots,
    ringLines: STATE.ringLines,
  };
}
