import { describe, expect, it } from 'vitest';
import { encodeAutomaton, randomAutomaton, stateOf } from './contract/automaton.ts';
import { Dice } from './contract/workbench.ts';
import { GRAMMAR, GRAMMAR_ROW, GRAMMAR_ROW_WORDS, MAX_TOKEN_BYTES } from './grammar-layout.ts';
import { GrammarWalk, grammarFault, grammarPlace } from './grammar-step.ts';
import { buildVocabulary } from './vocabulary.ts';

const texts = [
  'a',
  'ab',
  'b',
  '',
  'é',
  'a'.repeat(MAX_TOKEN_BYTES),
  'a'.repeat(MAX_TOKEN_BYTES + 1),
];
const raw = [Uint8Array.of(0xf8), Uint8Array.of(0xff), Uint8Array.of(0xc3)];
const CONTROL = 10;
const vocabulary = buildVocabulary(
  12,
  (id) =>
    id < 7 ? Buffer.from(texts[id]!) : (raw[id - 7] ?? (id === CONTROL ? Buffer.from('a') : null)),
  new Set([CONTROL]),
);
/** Every byte, any number of them. */
const ANYTHING = encodeAutomaton({
  states: [
    {
      ...stateOf({}),
      edges: new Map(Array.from({ length: 256 }, (_, byte) => [byte, TO_ITSELF()])),
    },
  ],
  start: 0,
  forced: null,
});
function TO_ITSELF() {
  return { target: 0, maximum: 0, frames: [] };
}

describe('a vocabulary', () => {
  it('has bytes for text, and none for what is no text', () => {
    const walk = new GrammarWalk(ANYTHING, vocabulary);
    walk.begin(new Int32Array(GRAMMAR_ROW_WORDS));
    const admitted = Array.from({ length: 12 }, (_, id) => walk.admits(id));
    const [yes, no] = [true, false];
    expect(admitted).toEqual([yes, yes, yes, no, yes, yes, no, no, no, yes, yes, no]);
    expect([walk.admits(12), walk.admits(-1)]).toEqual([no, no]);
  });

  it('tells a control token from its text', () => {
    const onlyText = encodeAutomaton({ states: [stateOf({ a: 0 })], start: 0, forced: null });
    const walk = new GrammarWalk(onlyText, vocabulary);
    walk.begin(new Int32Array(GRAMMAR_ROW_WORDS));
    expect([walk.admits(0), walk.admits(CONTROL)]).toEqual([true, false]);
  });
});

describe('the place of a row', () => {
  const thinking = encodeAutomaton({
    states: [stateOf({ a: 0 }, { isThinking: true }), stateOf({ b: 1 }, { isFinal: true })],
    start: 0,
    forced: 1,
  });
  const stateAfter = (budget: number, tokens: readonly number[]) =>
    grammarPlace(thinking, vocabulary, budget, tokens)[GRAMMAR_ROW.STATE];

  it('is where its tokens have led, and where its budget sends it', () => {
    expect([0, 1, 2, 3].map((length) => stateAfter(2, Array(length).fill(0)))).toEqual([
      0, 0, 1, 1,
    ]);
    expect(stateAfter(0, [])).toBe(1);
    expect(stateAfter(-1, Array(9).fill(0))).toBe(0);
  });
});

describe('grammarFault', () => {
  it('finds nothing in what is encoded', () => {
    const dice = new Dice(5);
    for (let round = 0; round < 50; round++) {
      expect(grammarFault(encodeAutomaton(randomAutomaton(dice)))).toBeNull();
    }
  });

  it('lets no changed word lead a walk out of the grammar', () => {
    const dice = new Dice(6);
    let refused = 0;
    for (let round = 0; round < 3000; round++) {
      const words = encodeAutomaton(randomAutomaton(dice));
      const at = dice.integer(0, words.length - 1);
      words[at] = dice.integer(0, 1) === 0 ? dice.integer(0, 300) : dice.integer(0, 2 ** 32 - 1);
      if (grammarFault(words) !== null) {
        refused += 1;
        continue;
      }
      // Every word that a walk could read is one of the grammar's own: it refuses or moves.
      const row = grammarPlace(words, vocabulary, 3, [0, 1, 2, 10, 0, 1, 2, 10]);
      expect(row[GRAMMAR_ROW.STATE]! >>> 0).toBeLessThan(words[GRAMMAR.STATES]!);
    }
    expect(refused).toBeGreaterThan(500);
    expect(grammarFault(new Uint32Array(3))).toContain('shorter');
  });
});
