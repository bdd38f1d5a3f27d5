import { CommandWriter } from '../command.ts';
import { targetList } from '../command-targets.ts';
import {
  CONTROL,
  COUNT_PROMPT,
  FINISH,
  NO_TOKEN,
  RESULT_HEADER_WORDS,
  RESULT_WORDS,
  ROW,
  ROW_WORDS,
  resultSlotWords,
  TARGET,
} from '../row-layout.ts';
import { type ContractCase, expectSame } from './case.ts';
import { advanceArgs, type RowSetting, rowWords, STATE, uploadRows } from './row-state.ts';
import { benchCase } from './workbench.ts';

const { vocab, maxRows, ringSlots, ringLines } = STATE;

export const rowCases: readonly ContractCase[] = [
  benchCase(
    'apply-command writes every target and nothing else',
    'no arithmetic',
    async (bench) => {
      const { targets, counts } = await uploadRows(bench, []);
      const slices = targetList(targets);
      const expected: Int32Array[] = [];
      for (const slice of slices) expected.push(await bench.downloadWords(slice));
      const words = new Int32Array(2048);
      const maxRecords = 2 * slices.length + 3;
      const writer = new CommandWriter(words, maxRecords);
      slices.forEach((slice, index) => {
        const length = slice.bytes / 4;
        const head = Array.from({ length: 2 }, () => bench.dice.integer(-5, 1000));
        writer.write(index as never, length - 2, head);
        expected[index]!.set(head, length - 2);
        const first = [bench.dice.integer(1, 1 << 30)];
        writer.write(index as never, 0, first);
        expected[index]!.set(first, 0);
      });
      const row = rowWords({ token: 5, temperature: 0.75, stopIds: [1, 2] });
      writer.write(TARGET.ROWS, 2 * ROW_WORDS, row);
      expected[TARGET.ROWS]!.set(row, 2 * ROW_WORDS);
      writer.finish();
      bench.launch('apply-command', {
        ...targets,
        command: await bench.uploadWords(words),
        counts,
        vocab,
        maxRecords,
      });
      for (const [index, slice] of slices.entries()) {
        expectSame(`target ${index}`, await bench.downloadWords(slice), expected[index]!);
      }
      const untouched = new Int32Array(maxRows * vocab);
      expectSame('counts', await bench.downloadWords(counts), untouched);
    },
  ),
  benchCase('apply-command restarts counts', 'no arithmetic', async (bench) => {
    const before = new Int32Array(maxRows * vocab).fill(7);
    const { targets, counts } = await uploadRows(bench, [], before);
    const words = new Int32Array(256);
    const writer = new CommandWriter(words, 4);
    writer.writeCounts(1, [3, 3, 9, 96], [9, 0, 0, 0]);
    writer.writeCounts(4, [], []);
    writer.finish();
    bench.launch('apply-command', {
      ...targets,
      command: await bench.uploadWords(words),
      counts,
      vocab,
      maxRecords: 4,
    });
    const expected = before.fill(0, vocab, 2 * vocab).fill(0, 4 * vocab);
    expected[vocab] = 3;
    expected[vocab + 3] = COUNT_PROMPT;
    expected[vocab + 9] = COUNT_PROMPT + 1;
    expected[vocab + 96] = COUNT_PROMPT;
    expectSame('counts', await bench.downloadWords(counts), expected);
  }),
  benchCase('begin-decode', 'no arithmetic', async (bench) => {
    const settings: RowSetting[] = [
      { token: 10, position: 100 },
      { token: 11, position: 101, active: false },
      { token: 12, position: 102 },
      { token: 13, position: 103 },
    ];
    const { targets } = await uploadRows(bench, settings);
    const decodeRows = await bench.uploadWords([3, 1, -1, 0, 2]);
    const count = 4;
    const out = {
      tokens: await bench.poisoned(count * 4),
      tokenRows: await bench.poisoned(count * 4),
      positions: await bench.poisoned(count * 4),
    };
    bench.launch('begin-decode', { rows: targets.rows, decodeRows, ...out, count });
    expectSame('rows', await bench.downloadWords(out.tokenRows), [3, -1, -1, 0]);
    const tokens = await bench.downloadWords(out.tokens);
    const positions = await bench.downloadWords(out.positions);
    expectSame('tokens of active rows', [tokens[0]!, tokens[3]!], [13, 10]);
    expectSame('positions of active rows', [positions[0]!, positions[3]!], [103, 100]);
  }),
  benchCase('advance moves rows on and ends them', 'no arithmetic', async (bench) => {
    const settings: RowSetting[] = [
      { position: 7, generated: 2, remaining: 9, epoch: 70, penalties: true, active: false },
      { position: 8, generated: 3, remaining: 9, epoch: 71, stopIds: [5, 42] },
      { position: 9, generated: 4, remaining: 1, epoch: 72, active: false },
      { position: 1, generated: 0, remaining: 1, epoch: 73, stopIds: [NO_TOKEN], penalties: true },
      { position: 2, generated: 1, remaining: 1, epoch: 74, stopIds: [42] },
    ];
    const step = ringSlots + 1;
    const state = await uploadRows(bench, settings, undefined, step);
    const lines = [4, -1, 0, 1, 3, 2];
    const sampled = [42, 77, 96, 42, NO_TOKEN, 2];
    const lineRows = await bench.uploadWords(lines);
    const tokens = await bench.uploadWords(sampled);
    bench.launch('advance', advanceArgs(state, lineRows, tokens, lines.length));
    const { NONE, STOP, LENGTH, ERROR } = FINISH;
    const finishOf = [NONE, STOP, LENGTH, ERROR, STOP];
    const expectedRows = new Int32Array(maxRows * ROW_WORDS);
    settings.forEach((setting, row) => {
      const words = rowWords(setting);
      words[ROW.TOKEN] = sampled[lines.indexOf(row)]!;
      words[ROW.POSITION]! += 1;
      words[ROW.GENERATED]! += 1;
      words[ROW.REMAINING]! -= 1;
      words[ROW.ACTIVE] = finishOf[row] === NONE ? 1 : 0;
      expectedRows.set(words, row * ROW_WORDS);
    });
    expectSame('rows', await bench.downloadWords(state.targets.rows), expectedRows);
    const control = await bench.downloadWords(state.targets.control);
    expectSame('step', [control[CONTROL.STEP]!], [step + 1]);
    const counts = new Int32Array(maxRows * vocab);
    counts[96] = 1;
    expectSame('counts', await bench.downloadWords(state.counts), counts);
    const slotWords = resultSlotWords(ringLines);
    const results = await bench.downloadWords(state.results);
    const slot = results.subarray(slotWords, 2 * slotWords);
    expectSame('header', slot.subarray(0, 2), [step, lines.length]);
    lines.forEach((row, i) => {
      const start = RESULT_HEADER_WORDS + i * RESULT_WORDS;
      const result = slot.subarray(start, start + RESULT_WORDS);
      const expected = [row, settings[row]?.epoch ?? 0, sampled[i]!, finishOf[row] ?? 0];
      if (row < 0) expectSame(`row of empty line ${i}`, [result[0]!], [-1]);
      else expectSame(`result of line ${i}`, result, expected);
    });
    const poison = new Int32Array(slotWords).fill(-1);
    expectSame('slot 0', results.subarray(0, slotWords), poison);
    expectSame('slot 2', results.subarray(2 * slotWords, 3 * slotWords), poison);
  }),
];
