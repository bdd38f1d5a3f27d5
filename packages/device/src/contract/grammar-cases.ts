import { CommandWriter } from '../command.ts';
import { GRAMMAR_ROW, GRAMMAR_ROW_WORDS, maskWords } from '../grammar-layout.ts';
import {
  FINISH,
  NO_TOKEN,
  RESULT,
  RESULT_HEADER_WORDS,
  RESULT_WORDS,
  TARGET,
} from '../row-layout.ts';
import { buildVocabulary, controlBytes, type Vocabulary } from '../vocabulary.ts';
import {
  type Automaton,
  afterThinking,
  encodeAutomaton,
  isOver,
  mayEnd,
  type Place,
  placeAfter,
  placeWords,
  randomAutomaton,
  randomCharacters,
  randomString,
  randomText,
  stateOf,
} from './automaton.ts';
import { type ContractCase, expectSame, expectThat } from './case.ts';
import {
  advanceArgs,
  type RowSetting,
  rowWords,
  STATE,
  uploadGrammars,
  uploadRows,
} from './row-state.ts';
import { benchCase, bytesOf, type Dice, type Workbench } from './workbench.ts';

/** Tokens by id, and the same for the device. */
interface Tokens {
  readonly texts: readonly (Uint8Array | null)[];
  readonly vocabulary: Vocabulary;
}

function randomTokens(dice: Dice, size: number): Tokens {
  const control = new Set(Array.from({ length: 5 }, () => dice.integer(0, size - 1)));
  const plain = Array.from({ length: size }, () => randomText(dice));
  const texts = plain.map((text, id) => (control.has(id) ? controlBytes(id) : text));
  return { texts, vocabulary: buildVocabulary(size, (id) => plain[id]!, control) };
}

/** A row in a grammar of its own. */
interface GrammarRow {
  readonly automaton: Automaton;
  readonly place: Place;
  readonly stopIds: readonly number[];
}

/** A row somewhere in a random grammar: where random tokens have led, so that stacks are deep. */
function randomRow(dice: Dice, { texts }: Tokens): GrammarRow {
  const automaton = randomAutomaton(dice);
  let place: Place = { state: automaton.start, frames: [], budget: dice.integer(-1, 3) };
  for (let tries = dice.integer(0, 60); tries > 0; tries--) {
    place = placeAfter(automaton, place, texts[dice.integer(0, texts.length - 1)]!) ?? place;
  }
  const stops = dice.permutation(texts.length).slice(0, dice.integer(0, 3));
  return { automaton, place, stopIds: stops };
}

/** The tokens that a row may sample, by trying all of them. */
function admittedTokens({ automaton, place, stopIds }: GrammarRow, { texts }: Tokens): boolean[] {
  const ends = mayEnd(automaton, place);
  return texts.map((text, id) =>
    stopIds.includes(id) ? ends : placeAfter(automaton, place, text) !== null,
  );
}

function maskOf(admitted: readonly boolean[]): Int32Array {
  const mask = new Int32Array(maskWords(admitted.length));
  admitted.forEach((is, token) => {
    if (is) mask[token >> 5]! |= 1 << (token & 31);
  });
  return mask;
}

/** Grammars one behind the other, and where each begins. */
function layOut(rows: readonly GrammarRow[]) {
  const grammars = rows.map(({ automaton }) => encodeAutomaton(automaton));
  let next = 0;
  const offsets = grammars.map((words) => {
    const offset = next;
    next += words.length;
    return offset;
  });
  return { grammars, offsets };
}

/** The masks of these rows, one line each in turn; `places` are the rows' words. */
async function masksOf(
  bench: Workbench,
  tokens: Tokens,
  rows: readonly (GrammarRow | null)[],
  change: (places: Int32Array) => void = () => undefined,
): Promise<Int32Array[]> {
  const vocab = tokens.texts.length;
  const own = rows.map((row) => row ?? { ...EMPTY, stopIds: [] });
  const { grammars, offsets } = layOut(own);
  const places = new Int32Array(rows.length * GRAMMAR_ROW_WORDS);
  own.forEach(({ place }, row) => {
    places.set(placeWords(offsets[row]!, place), row * GRAMMAR_ROW_WORDS);
  });
  change(places);
  const states = rows.map((row) =>
    rowWords({ grammar: row !== null, stopIds: row?.stopIds ?? [] }),
  );
  // Line 0 is of no row.
  const lineRows = [-1, ...rows.keys()];
  const words = maskWords(vocab);
  const masks = await bench.poisoned(lineRows.length * words * 4);
  bench.launch('grammar-mask', {
    ...(await uploadGrammars(bench, grammars, tokens.vocabulary)),
    rows: await bench.uploadWords(states.flatMap((state) => [...state])),
    grammarRows: await bench.uploadBytes(bytesOf(places)),
    lineRows: await bench.uploadWords(lineRows),
    masks,
    count: lineRows.length,
    vocab,
  });
  const all = await bench.downloadWords(masks);
  const lines = lineRows.map((_, line) => all.slice(line * words, (line + 1) * words));
  expectSame('the line of no row', lines[0]!, new Int32Array(words).fill(-1));
  return lines.slice(1);
}

