import { maskWords } from '../grammar-layout.ts';
import {
  COUNT_PROMPT,
  LOGPROB,
  LOGPROB_WORDS,
  MAX_BIAS,
  MAX_TOP_LOGPROBS,
  NO_TOKEN,
  ROW_WORDS,
} from '../row-layout.ts';
import { type ContractCase, expectClose, expectSame, expectThat } from './case.ts';
import { filled } from './filled.ts';
import { isDelicate, referenceLogprobs, referenceSample } from './reference-sampling.ts';
import { type RowSetting, rowWords, STATE, uploadRows } from './row-state.ts';
import { benchCase, bytesOf, type Dice, type Workbench } from './workbench.ts';

const { vocab, maxRows, ringSlots, ringLines } = STATE;

interface Sampled {
  readonly tokens: Int32Array;
  /** Logprob line i as words and as floats. */
  line(i: number): { words: Int32Array; floats: Float32Array };
}

/** Samples line i of `logits` for row i. */
async function sampleRows(
  bench: Workbench,
  logits: Float32Array,
  settings: readonly RowSetting[],
  counts?: Int32Array<ArrayBuffer>,
  step = 0,
  masks = new Int32Array(maxRows * maskWords(vocab)),
  lines: number = ringLines,
): Promise<Sampled> {
  const { targets, counts: deviceCounts } = await uploadRows(bench, settings, counts, step);
  const count = settings.length;
  const sampled = await bench.poisoned(count * 4);
  const logprobs = await bench.poisoned(ringSlots * ringLines * LOGPROB_WORDS * 4);
  bench.launch('sample', {
    rows: targets.rows,
    control: targets.control,
    bias: targets.bias,
    counts: deviceCounts,
    masks: await bench.uploadWords(masks),
    sampled,
    logprobs,
    count,
    linesPerRow: 1,
    vocab,
    ringSlots,
    ringLines: lines,
    lineRows: await bench.uploadWords(settings.map((_, row) => row)),
    logits: await bench.upload(logits, 'f32'),
  });
  const tokens = await bench.downloadWords(sampled);
  const words = await bench.downloadWords(logprobs);
  const slotStart = (step % ringSlots) * lines;
  return {
    tokens,
    line: (i) => {
      const start = (slotStart + i) * LOGPROB_WORDS;
      const line = words.subarray(start, start + LOGPROB_WORDS);
      return { words: line, floats: new Float32Array(line.buffer, line.byteOffset, line.length) };
    },
  };
}

/**
 * Random rows drawn from `setting`, avoiding those on which float32 and float64 may rightly differ.
 */
async function checkAgainstReference(
  bench: Workbench,
  what: string,
  setting: (dice: Dice) => RowSetting,
  counts: Int32Array<ArrayBuffer> = new Int32Array(maxRows * vocab),
  logitsOf = (dice: Dice): Float32Array => dice.values(vocab, 6),
): Promise<void> {
  for (let round = 0; round < 6; round++) {
    const settings: RowSetting[] = [];
    const logits = new Float32Array(maxRows * vocab);
    while (settings.length < maxRows) {
      const line = logitsOf(bench.dice);
      const seed = [
        bench.dice.integer(0, 2 ** 31 - 1),
        bench.dice.integer(0, 2 ** 31 - 1),
      ] as const;
      const row = { seed, generated: bench.dice.integer(0, 1000), ...setting(bench.dice) };
      const start = settings.length * vocab;
      if (isDelicate(line, row, counts.subarray(start, start + vocab))) continue;
      logits.set(line, start);
      settings.push(row);
    }
    const { tokens } = await sampleRows(bench, logits, settings, counts);
    const expected = settings.map((row, i) => {
      const [start, end] = [i * vocab, (i + 1) * vocab];
      return referenceSample(logits.subarray(start, end), row, counts.subarray(start, end));
    });
    expectSame(`${what}, round ${round}`, tokens, expected);
  }
}

/** Counts in which a third of the tokens occur in the prompt, and a third were sampled. */
function randomCounts(dice: Dice): Int32Array<ArrayBuffer> {
  return Int32Array.from({ length: maxRows * vocab }, () => {
    const sampled = dice.integer(0, 2) === 0 ? dice.integer(1, 4) : 0;
    return sampled | (dice.integer(0, 2) === 0 ? COUNT_PROMPT : 0);
  });
}

