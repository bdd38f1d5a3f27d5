import { targetList } from '../../command-targets.ts';
import type { Slice } from '../../device.ts';
import { DeviceError } from '../../errors.ts';
import { GRAMMAR_ROW_WORDS, maskWords } from '../../grammar-layout.ts';
import type { GrammarTables, Histories, OpArgs } from '../../ops.ts';
import {
  COMMAND_HEADER_WORDS,
  LOGPROB_WORDS,
  MAX_BIAS,
  MAX_DRAFTS,
  MAX_LOOKUP,
  RECORD_WORDS,
  ROW_WORDS,
  resultSlotWords,
} from '../../row-layout.ts';
import type { Launcher } from '../launch/launcher.ts';
import type { ParameterBlock } from '../launch/parameters.ts';

const WORD = 4;
/** WARPS and PIECE_WORDS of grammar.cu: the least and the most words of a mask for one block. */
const MASK_WARPS = 8;
const MASK_PIECE_WORDS = 256;
/** Blocks of grammar_mask for each multiprocessor, over all lines: what it holds, twice. */
const MASK_BLOCKS = 16;
const THREADS = 256;
/** THREADS of select.cuh. */
const SAMPLE_THREADS = 1024;
/** Records take turns on this many blocks. */
const MAX_COMMAND_BLOCKS = 512;

const rowsIn = (rows: Slice) => Math.floor(rows.bytes / (ROW_WORDS * WORD));
const countRowsIn = (counts: Slice, vocab: number) => Math.floor(counts.bytes / (vocab * WORD));

export function launchApplyCommand(launcher: Launcher, args: OpArgs['apply-command']): void {
  const { command, counts, vocab } = args;
  const targets = targetList(args);
  const commandWords = Math.floor(command.bytes / WORD);
  const room = Math.floor((commandWords - COMMAND_HEADER_WORDS) / RECORD_WORDS);
  const maxRecords = Math.max(0, Math.min(args.maxRecords, room));
  const block = launcher.parameters
    .pointers(...targets.map((target) => launcher.address('a target of a command', target, 0)))
    .ints(...targets.map((target) => Math.floor(target.bytes / WORD)))
    .pointers(
      launcher.address('command', command, COMMAND_HEADER_WORDS * WORD),
      launcher.address('counts of apply-command', counts, 0),
    )
    .ints(commandWords, maxRecords, countRowsIn(counts, vocab), vocab);
  const blocks = Math.min(maxRecords, MAX_COMMAND_BLOCKS);
  launcher.launch('apply_command', { grid: [blocks], threads: THREADS }, block);
}

export function launchBeginDecode(launcher: Launcher, args: OpArgs['begin-decode']): void {
  const { count } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('rows of begin-decode', args.rows, 0),
      launcher.address('decodeRows of begin-decode', args.decodeRows, count * WORD),
      launcher.address('tokens of begin-decode', args.tokens, count * WORD),
      launcher.address('tokenRows of begin-decode', args.tokenRows, count * WORD),
      launcher.address('positions of begin-decode', args.positions, count * WORD),
    )
    .ints(rowsIn(args.rows), count);
  launcher.launch('begin_decode', { grid: [Math.ceil(count / THREADS)], threads: THREADS }, block);
}

/** Threads of draft.cu. */
const DRAFT_THREADS = 1024;

const historyRowsIn = ({ history, historyTokens }: Histories) =>
  historyTokens === 0 ? 0 : Math.floor(history.bytes / (historyTokens * WORD));

export function launchDraft(launcher: Launcher, args: OpArgs['draft']): void {
  const { count, linesPerRow, historyTokens, lookupMin, lookupMax } = args;
  if (linesPerRow < 1 || linesPerRow > 1 + MAX_DRAFTS || lookupMax > MAX_LOOKUP) {
    const most = `at most ${MAX_DRAFTS} drafts by ${MAX_LOOKUP} tokens`;
    throw new DeviceError('bad-argument', `${linesPerRow - 1} by ${lookupMax}: ${most}`);
  }
  const bytes = count * linesPerRow * WORD;
  const block = launcher.parameters
    .pointers(
      launcher.address('rows of draft', args.rows, 0),
      launcher.address('decodeRows of draft', args.decodeRows, count * WORD),
      launcher.address('history of draft', args.history, 0),
      launcher.address('tokens of draft', args.tokens, bytes),
      launcher.address('tokenRows of draft', args.tokenRows, bytes),
      launcher.address('positions of draft', args.positions, bytes),
    )
    .ints(rowsIn(args.rows), historyRowsIn(args), historyTokens, linesPerRow, lookupMin, lookupMax);
  launcher.launch('draft', { grid: [count], threads: DRAFT_THREADS }, block);
}

export function launchAdvance(launcher: Launcher, args: OpArgs['advance']): void {
  const start = advancePointers(launcher, args);
  const block = grammarTables(launcher, start, args).ints(...advanceInts(args));
  launcher.launch('advance', { grid: [1], threads: THREADS }, block);
}

