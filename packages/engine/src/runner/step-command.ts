import {
  type CommandWriter,
  GRAMMAR_ROW,
  GRAMMAR_ROW_WORDS,
  grammarPlace,
  grammarRowLength,
  MAX_BIAS,
  TARGET,
  type Vocabulary,
} from '@bridgekeeper/device';
import { encodeBias, encodeRow, usesPenalties } from '../request/sampling.ts';
import type { StepPlan } from '../scheduler/plan.ts';
import type { Sequence } from '../scheduler/sequence.ts';
import type { ForwardParts } from './forward.ts';
import { historyTokens, pagesPerRow } from './shapes.ts';

const BIAS_WORDS = MAX_BIAS * 2;

/** A line whose logits say how likely a token is that is not sampled, or that is pooled. */
export interface PromptLine {
  /** Which of the plan's prefill chunks it belongs to. */
  readonly chunk: number;
  readonly batchIndex: number;
  readonly target: number;
}

const NO_LINES: readonly PromptLine[] = [];

/** The plan's lines of that kind, in batch order. */
export function promptLines(plan: StepPlan): readonly PromptLine[] {
  if (plan.prefill.length === 0) return NO_LINES;
  const lines: PromptLine[] = [];
  let offset = 0;
  plan.prefill.forEach(({ sequence, start, length, last }, chunk) => {
    const { pooling, sampling } = sequence.request;
    if (pooling !== undefined) {
      // What it is pooled from: an embedding's line has no target that is read.
      const targets = pooling.task === 'score' ? pooling.tokens : [0];
      const batchIndex = offset + length - 1;
      if (last) for (const target of targets) lines.push({ chunk, batchIndex, target });
    } else if (sampling.promptLogprobs !== undefined) {
      const end = Math.min(start + length, sequence.promptLength - 1);
      const targets = sequence.tokens(start + 1, end + 1);
      targets.forEach((target, index) => {
        lines.push({ chunk, batchIndex: offset + index, target });
      });
    }
    offset += length;
  });
  return lines;
}

/**
 * Writes everything the device must be told before `plan` can run: the one packed command of a
 * step. Its prompts have `promptCount` lines, of which those behind its tokens are of no row.
 */
export function writeStepCommand(
  writer: CommandWriter,
  plan: StepPlan,
  { shape, vocabulary }: Pick<ForwardParts, 'shape' | 'vocabulary'>,
  lines: readonly PromptLine[],
  promptCount: number,
  decodeRows: Int32Array | undefined,
): void {
  for (const { sequence, first, count, isWindow } of plan.pageWrites) {
    const target = isWindow ? TARGET.WINDOW_TABLE : TARGET.PAGE_TABLE;
    const pages = isWindow ? sequence.window.pages : sequence.pages;
    const offset = sequence.row * pagesPerRow(shape) + first;
    writer.write(target, offset, pages.slice(first, first + count));
  }
  if (plan.prefill.length > 0) {
    writeBatch(writer, plan, promptCount, vocabulary);
    if (shape.speculation !== null) writeHistories(writer, plan, historyTokens(shape));
  }
  if (lines.length > 0) {
    writer.write(
      TARGET.PROMPT_SELECT,
      0,
      lines.map((line) => line.batchIndex),
    );
    writer.write(
      TARGET.PROMPT_TARGETS,
      0,
      lines.map((line) => line.target),
    );
  }
  if (decodeRows !== undefined) writer.write(TARGET.DECODE_ROWS, 0, decodeRows);
}

/** The prompts' lines, `count` of them with those of no row behind. */
function writeBatch(
  writer: CommandWriter,
  plan: StepPlan,
  count: number,
  vocabulary: Vocabulary | null,
): void {
  const tokens = writer.room(TARGET.TOKENS, 0, count);
  const rows = writer.room(TARGET.TOKEN_ROWS, 0, count);
  const positions = writer.room(TARGET.POSITIONS, 0, count);
  const select: number[] = [];
  const selectRows: number[] = [];
  let offset = 0;
  for (const { sequence, start, length, last } of plan.prefill) {
    tokens.set(sequence.tokens(start, start + length), offset);
    rows.fill(sequence.row, offset, offset + length);
    for (let index = 0; index < length; index++) positions[offset + index] = start + index;
    offset += length;
    if (!last || sequence.request.pooling !== undefined) continue;
    select.push(offset - 1);
    selectRows.push(sequence.row);
    writeRow(writer, sequence);
    if (vocabulary !== null) writeGrammarRow(writer, sequence, vocabulary);
  }
  tokens.fill(0, offset);
  rows.fill(-1, offset);
  positions.fill(0, offset);
  if (select.length === 0) return;
  writer.write(TARGET.SELECT, 0, select);
  writer.write(TARGET.SELECT_ROWS, 0, selectRows);
}

/** What rows have said until they begin to decode, by which they draft. */
function writeHistories(writer: CommandWriter, plan: StepPlan, perRow: number): void {
  for (const { sequence, last } of plan.prefill) {
    if (!last || sequence.request.pooling !== undefined) continue;
    writer.write(TARGET.HISTORY, sequence.row * perRow, sequence.tokens());
  }
}

/** The row's state as of its prompt's last token; sampling it makes the row active. */
function writeRow(writer: CommandWriter, sequence: Sequence): void {
  const { sampling } = sequence.request;
  const row = encodeRow(sampling, {
    token: 0,
    position: sequence.length - 1,
    generated: sequence.generated,
    remaining: sampling.maxTokens - sequence.generated,
    seed: sequence.seed,
    epoch: sequence.epoch,
    hasGrammar: sequence.request.grammar !== undefined,
  });
  writer.write(TARGET.ROWS, sequence.row * row.length, row);
  const bias = encodeBias(sampling);
  if (bias.length > 0) writer.write(TARGET.BIAS, sequence.row * BIAS_WORDS, bias);
  if (usesPenalties(sampling)) {
    const prompt = sequence.tokens(0, sequence.promptLength);
    writer.writeCounts(sequence.row, prompt, sequence.tokens(sequence.promptLength));
  }
}

/** Where the row is in its grammar: behind the tokens that were sampled in an earlier row. */
function writeGrammarRow(writer: CommandWriter, sequence: Sequence, vocabulary: Vocabulary): void {
  const { grammar, thinkingBudget = -1 } = sequence.request;
  if (grammar === undefined) return;
  const sampled = sequence.tokens(sequence.promptLength);
  const place = grammarPlace(grammar.words, vocabulary, thinkingBudget, sampled);
  place[GRAMMAR_ROW.GRAMMAR] = sequence.grammarOffset;
  const used = place.subarray(0, grammarRowLength(place));
  writer.write(TARGET.GRAMMAR_ROWS, sequence.row * GRAMMAR_ROW_WORDS, used);
}
