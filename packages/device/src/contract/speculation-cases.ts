import { sampleUniform } from '../random.ts';
import {
  CONTROL,
  FINISH,
  MAX_BIAS,
  NO_TOKEN,
  RESULT_HEADER_WORDS,
  RESULT_WORDS,
  ROW,
  ROW_WORDS,
  resultSlotWords,
} from '../row-layout.ts';
import { type ContractCase, expectSame } from './case.ts';
import { advanceArgs, type RowSetting, rowWords, STATE, uploadRows } from './row-state.ts';
import { benchCase, type Workbench } from './workbench.ts';

const { vocab, maxRows, ringSlots, historyTokens } = STATE;

interface DraftSetting {
  readonly linesPerRow: number;
  readonly lookupMin: number;
  readonly lookupMax: number;
}

/** What is drafted behind `last`, by trying every length at every place, the best ones first. */
function referenceDrafts(
  history: readonly number[],
  { linesPerRow, lookupMin, lookupMax }: DraftSetting,
  room: number,
): number[] {
  const last = history.length - 1;
  for (let length = lookupMax; length >= lookupMin; length--) {
    const wanted = history.slice(history.length - length).join();
    for (let end = last - 1; end >= length - 1; end--) {
      if (history.slice(end - length + 1, end + 1).join() !== wanted) continue;
      const drafts: number[] = [];
      const text = [...history];
      while (drafts.length < Math.min(linesPerRow - 1, room)) {
        // What has been drafted goes on the text, and so comes again behind its end.
        drafts.push(text[end + 1 + drafts.length]!);
        text.push(drafts.at(-1)!);
      }
      return drafts;
    }
  }
  return [];
}

/** Rows with texts, -1 among them for none; what is drafted for them. */
async function checkDrafts(
  bench: Workbench,
  rows: readonly { readonly text: readonly number[]; readonly setting?: RowSetting }[],
  order: readonly number[],
  how: DraftSetting,
): Promise<void> {
  const settings = rows.map(({ text, setting }) => ({
    token: text.at(-1)!,
    position: text.length - 1,
    remaining: 30,
    ...setting,
  }));
  const { targets } = await uploadRows(bench, settings);
  const words = new Int32Array(maxRows * historyTokens).fill(1);
  rows.forEach(({ text }, row) => {
    // What a row's earlier occupant left stands behind its text.
    words.set(text, row * historyTokens);
  });
  const { linesPerRow } = how;
  const lines = order.length * linesPerRow;
  const out = {
    tokens: await bench.poisoned(lines * 4),
    tokenRows: await bench.poisoned(lines * 4),
    positions: await bench.poisoned(lines * 4),
  };
  bench.launch('draft', {
    rows: targets.rows,
    decodeRows: await bench.uploadWords(order),
    history: await bench.uploadWords(words),
    historyTokens,
    ...out,
    count: order.length,
    ...how,
  });
  const expected = { tokens: [] as number[], tokenRows: [] as number[], positions: [] as number[] };
  for (const row of order) {
    const { text = [], setting = {} } = rows[row] ?? {};
    const { active = true, remaining = 30, penalties, grammar, topLogprobs } = setting;
    const isActive = rows[row] !== undefined && active;
    const isFree = !penalties && !grammar && topLogprobs === undefined;
    const room = Math.max(0, Math.min(remaining - 1, historyTokens - text.length));
    const drafts = isFree ? referenceDrafts(text, how, room) : [];
    const own = isActive ? [text.at(-1)!, ...drafts] : [];
    for (let i = 0; i < linesPerRow; i++) {
      const isUsed = i < own.length;
      expected.tokens.push(isUsed ? own[i]! : 0);
      expected.tokenRows.push(isUsed ? row : -1);
      expected.positions.push(isUsed ? text.length - 1 + i : 0);
    }
  }
  const what = `of ${rows.map(({ text }) => text.length).join(', ')} tokens, ${how.lookupMin} to `;
  for (const name of ['tokenRows', 'tokens', 'positions'] as const) {
    const found = await bench.downloadWords(out[name]);
    expectSame(`${name} ${what}${how.lookupMax}`, found, expected[name]);
  }
}

const texts = (bench: Workbench, length: number, words: number) =>
  Array.from({ length }, () => bench.dice.integer(0, words - 1));

/** Rows that go through `accept`: what was drafted for each line, and what was sampled from it. */
interface AcceptedRow {
  readonly setting: RowSetting;
  readonly drafts: readonly number[];
  readonly sampled: readonly number[];
  /** Results: token and finish of each line. */
  readonly results: readonly (readonly [token: number, finish: number])[];
}

const { NONE, STOP, LENGTH, ERROR, REJECTED } = FINISH;
const WRONG = [NO_TOKEN, REJECTED] as const;