export function launchAccept(launcher: Launcher, args: OpArgs['accept']): void {
  const { count, linesPerRow, historyTokens } = args;
  const start = advancePointers(launcher, args).pointers(
    launcher.address('tokens of accept', args.tokens, count * WORD),
    launcher.address('history of accept', args.history, 0),
  );
  const block = grammarTables(launcher, start, args)
    .ints(...advanceInts(args))
    .ints(linesPerRow, historyTokens, historyRowsIn(args));
  launcher.launch('accept', { grid: [1], threads: THREADS }, block);
}

function advancePointers(
  launcher: Launcher,
  args: OpArgs['advance'] | OpArgs['accept'],
): ParameterBlock {
  const { count, ringSlots, ringLines } = args;
  const ringBytes = ringSlots * resultSlotWords(ringLines) * WORD;
  return launcher.parameters.pointers(
    launcher.address('rows of advance', args.rows, 0),
    launcher.address('control of advance', args.control, WORD),
    launcher.address('lineRows of advance', args.lineRows, count * WORD),
    launcher.address('sampled of advance', args.sampled, count * WORD),
    launcher.address('counts of advance', args.counts, 0),
    launcher.address('results of advance', args.results, ringBytes),
  );
}

function advanceInts(args: OpArgs['advance'] | OpArgs['accept']): number[] {
  const { count, vocab, ringSlots, ringLines } = args;
  const countRows = countRowsIn(args.counts, vocab);
  return [rowsIn(args.rows), countRows, count, vocab, ringSlots, ringLines];
}

/** grammarRows, and the GrammarTables of grammar.cuh. */
function grammarTables(
  launcher: Launcher,
  block: ParameterBlock,
  { rows, vocab, ...tables }: GrammarTables & { readonly rows: Slice; readonly vocab: number },
): ParameterBlock {
  const { grammarRows, grammarPool, tokenSpans, tokenHeads, tokenBytes } = tables;
  const placeBytes = rowsIn(rows) * GRAMMAR_ROW_WORDS * WORD;
  return block
    .pointers(
      launcher.address('grammarRows', grammarRows, placeBytes),
      launcher.address('grammarPool', grammarPool, 0),
      launcher.address('tokenSpans', tokenSpans, vocab * WORD),
      launcher.address('tokenHeads', tokenHeads, vocab * WORD),
      launcher.address('tokenBytes', tokenBytes, 0),
    )
    .ints(Math.floor(grammarPool.bytes / WORD), Math.floor(tokenBytes.bytes / WORD));
}

export function launchGrammarMask(launcher: Launcher, args: OpArgs['grammar-mask']): void {
  const { count, vocab } = args;
  const words = maskWords(vocab);
  const start = launcher.parameters.pointers(
    launcher.address('rows of grammar-mask', args.rows, 0),
    launcher.address('lineRows of grammar-mask', args.lineRows, count * WORD),
  );
  const block = grammarTables(launcher, start, args)
    .pointers(launcher.address('masks of grammar-mask', args.masks, count * words * WORD))
    .ints(rowsIn(args.rows), vocab);
  const wanted = Math.ceil((launcher.core.gpu.multiprocessors * MASK_BLOCKS) / count);
  const most = Math.ceil(words / MASK_WARPS);
  const pieces = Math.max(Math.min(wanted, most), Math.ceil(words / MASK_PIECE_WORDS));
  launcher.launch('grammar_mask', { grid: [pieces, count], threads: THREADS }, block);
}

export function launchSample(launcher: Launcher, args: OpArgs['sample']): void {
  const { count, vocab, ringSlots, ringLines } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('rows of sample', args.rows, 0),
      launcher.address('control of sample', args.control, WORD),
      launcher.address('lineRows of sample', args.lineRows, count * WORD),
      launcher.address('logits of sample', args.logits, count * vocab * WORD),
      launcher.address('counts of sample', args.counts, 0),
      launcher.address('bias of sample', args.bias, rowsIn(args.rows) * MAX_BIAS * 2 * WORD),
      launcher.address('masks of sample', args.masks, count * maskWords(vocab) * WORD),
      launcher.address('sampled of sample', args.sampled, count * WORD),
      launcher.address(
        'logprobs of sample',
        args.logprobs,
        ringSlots * ringLines * LOGPROB_WORDS * WORD,
      ),
    )
    .ints(rowsIn(args.rows), countRowsIn(args.counts, vocab), vocab, ringSlots, ringLines)
    .ints(args.linesPerRow);
  launcher.launch('sample', { grid: [count], threads: SAMPLE_THREADS }, block);
}

export function launchPromptLogprobs(launcher: Launcher, args: OpArgs['prompt-logprobs']): void {
  const { count, vocab } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('logits of prompt-logprobs', args.logits, count * vocab * WORD),
      launcher.address('targets of prompt-logprobs', args.targets, count * WORD),
      launcher.address('out of prompt-logprobs', args.out, count * LOGPROB_WORDS * WORD),
    )
    .ints(vocab);
  launcher.launch('prompt_logprobs', { grid: [count], threads: SAMPLE_THREADS }, block);
}