/** A text of nothing. */
const EMPTY: GrammarRow = {
  automaton: { states: [stateOf({}, { isFinal: true })], start: 0, forced: null },
  place: { state: 0, frames: [], budget: -1 },
  stopIds: [],
};

async function checkMasks(bench: Workbench, size: number, count: number): Promise<void> {
  const { dice } = bench;
  const tokens = randomTokens(dice, size);
  const rows = Array.from({ length: count }, () =>
    dice.integer(0, 9) === 0 ? null : randomRow(dice, tokens),
  );
  const masks = await masksOf(bench, tokens, rows);
  rows.forEach((row, index) => {
    const mask = masks[index]!;
    if (row === null) {
      expectSame(`line ${index}, of a free row`, mask, new Int32Array(mask.length).fill(-1));
    } else {
      const what = `line ${index}`;
      const expected = bench.once(what, () => maskOf(admittedTokens(row, tokens)));
      expectSame(what, mask, expected);
    }
  });
}

/** A list in a list in a list: each bracket pushes a frame, and `x` counts in the top one. */
const NESTED: Automaton = {
  states: [
    stateOf({
      '[': { target: 1, maximum: 0, frames: [{ state: 2, count: 0 }] },
    }),
    stateOf({
      '[': { target: 1, maximum: 0, frames: [{ state: 3, count: 0 }] },
      x: { target: 1, maximum: 3, frames: [] },
      ']': 3,
    }),
    stateOf({}, { isFinal: true }),
    stateOf({}, { isFinal: true, minimum: 0 }),
  ],
  start: 0,
  forced: null,
};

