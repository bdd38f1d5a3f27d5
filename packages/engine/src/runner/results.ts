import { invariant } from '@bridgekeeper/bridge';
import {
  FINISH,
  LOGPROB,
  LOGPROB_WORDS,
  RESULT,
  RESULT_HEADER,
  RESULT_HEADER_WORDS,
  RESULT_WORDS,
} from '@bridgekeeper/device';
import type { TokenLogprobs } from '../request/request.ts';
import type { DraftedRow, RowResult } from '../scheduler/plan.ts';

const FINISH_REASONS: Readonly<Record<number, RowResult['finish']>> = {
  [FINISH.STOP]: 'stop',
  [FINISH.LENGTH]: 'length',
  [FINISH.ERROR]: 'error',
};

/**
 * Appends the first `lines` results of the drained slot at word `slot` to `results`, without those
 * of drafts that were wrong. `logprobsOf`, where logprobs were drained, gives those of a line.
 */
export function readSlot(
  words: Int32Array,
  slot: number,
  step: number,
  lines: number,
  results: RowResult[],
  logprobsOf: ((line: number) => TokenLogprobs | undefined) | undefined,
): void {
  invariant(
    words[slot + RESULT_HEADER.STEP] === step && words[slot + RESULT_HEADER.LINES]! >= lines,
    `the result ring holds step ${words[slot + RESULT_HEADER.STEP]} where ${step} was drained`,
  );
  for (let line = 0; line < lines; line++) {
    const at = slot + RESULT_HEADER_WORDS + line * RESULT_WORDS;
    const row = words[at + RESULT.ROW]!;
    const finish = words[at + RESULT.FINISH]!;
    if (row < 0 || finish === FINISH.REJECTED) continue;
    results.push({
      row,
      epoch: words[at + RESULT.EPOCH]!,
      token: words[at + RESULT.TOKEN]!,
      finish: FINISH_REASONS[finish],
      logprobs: logprobsOf?.(line),
    });
  }
}

/** Appends what became of the drafts of a slot with `linesPerRow` lines for each of its rows. */
export function readDrafts(
  words: Int32Array,
  slot: number,
  rows: number,
  linesPerRow: number,
  drafted: DraftedRow[],
): void {
  for (let index = 0; index < rows; index++) {
    const first = slot + RESULT_HEADER_WORDS + index * linesPerRow * RESULT_WORDS;
    const row = words[first + RESULT.ROW]!;
    if (row < 0) continue;
    let drafts = 0;
    let accepted = 0;
    for (let line = 1; line < linesPerRow; line++) {
      const at = first + line * RESULT_WORDS;
      if (words[at + RESULT.ROW]! < 0) continue;
      drafts += 1;
      if (words[at + RESULT.FINISH] !== FINISH.REJECTED) accepted += 1;
    }
    drafted.push({ row, epoch: words[first + RESULT.EPOCH]!, drafts, accepted });
  }
}

/** Reads one logprob line with its `count` best alternatives. */
export function readLogprobs(words: Int32Array, line: number, count: number): TokenLogprobs {
  const at = line * LOGPROB_WORDS;
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  const top = Array.from({ length: count }, (_, index) => ({
    token: words[at + LOGPROB.IDS + index]!,
    logprob: floats[at + LOGPROB.LOGPROBS + index]!,
  }));
  return { logprob: floats[at + LOGPROB.LOGPROB]!, rank: words[at + LOGPROB.RANK]!, top };
}