const FILTERS: readonly (readonly [string, (dice: Dice) => RowSetting])[] = [
  ['greedy', () => ({})],
  ['temperature', (dice) => ({ temperature: 0.3 + 2 * dice.uniform() })],
  ['top-k', (dice) => ({ temperature: 1.5, topK: dice.integer(1, 12) })],
  ['top-k beyond the vocabulary', () => ({ temperature: 1, topK: vocab + 5 })],
  ['top-p', (dice) => ({ temperature: 1.5, topP: 0.05 + 0.9 * dice.uniform() })],
  ['min-p', (dice) => ({ temperature: 2, minP: 0.01 + 0.5 * dice.uniform() })],
  [
    'all filters together',
    (dice) => ({ temperature: 2, topK: dice.integer(3, 20), topP: 0.8, minP: 0.02 }),
  ],
];

/** A table of many rows, one draw of each. */
async function drawMany(bench: Workbench, line: Float32Array, rows: number): Promise<Int32Array> {
  const width = line.length;
  const words = new Int32Array(rows * ROW_WORDS);
  const logits = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    words.set(rowWords({ temperature: 1, seed: [row, 17], generated: row % 7 }), row * ROW_WORDS);
    logits.set(line, row * width);
  }
  const { targets, counts } = await uploadRows(bench, []);
  const sampled = await bench.poisoned(rows * 4);
  bench.launch('sample', {
    rows: await bench.uploadWords(words),
    control: targets.control,
    counts,
    bias: await bench.uploadWords(new Int32Array(rows * MAX_BIAS * 2)),
    masks: await bench.uploadWords(new Int32Array(rows * maskWords(width))),
    lineRows: await bench.uploadWords(Array.from({ length: rows }, (_, row) => row)),
    logits: await bench.uploadBytes(bytesOf(logits)),
    logprobs: await bench.poisoned(rows * LOGPROB_WORDS * 4),
    sampled,
    count: rows,
    linesPerRow: 1,
    vocab: width,
    ringSlots: 1,
    ringLines: rows,
  });
  return bench.downloadWords(sampled);
}

/** Checks a logprob line of `token` against float64. */
function expectLogprobs(
  what: string,
  { words, floats }: { words: Int32Array; floats: Float32Array },
  logits: Float32Array,
  token: number,
  top: number,
): void {
  const { logprobs, order } = referenceLogprobs(logits);
  const best = order.slice(0, top);
  const ids = words.subarray(LOGPROB.IDS, LOGPROB.IDS + top);
  const others = words.subarray(LOGPROB.IDS + top, LOGPROB.IDS + MAX_TOP_LOGPROBS);
  expectThat(
    others.every((word) => word === -1),
    `${what} has more alternatives than ${top}`,
  );
  expectSame(`rank of ${what}`, [words[LOGPROB.RANK]!], [order.indexOf(token) + 1]);
  expectSame(`alternatives of ${what}`, ids, best);
  expectClose(
    `logprobs of ${what}`,
    [floats[LOGPROB.LOGPROB]!, ...floats.subarray(LOGPROB.LOGPROBS, LOGPROB.LOGPROBS + top)],
    [logprobs[token]!, ...best.map((id) => logprobs[id]!)],
    1e-5,
  );
}