const ACCEPTED: readonly AcceptedRow[] = [
  // All are right, and the last line's token comes as well.
  {
    setting: { position: 7, generated: 2, remaining: 20, epoch: 70 },
    drafts: [11, 12],
    sampled: [11, 12, 13],
    results: [
      [11, NONE],
      [12, NONE],
      [13, NONE],
    ],
  },
  // The first is wrong; that the second would be right behind it says nothing.
  {
    setting: { position: 8, generated: 3, remaining: 9, epoch: 71, stopIds: [42] },
    drafts: [5, 6],
    sampled: [4, 6, 42],
    results: [[4, NONE], WRONG, WRONG],
  },
  // A stop id among them, and then what would have been right.
  {
    setting: { position: 9, generated: 4, remaining: 9, epoch: 72, stopIds: [42] },
    drafts: [42, 8],
    sampled: [42, 8, 9],
    results: [[42, STOP], WRONG, WRONG],
  },
  // The end of its tokens among them.
  {
    setting: { position: 3, generated: 1, remaining: 2, epoch: 73 },
    drafts: [1, 2],
    sampled: [1, 2, 3],
    results: [[1, NONE], [2, LENGTH], WRONG],
  },
  // Fewer drafts than there is room for, and nothing that could be sampled.
  {
    setting: { position: 4, generated: 1, remaining: 9, epoch: 74 },
    drafts: [1],
    sampled: [1, NO_TOKEN, 0],
    results: [
      [1, NONE],
      [NO_TOKEN, ERROR],
    ],
  },
];