export const grammarCases: readonly ContractCase[] = [
  benchCase('grammar-mask: as by trying every token', 'arithmetic', async (bench) => {
    for (let round = 0; round < 12; round++) {
      await checkMasks(bench, bench.dice.integer(1, 200), bench.dice.integer(1, 12));
    }
  }),
  benchCase(
    'grammar-mask: tokens of characters that a string takes',
    'arithmetic',
    async (bench) => {
      const { dice } = bench;
      for (let round = 0; round < 6; round++) {
        const texts = Array.from({ length: 700 }, () => randomCharacters(dice));
        const vocabulary = buildVocabulary(texts.length, (id) => texts[id]!, new Set());
        const rows = Array.from({ length: 10 }, (): GrammarRow => {
          const automaton = randomString(dice);
          // Not all of them in the string: some in the middle of a character.
          const state = dice.integer(0, 2) === 0 ? dice.integer(0, 4) : automaton.start;
          return { automaton, place: { state, frames: [], budget: -1 }, stopIds: [] };
        });
        const masks = await masksOf(bench, { texts, vocabulary }, rows);
        rows.forEach((row, index) => {
          const what = `line ${index} of round ${round}`;
          const admitted = () => maskOf(admittedTokens(row, { texts, vocabulary }));
          expectSame(what, masks[index]!, bench.once(what, admitted));
        });
      }
    },
  ),
  benchCase('grammar-mask: large vocabularies', 'arithmetic', async (bench) => {
    await checkMasks(bench, 5003, 3);
    await checkMasks(bench, 3000, 140);
  }),
  benchCase('grammar-mask: as deep as stacks may be', 'arithmetic', async (bench) => {
    const lengths = [1, 2, 15, 16, 17, 40];
    const opening = lengths.map((length) => Buffer.from('['.repeat(length)));
    const texts = [...opening, ...['x', 'xxx', 'xxxx', ']', '][', ']x'].map((t) => Buffer.from(t))];
    const vocabulary = buildVocabulary(texts.length, (id) => texts[id]!, new Set());
    const rows = [0, 1, 45, 46, 47, 60, 61, 62].map((depth): GrammarRow => {
      const frames = Array.from({ length: depth }, (_, at) => ({
        state: at === 0 ? 2 : 3,
        count: 1,
      }));
      const place = { state: depth === 0 ? 0 : 1, frames, budget: -1 };
      return { automaton: NESTED, place, stopIds: [] };
    });
    const masks = await masksOf(bench, { texts, vocabulary }, rows);
    rows.forEach((row, index) => {
      const expected = maskOf(admittedTokens(row, { texts, vocabulary }));
      expectSame(`depth ${row.place.frames.length}`, masks[index]!, expected);
    });
    // By hand: 16 brackets fit a token, and 62 frames the stack; one `x` of three was counted.
    const bits = (index: number) => lengths.map((_, token) => (masks[index]![0]! >> token) & 1);
    expectSame('at depth 45', bits(2), [1, 1, 1, 1, 0, 0]);
    expectSame('at depth 61', bits(6), [1, 0, 0, 0, 0, 0]);
    expectSame('at depth 62', bits(7), [0, 0, 0, 0, 0, 0]);
    expectSame('counted at depth 1', [(masks[1]![0]! >> 6) & 7], [1]);
  }),
  benchCase('grammar-mask: nothing for places outside', 'arithmetic', async (bench) => {
    const tokens = randomTokens(bench.dice, 70);
    const fields = [
      [GRAMMAR_ROW.GRAMMAR, -1],
      [GRAMMAR_ROW.GRAMMAR, 1 << 20],
      [GRAMMAR_ROW.STATE, 1],
      [GRAMMAR_ROW.STATE, -1],
      [GRAMMAR_ROW.DEPTH, 63],
      [GRAMMAR_ROW.DEPTH, -1],
    ] as const;
    const rows = fields.map(() => ({ ...EMPTY, stopIds: [5, 69] }));
    const masks = await masksOf(bench, tokens, rows, (places) => {
      fields.forEach(([field, value], row) => {
        places[row * GRAMMAR_ROW_WORDS + field] = value;
      });
    });
    for (const mask of masks) expectSame('mask', mask, new Int32Array(3));
  }),
  benchCase('advance: rows move on in their grammars', 'arithmetic', async (bench) => {
    const { dice } = bench;
    const { vocab, maxRows } = STATE;
    const seen = new Set<number>();
    for (let round = 0; round < 40; round++) {
      const tokens = randomTokens(dice, vocab);
      const rows = Array.from({ length: maxRows }, () => randomRow(dice, tokens));
      const settings = rows.map(
        ({ stopIds }, row): RowSetting => ({ grammar: true, stopIds, epoch: row }),
      );
      const sampled = rows.map((row) => {
        // Now and then one that is not admitted.
        const all = admittedTokens(row, tokens);
        const admitted = [...all.keys()].filter((token) => all[token] || dice.integer(0, 99) === 0);
        return admitted.length === 0 ? NO_TOKEN : admitted[dice.integer(0, admitted.length - 1)]!;
      });
      const { grammars, offsets } = layOut(rows);
      const before = rows.map(({ place }, row) => placeWords(offsets[row]!, place));
      const state = {
        ...(await uploadRows(bench, settings)),
        ...(await uploadGrammars(bench, grammars, tokens.vocabulary)),
      };
      await commandPlaces(bench, state, before);
      const lineRows = await bench.uploadWords([...rows.keys()]);
      const args = advanceArgs(state, lineRows, await bench.uploadWords(sampled), maxRows);
      bench.launch('advance', args);
      const after = await bench.downloadWords(state.targets.grammarRows);
      const results = await bench.downloadWords(state.results);
      rows.forEach((row, index) => {
        const { place, finish } = moved(row, sampled[index]!, tokens);
        const at = RESULT_HEADER_WORDS + index * RESULT_WORDS;
        expectSame(`finish of row ${index}`, [results[at + RESULT.FINISH]!], [finish]);
        seen.add(finish);
        const words = place.frames.length * 2 + GRAMMAR_ROW.STACK;
        const start = index * GRAMMAR_ROW_WORDS;
        expectSame(
          `place of row ${index}`,
          after.subarray(start, start + words),
          placeWords(offsets[index]!, place).subarray(0, words),
        );
      });
    }
    const { NONE, STOP, ERROR } = FINISH;
    expectThat(
      [NONE, STOP, ERROR].every((finish) => seen.has(finish)),
      'not all ends occurred',
    );
  }),
];

/** Where a row is after a token, and how it ended. */
function moved(
  row: GrammarRow,
  token: number,
  { texts }: Tokens,
): { place: Place; finish: number } {
  const { automaton, place, stopIds } = row;
  if (token === NO_TOKEN) return { place, finish: FINISH.ERROR };
  if (stopIds.includes(token)) return { place, finish: FINISH.STOP };
  const next = placeAfter(automaton, place, texts[token]!);
  if (next === null) return { place, finish: FINISH.ERROR };
  const finish = isOver(automaton, next) ? FINISH.STOP : FINISH.NONE;
  return { place: afterThinking(automaton, next), finish };
}

/** Brings rows to their places as an engine does. */
async function commandPlaces(
  bench: Workbench,
  state: Awaited<ReturnType<typeof uploadRows>>,
  places: readonly Int32Array[],
): Promise<void> {
  const words = new Int32Array(1024);
  const writer = new CommandWriter(words, places.length);
  places.forEach((place, row) => {
    const used = place.subarray(0, GRAMMAR_ROW.STACK + 2 * place[GRAMMAR_ROW.DEPTH]!);
    writer.write(TARGET.GRAMMAR_ROWS, row * GRAMMAR_ROW_WORDS, used);
  });
  writer.finish();
  bench.launch('apply-command', {
    ...state.targets,
    command: await bench.uploadWords(words),
    counts: state.counts,
    vocab: STATE.vocab,
    maxRecords: places.length,
  });
}