export const samplingCases: readonly ContractCase[] = [
  ...FILTERS.map(([name, setting]) =>
    benchCase(`sample: ${name}`, 'arithmetic', (bench) =>
      checkAgainstReference(bench, name, setting),
    ),
  ),
  benchCase('sample: penalties', 'arithmetic', async (bench) => {
    const penalties = (dice: Dice): RowSetting => ({
      penalties: true,
      repetition: 0.7 + dice.uniform(),
      presence: 2 * dice.uniform() - 1,
      frequency: 2 * dice.uniform() - 1,
      temperature: dice.integer(0, 1),
    });
    await checkAgainstReference(bench, 'penalties', penalties, randomCounts(bench.dice));
    const off = (dice: Dice) => ({ ...penalties(dice), penalties: false });
    await checkAgainstReference(bench, 'penalties off', off, randomCounts(bench.dice));
    // Greedy, so that what is best depends on how the best are penalised.
    const greedy = (dice: Dice) => ({ ...penalties(dice), temperature: 0 });
    const [small, negative] = [0, -8].map((shift) => {
      return (dice: Dice) => dice.values(vocab).map((value) => value + shift);
    });
    const counts = randomCounts(bench.dice);
    await checkAgainstReference(bench, 'penalties of small logits', greedy, counts, small);
    await checkAgainstReference(bench, 'penalties of negative logits', greedy, counts, negative);
  }),
  benchCase('sample: logits whose exponentials are beyond all numbers', 'arithmetic', (bench) =>
    checkAgainstReference(
      bench,
      'large logits',
      (dice) => ({ temperature: 0.5 + dice.uniform(), topP: 0.9 }),
      undefined,
      (dice) => dice.values(vocab, 6).map((value) => value + 1000),
    ),
  ),
  benchCase('sample: bias', 'arithmetic', (bench) =>
    checkAgainstReference(bench, 'bias', (dice) => ({
      temperature: dice.integer(0, 1),
      bias: dice
        .permutation(vocab)
        .slice(0, 9)
        .map((token) => [token, 20 * dice.uniform() - 10]),
    })),
  ),
  benchCase('sample: tokens with a bias of minus infinity are never drawn', 'arithmetic', (bench) =>
    checkAgainstReference(bench, 'banned', (dice) => ({
      temperature: dice.integer(0, 2),
      topK: dice.integer(0, 20),
      bias: dice
        .permutation(vocab)
        .slice(0, 80)
        .map((token) => [token, Number.NEGATIVE_INFINITY]),
    })),
  ),
  benchCase('sample: where only some tokens are allowed', 'arithmetic', (bench) =>
    checkAgainstReference(
      bench,
      'allowed',
      (dice) => ({
        temperature: dice.integer(0, 2),
        topK: dice.integer(0, 20),
        topP: 0.5 + 0.5 * dice.uniform(),
        penalties: dice.integer(0, 1) === 1,
        repetition: 1.3,
        allowedOnly: true,
        bias: dice
          .permutation(vocab)
          .slice(0, dice.integer(1, 12))
          .map((token) => [token, dice.integer(0, 1) * (20 * dice.uniform() - 10)]),
      }),
      randomCounts(bench.dice),
    ),
  ),
  benchCase('sample: where a grammar admits some tokens', 'arithmetic', async (bench) => {
    const { dice } = bench;
    const words = maskWords(vocab);
    for (let round = 0; round < 8; round++) {
      const logits = dice.values(maxRows * vocab, 6);
      const masks = Int32Array.from(
        { length: maxRows * words },
        () => dice.integer(0, 2 ** 31) | 0,
      );
      // The last line admits nothing.
      masks.fill(0, (maxRows - 1) * words);
      const rows = Array.from({ length: maxRows }, (_, row): RowSetting => {
        const seed = [dice.integer(0, 1000), round] as const;
        const temperature = dice.integer(0, 2);
        const topK = dice.integer(0, 5);
        return { seed, temperature, topK, bias: [[row, 9]], grammar: row !== 0, topLogprobs: 3 };
      });
      const masked = logits.map((logit, i) => {
        const [row, token] = [Math.floor(i / vocab), i % vocab];
        const isAdmitted = (masks[row * words + (token >> 5)]! >> (token & 31)) & 1;
        return row === 0 || isAdmitted ? logit : Number.NEGATIVE_INFINITY;
      });
      const lineOf = (of: Float32Array, row: number) => of.subarray(row * vocab, (row + 1) * vocab);
      const counts = new Int32Array(vocab);
      const last = maxRows - 1;
      if (rows.some((row, i) => i < last && isDelicate(lineOf(masked, i), row, counts))) continue;
      const { tokens, line } = await sampleRows(bench, logits, rows, undefined, 0, masks);
      const expected = rows.map((row, i) =>
        i === last ? NO_TOKEN : referenceSample(lineOf(masked, i), row, counts),
      );
      expectSame(`tokens of round ${round}`, tokens, expected);
      // Logprobs are those of the logits as they are.
      expectLogprobs('line 1', line(1), lineOf(logits, 1), tokens[1]!, 3);
    }
  }),
  benchCase('sample: a bias of every token', 'arithmetic', async (bench) => {
    const order = bench.dice.permutation(vocab);
    const bias = order.map((token, i) => [token, i] as const);
    const first = { allowedOnly: true, bias: [[0, -1]] as const };
    const logits = new Float32Array(2 * vocab);
    const { tokens } = await sampleRows(bench, logits, [{ bias }, first]);
    expectSame('the tokens of the largest bias, and allowed', tokens, [order[vocab - 1]!, 0]);
  }),
  benchCase(
    'sample: stop ids are masked below the minimum of tokens',
    'arithmetic',
    async (bench) => {
      const logits = bench.dice.values(4 * vocab);
      for (let row = 0; row < 3; row++) logits.fill(9, row * vocab + 5, row * vocab + 7);
      logits[3 * vocab] = 9;
      const stopIds = [6, 5];
      const { tokens } = await sampleRows(bench, logits, [
        { stopIds, minTokens: 4, generated: 3 },
        { stopIds, minTokens: 4, generated: 4 },
        { stopIds: [5], minTokens: 4, generated: 0 },
        { stopIds: [0], minTokens: 4, generated: 0 },
      ]);
      const bestBut = (row: number, from: number, to: number) => {
        const masked = logits.slice(row * vocab, (row + 1) * vocab).fill(-1, from, to);
        return masked.indexOf(Math.max(...masked));
      };
      expectSame('tokens', tokens, [bestBut(0, 5, 7), 5, 6, bestBut(3, 0, 1)]);
    },
  ),
  benchCase(
    'sample: greedy takes the lowest of the best, filters keep ties',
    'arithmetic',
    async (bench) => {
      const logits = new Float32Array(2 * vocab).fill(-4);
      for (const token of [90, 11, 40]) logits[token] = 3;
      for (const token of [90, 11, 40]) logits[vocab + token] = 3;
      const { tokens } = await sampleRows(bench, logits, [{}, { temperature: 0.01, topK: 1 }]);
      expectSame('greedy', [tokens[0]!], [11]);
      const seen = new Set<number>();
      for (let generated = 0; generated < 40; generated++) {
        const row = { temperature: 1, seed: [1, 2] as const, generated };
        const drawn = await sampleRows(bench, logits, [
          { ...row, topK: 1 },
          { ...row, topP: 0.1 },
        ]);
        for (const token of drawn.tokens) seen.add(token);
      }
      expectSame(
        'tokens tied with the last one kept',
        [...seen].sort((a, b) => a - b),
        [11, 40, 90],
      );
    },
  ),
  benchCase('sample: a draw depends on seed and count alone', 'arithmetic', async (bench) => {
    const line = bench.dice.values(vocab, 0.1);
    const row = { temperature: 1, seed: [123, 456] as const };
    const logits = new Float32Array(maxRows * vocab);
    for (let i = 0; i < maxRows; i++) logits.set(line, i * vocab);
    const alone = await sampleRows(bench, line, [{ ...row, generated: 9 }]);
    const among = await sampleRows(
      bench,
      logits,
      [9, 8, 9, 9, 10].map((generated, i) => ({
        ...row,
        generated,
        seed: [123, i === 3 ? 457 : 456],
      })),
    );
    expectSame(
      'the same draw',
      [among.tokens[0]!, among.tokens[2]!],
      [alone.tokens[0]!, alone.tokens[0]!],
    );
    expectThat(new Set(among.tokens).size > 1, 'draws of other counts and seeds are all the same');
  }),
  benchCase('sample: draws follow the distribution', 'arithmetic', async (bench) => {
    const draws = 2000;
    const line = filled(new Float32Array(16), (token) => Math.log(1 + (token % 5)));
    const tokens = await drawMany(bench, line, draws);
    const total = line.reduce((sum, logit) => sum + Math.exp(logit), 0);
    let chiSquare = 0;
    line.forEach((logit, token) => {
      const expected = (draws * Math.exp(logit)) / total;
      const seen = tokens.filter((drawn) => drawn === token).length;
      chiSquare += (seen - expected) ** 2 / expected;
    });
    // One in a thousand fair samplers exceeds this with 15 degrees of freedom; the seeds are fixed.
    expectThat(chiSquare < 37.7, `chi-square of ${draws} draws is ${chiSquare.toFixed(1)}`);
  }),
  benchCase(
    'sample: no token where no logit is above minus infinity',
    'arithmetic',
    async (bench) => {
      const logits = new Float32Array(4 * vocab).fill(Number.NEGATIVE_INFINITY);
      logits.fill(Number.NaN, vocab, 3 * vocab);
      const rows = [
        { temperature: 1 },
        { temperature: 1, topP: 0.5, topK: 3, topLogprobs: 2 },
        { temperature: 0, bias: [[3, 100]] as const },
        { temperature: 0 },
      ];
      const { tokens, line } = await sampleRows(bench, logits, rows);
      expectSame('tokens', tokens, Int32Array.of(NO_TOKEN, NO_TOKEN, NO_TOKEN, NO_TOKEN));
      expectSame('logprobs of none', line(1).words, new Int32Array(LOGPROB_WORDS).fill(-1));
    },
  ),
  benchCase('sample: the one token that is possible', 'arithmetic', async (bench) => {
    const logits = new Float32Array(3 * vocab).fill(Number.NaN);
    logits[7] = -3;
    logits.fill(Number.NEGATIVE_INFINITY, vocab, 3 * vocab);
    logits[vocab + 5] = Number.POSITIVE_INFINITY;
    for (const token of [6, 9]) logits[2 * vocab + token] = Number.POSITIVE_INFINITY;
    const rows = [{ temperature: 1, topP: 0.5, topK: 3 }, { temperature: 0 }, { temperature: 1 }];
    const { tokens } = await sampleRows(bench, logits, rows);
    expectSame('tokens', tokens, Int32Array.of(7, 5, 6));
  }),
  benchCase('sample: logprobs', 'arithmetic', async (bench) => {
    const logits = bench.dice.values(maxRows * vocab, 8);
    const tops = [0, 1, 5, 20, undefined];
    const rows = tops.map(
      (topLogprobs, i): RowSetting => ({
        ...(topLogprobs === undefined ? {} : { topLogprobs }),
        temperature: 1.5,
        seed: [i, 1],
        bias: [[i, 3]],
      }),
    );
    const { tokens, line } = await sampleRows(bench, logits, rows, undefined, 4);
    tops.forEach((top, i) => {
      const own = logits.subarray(i * vocab, (i + 1) * vocab);
      if (top !== undefined) expectLogprobs(`line ${i}`, line(i), own, tokens[i]!, top);
      else
        expectSame(
          'a line nobody asked for',
          line(i).words,
          new Int32Array(LOGPROB_WORDS).fill(-1),
        );
    });
  }),
  benchCase(
    'sample: logprobs of later steps, and of more lines than a slot',
    'arithmetic',
    async (bench) => {
      const logits = bench.dice.values(3 * vocab, 8);
      const rows = Array.from({ length: 3 }, () => ({ topLogprobs: 1 }));
      const late = await sampleRows(bench, logits, rows, undefined, 2 ** 31 + 2);
      expectLogprobs('a late step', late.line(0), logits.subarray(0, vocab), late.tokens[0]!, 1);
      const many = await sampleRows(bench, logits, rows, undefined, 0, undefined, 2);
      const own = logits.subarray(vocab, 2 * vocab);
      expectLogprobs('the last line', many.line(1), own, many.tokens[1]!, 1);
      expectSame('past the slot', many.line(2).words, new Int32Array(LOGPROB_WORDS).fill(-1));
    },
  ),
  benchCase('prompt-logprobs', 'arithmetic', async (bench) => {
    const count = 4;
    const logits = bench.dice.values(count * vocab, 8);
    const targets = [0, vocab - 1, 13, 50];
    const out = await bench.poisoned(count * LOGPROB_WORDS * 4);
    bench.launch('prompt-logprobs', {
      logits: await bench.upload(logits, 'f32'),
      targets: await bench.uploadWords(targets),
      out,
      count,
      vocab,
    });
    const words = await bench.downloadWords(out);
    targets.forEach((target, i) => {
      const line = words.slice(i * LOGPROB_WORDS, (i + 1) * LOGPROB_WORDS);
      const floats = new Float32Array(line.buffer);
      const own = logits.subarray(i * vocab, (i + 1) * vocab);
      expectLogprobs(`line ${i}`, { words: line, floats }, own, target, 20);
    });
  }),
];