export const speculationCases: readonly ContractCase[] = [
  benchCase('draft: what followed the last tokens before', 'no arithmetic', async (bench) => {
    const four = { linesPerRow: 5, lookupMin: 2, lookupMax: 4 };
    await checkDrafts(
      bench,
      [
        { text: [1, 2, 3, 9, 8, 7, 1, 2, 3] },
        // A later place with fewer tokens loses, and of two with as many the later one wins.
        { text: [1, 2, 3, 4, 5, 3, 4, 6, 2, 3, 4, 7, 9, 1, 2, 3, 4] },
        // Too few tokens.
        { text: [1, 2, 3, 4, 9, 4] },
        // What follows reaches the end, and goes on.
        { text: [3, 5, 6, 5, 6] },
        { text: [9, 9, 9], setting: { active: false } },
      ],
      [3, -1, 1, 4, 0, 2],
      four,
    );
    await checkDrafts(
      bench,
      [
        { text: [1, 2, 1, 2, 1, 2], setting: { remaining: 3 } },
        { text: [1, 2, 1, 2], setting: { penalties: true } },
        { text: [1, 2, 1, 2], setting: { topLogprobs: 0 } },
        { text: [1, 2, 1, 2], setting: { grammar: true } },
        { text: Array.from({ length: historyTokens - 2 }, (_, i) => i % 3) },
      ],
      [4, 0, 1, 2, 3],
      four,
    );
    for (const linesPerRow of [2, 4, 16]) {
      for (const [lookupMin, lookupMax] of [
        [1, 1],
        [1, 3],
        [3, 5],
        [2, 16],
      ] as const) {
        const rows = [1, 2, 5, 17, 36].map((length) => ({ text: texts(bench, length, 3) }));
        await checkDrafts(bench, rows, [4, 3, 2, 1, 0], { linesPerRow, lookupMin, lookupMax });
      }
    }
  }),
  benchCase('draft: a text of many tokens', 'no arithmetic', async (bench) => {
    const length = 20_011;
    const words = Int32Array.from(texts(bench, length, 1000));
    const last = length - 5000;
    // The only place of the last four tokens but the end of what counts.
    words.set([2000, 2001, 2002, 2003, 2004, 2005], 7001);
    words.set([2000, 2001, 2002, 2003], last - 3);
    const linesPerRow = 3;
    const { targets } = await uploadRows(bench, [{ token: 2003, position: last }]);
    const out = [0, 1, 2].map(() => bench.poisoned(linesPerRow * 4));
    const [tokens, tokenRows, positions] = await Promise.all(out);
    bench.launch('draft', {
      rows: targets.rows,
      decodeRows: await bench.uploadWords([0]),
      history: await bench.uploadWords(words),
      historyTokens: length,
      tokens: tokens!,
      tokenRows: tokenRows!,
      positions: positions!,
      count: 1,
      linesPerRow,
      lookupMin: 2,
      lookupMax: 4,
    });
    expectSame('drafts', await bench.downloadWords(tokens!), [2003, 2004, 2005]);
    expectSame('places', await bench.downloadWords(positions!), [last, last + 1, last + 2]);
  }),
  benchCase('accept: rows move on by what was drafted rightly', 'no arithmetic', async (bench) => {
    const linesPerRow = 3;
    const step = ringSlots + 1;
    const settings = ACCEPTED.map(({ setting }) => setting);
    const state = await uploadRows(bench, settings, undefined, step);
    const order = [3, 0, -1, 4, 2, 1];
    const lineRows: number[] = [];
    const tokens: number[] = [];
    const sampled: number[] = [];
    for (const row of order) {
      const accepted = ACCEPTED[row];
      const used = accepted === undefined ? 0 : 1 + accepted.drafts.length;
      for (let i = 0; i < linesPerRow; i++) {
        lineRows.push(i < used ? row : -1);
        tokens.push(i === 0 ? 90 : (accepted?.drafts[i - 1] ?? 91));
        sampled.push(accepted?.sampled[i] ?? 92);
      }
    }
    const before = new Int32Array(maxRows * historyTokens).fill(7);
    const history = await bench.uploadWords(before);
    const ringLines = lineRows.length + 2;
    const results = await bench.poisoned(ringSlots * resultSlotWords(ringLines) * 4);
    const rowsOfLines = await bench.uploadWords(lineRows);
    const all = advanceArgs(state, rowsOfLines, await bench.uploadWords(sampled), lineRows.length);
    bench.launch('accept', {
      ...all,
      tokens: await bench.uploadWords(tokens),
      history,
      historyTokens,
      linesPerRow,
      results,
      ringLines,
    });
    const expectedRows = new Int32Array(maxRows * ROW_WORDS);
    ACCEPTED.forEach(({ setting, results: lines }, row) => {
      const words = rowWords(setting);
      for (const [token, finish] of lines) {
        if (finish === REJECTED) continue;
        words[ROW.TOKEN] = token;
        words[ROW.POSITION]! += 1;
        words[ROW.GENERATED]! += 1;
        words[ROW.REMAINING]! -= 1;
        words[ROW.ACTIVE] = finish === NONE ? 1 : 0;
        before[row * historyTokens + words[ROW.POSITION]!] = token;
      }
      expectedRows.set(words, row * ROW_WORDS);
    });
    expectSame('rows', await bench.downloadWords(state.targets.rows), expectedRows);
    const taken = lineRows.map((row, i) => {
      const finish = row < 0 ? REJECTED : ACCEPTED[row]!.results[i % linesPerRow]![1];
      return finish === REJECTED ? -1 : row;
    });
    expectSame('rows of lines', await bench.downloadWords(rowsOfLines), taken);
    expectSame('history', await bench.downloadWords(history), before);
    const control = await bench.downloadWords(state.targets.control);
    expectSame('step', [control[CONTROL.STEP]!], [step + 1]);
    const slotWords = resultSlotWords(ringLines);
    const slot = (await bench.downloadWords(results)).subarray(slotWords, 2 * slotWords);
    expectSame('header', slot.subarray(0, 2), [step, lineRows.length]);
    lineRows.forEach((row, i) => {
      const start = RESULT_HEADER_WORDS + i * RESULT_WORDS;
      const result = slot.subarray(start, start + RESULT_WORDS);
      if (row < 0) {
        expectSame(`row of empty line ${i}`, [result[0]!], [-1]);
        return;
      }
      const { setting, results: lines } = ACCEPTED[row]!;
      const expected = [row, setting.epoch!, ...lines[i % linesPerRow]!];
      expectSame(`result of line ${i}`, result, expected);
    });
  }),
  benchCase('sample: a row has the numbers of its further lines', 'arithmetic', async (bench) => {
    const linesPerRow = 3;
    const rows = [1, 0];
    const minTokens = 7;
    const settings: RowSetting[] = [
      { temperature: 1, seed: [5, 6], generated: 9 },
      { seed: [7, 8], generated: 5, minTokens, stopIds: [3] },
    ];
    const { targets, counts } = await uploadRows(bench, settings);
    const lineRows = rows.flatMap((row) => Array(linesPerRow).fill(row));
    const count = lineRows.length;
    const sampled = await bench.poisoned(count * 4);
    // All are alike, or the stop id is the best where it may come.
    const logits = new Float32Array(count * vocab);
    lineRows.forEach((row, line) => {
      if (row === 1) logits[line * vocab + 3] = 2;
      if (row === 1) logits[line * vocab + 4] = 1;
    });
    bench.launch('sample', {
      rows: targets.rows,
      control: targets.control,
      bias: await bench.uploadWords(new Int32Array(maxRows * MAX_BIAS * 2)),
      counts,
      masks: await bench.uploadWords(new Int32Array(count * vocab)),
      sampled,
      logprobs: await bench.poisoned(16),
      count,
      linesPerRow,
      vocab,
      ringSlots: 1,
      ringLines: 0,
      lineRows: await bench.uploadWords(lineRows),
      logits: await bench.upload(logits, 'f32'),
    });
    const expected = lineRows.map((row, line) => {
      const generated = settings[row]!.generated! + (line % linesPerRow);
      if (row === 1) return generated < minTokens ? 4 : 3;
      return Math.floor(sampleUniform(5, 6, generated) * vocab);
    });
    expectSame('tokens', await bench.downloadWords(sampled), expected);
  }),
];
