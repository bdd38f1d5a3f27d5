import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeAutomaton, stateOf } from '../../contract/automaton.ts';
import { referencePlace } from '../../contract/reference-load.ts';
import { Dice } from '../../contract/workbench.ts';
import { e4m3FromF32, f32FromE4m3 } from '../../fp8.ts';
import { GRAMMAR_ROW_WORDS } from '../../grammar-layout.ts';
import { qkvWidth } from '../../ops.ts';
import { NO_TOKEN, ROW_WORDS, resultSlotWords } from '../../row-layout.ts';
import { buildVocabulary } from '../../vocabulary.ts';
import { WHOLE } from '../testing/share.ts';
import { type AttentionArgs, attention, ropeWriteKv } from './attention.ts';
import { maskLines } from './grammar.ts';
import { matmul } from './matmul.ts';
import { matmulFp8 } from './matmul-fp8.ts';
import { place } from './place.ts';
import { advance, applyCommand, beginDecode } from './rows.ts';
import { sample } from './sampling.ts';
import { keptThreshold } from './selection.ts';
import { rangeOf, type Share } from './share.ts';
import { accept, draft } from './speculation.ts';

/** Runs a kernel as `parts` workers would. */
function inParts(parts: number, run: (share: Share) => void): void {
  for (let part = 0; part < parts; part++) run({ part, parts });
}

describe('shares', () => {
  it('cover everything once, in whole blocks', () => {
    const nat = (max: number) => fc.integer({ min: 0, max });
    fc.assert(
      fc.property(nat(300), nat(6), nat(15), (total, extraParts, extraBlock) => {
        const [parts, block] = [extraParts + 1, extraBlock + 1];
        let next = 0;
        for (let part = 0; part < parts; part++) {
          const [from, to] = rangeOf({ part, parts }, total, block);
          expect(from).toBe(next);
          expect(from % block === 0 || from === total).toBe(true);
          next = to;
        }
        expect(next).toBe(total);
      }),
    );
  });
});

describe('matmul', () => {
  it('gives a line the same bits whatever lines and workers are beside it', () => {
    const shapes = fc.record({
      count: fc.integer({ min: 1, max: 11 }),
      inputs: fc.integer({ min: 1, max: 70 }),
      outputs: fc.integer({ min: 1, max: 37 }),
      parts: fc.integer({ min: 1, max: 3 }),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(shapes, ({ count, inputs, outputs, parts, seed }) => {
        const dice = new Dice(seed);
        const input = dice.values(count * inputs);
        const weight = dice.values(outputs * inputs);
        const bias = dice.values(outputs);
        const out = new Float32Array(count * outputs).fill(Number.NaN);
        inParts(parts, (share) =>
          matmul(input, weight, bias, out, { count, inputs, outputs }, share),
        );
        const alone = new Float32Array(outputs);
        for (let line = 0; line < count; line++) {
          const own = input.subarray(line * inputs, (line + 1) * inputs);
          matmul(own, weight, bias, alone, { count: 1, inputs, outputs }, WHOLE);
          expect(out.subarray(line * outputs, (line + 1) * outputs)).toEqual(alone);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe('matmulFp8', () => {
  it('gives a line the same bits whatever lines and workers are beside it', () => {
    const shapes = fc.record({
      count: fc.integer({ min: 1, max: 6 }),
      inputs: fc.integer({ min: 1, max: 40 }),
      outputs: fc.integer({ min: 1, max: 20 }),
      blockOutputs: fc.integer({ min: 1, max: 24 }),
      blockInputs: fc.integer({ min: 1, max: 44 }),
      parts: fc.integer({ min: 1, max: 3 }),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(shapes, ({ count, inputs, outputs, parts, seed, ...blocks }) => {
        const dice = new Dice(seed);
        const { blockOutputs, blockInputs } = blocks;
        const input = dice.values(count * inputs);
        const columns = Math.ceil(inputs / blockInputs);
        const scales = dice.values(Math.ceil(outputs / blockOutputs) * columns);
        const codes = e4m3FromF32(dice.values(outputs * inputs, 448));
        const weight = { codes, scales, ...blocks };
        const bias = dice.values(outputs);
        const out = new Float32Array(count * outputs).fill(Number.NaN);
        inParts(parts, (share) =>
          matmulFp8(input, weight, bias, out, { count, inputs, outputs }, share),
        );
        const alone = new Float32Array(outputs);
        const widened = Float32Array.from(f32FromE4m3(codes), (value, i) => {
          const row = Math.floor(Math.floor(i / inputs) / blockOutputs);
          return value * scales[row * columns + Math.floor((i % inputs) / blockInputs)]!;
        });
        const expected = new Float32Array(out.length);
        matmul(input, widened, bias, expected, { count, inputs, outputs }, WHOLE);
        for (const [i, value] of out.entries()) expect(value).toBeCloseTo(expected[i]!, 1);
        for (let line = 0; line < count; line++) {
          const own = input.subarray(line * inputs, (line + 1) * inputs);
          matmulFp8(own, weight, bias, alone, { count: 1, inputs, outputs }, WHOLE);
          expect(out.subarray(line * outputs, (line + 1) * outputs)).toEqual(alone);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe('place', () => {
  it('puts any piece where it belongs, however many workers share it', () => {
    const layouts = fc.record({
      groupRows: fc.integer({ min: 1, max: 5 }),
      rowGroups: fc.integer({ min: 1, max: 3 }),
      columns: fc.integer({ min: 1, max: 9 }),
      cut: fc.tuple(fc.nat(), fc.nat()),
      piece: fc.tuple(fc.nat(), fc.nat()),
      isTransposed: fc.boolean(),
      parts: fc.integer({ min: 1, max: 4 }),
      to: fc.constantFrom('bf16', 'f32'),
    });
    /** Two numbers made the ends of a part of [0, total). */
    const part = ([a, b]: [number, number], total: number) =>
      [a % (total + 1), b % (total + 1)].sort((x, y) => x - y) as [number, number];
    fc.assert(
      fc.property(layouts, ({ groupRows, cut, piece, parts, ...layout }) => {
        const rows = groupRows * layout.rowGroups;
        const [columnsFrom, columnsTo] = part(cut, layout.columns);
        const [first, end] = part(piece, rows * layout.columns);
        const count = end - first;
        const stored = Uint16Array.from({ length: count }, (_, i) => 0x3c00 + i);
        const shape = {
          ...layout,
          rows,
          columnsFrom,
          columnsTo,
          first,
          count,
          from: 'f16',
        } as const;
        const Type = layout.to === 'bf16' ? Uint16Array : Uint32Array;
        const out = new Type(rows * (columnsTo - columnsFrom)).fill(-1);
        const expected = Type.from(out);
        const [source, target] = [new Uint8Array(stored.buffer), new Uint8Array(out.buffer)];
        inParts(parts, (share) => place(source, target, { ...shape, inputOffsetBytes: 0 }, share));
        referencePlace(stored, { ...shape, inputOffsetBytes: 0 }, expected);
        expect(out).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });
});

describe('keptThreshold', () => {
  it('finds what sorting finds', () => {
    const items = fc.array(
      fc.record({ value: fc.integer({ min: -9, max: 9 }), mass: fc.integer({ min: 0, max: 5 }) }),
      { minLength: 1, maxLength: 60 },
    );
    fc.assert(
      fc.property(items, fc.integer({ min: 1, max: 200 }), (pairs, target) => {
        const values = Float64Array.from(pairs, ({ value }) => value);
        const masses = Float64Array.from(pairs, ({ mass }) => mass);
        const found = keptThreshold(values, masses, pairs.length, target);
        const sorted = [...pairs].sort((a, b) => b.value - a.value);
        let mass = 0;
        const last = sorted.findIndex((pair) => {
          mass += pair.mass;
          return mass >= target;
        });
        expect(found).toBe(sorted.at(last)!.value);
      }),
    );
  });

  it('is quick on equal, rising and falling values', () => {
    const count = 200_000;
    for (const valueAt of [() => 1, (i: number) => i, (i: number) => -i]) {
      const values = Float64Array.from({ length: count }, (_, i) => valueAt(i));
      const expected = Float64Array.from(values).sort()[count - 50]!;
      const masses = new Float64Array(count).fill(1);
      expect(keptThreshold(values, masses, count, 50)).toBe(expected);
    }
  });
});

/** Words that tend to lie near the edges of small arrays. */
const word = fc.oneof(
  fc.integer({ min: -2, max: 40 }),
  fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
);
const words = (length: number) =>
  fc.array(word, { minLength: length, maxLength: length }).map((list) => Int32Array.from(list));

/** A list of lists, at offset 0 of its pool; rows may be anywhere in it, or nowhere. */
const HOSTILE_GRAMMAR = encodeAutomaton({
  states: [
    stateOf({ '[': { target: 0, maximum: 2, frames: [{ state: 1, count: 0 }] }, ']': 1 }),
    stateOf({ ',': 0 }, { isFinal: true, minimum: 1 }),
  ],
  start: 0,
  forced: 1,
});
const HOSTILE_VOCABULARY = buildVocabulary(13, (id) => Buffer.from('[],'.repeat(id)), new Set([4]));

describe('hostile row state', () => {
  const rowCount = 3;
  const vocab = 13;
  const state = fc.record({
    rows: words(rowCount * ROW_WORDS),
    control: words(16),
    counts: words(rowCount * vocab),
    bias: words(rowCount * 600),
    lineRows: words(4),
    sampled: words(4),
    command: words(80),
    masks: words(4),
    grammarRows: words(rowCount * GRAMMAR_ROW_WORDS),
    logits: fc.array(fc.float(), { minLength: 4 * vocab, maxLength: 4 * vocab }),
  });

  it('never makes an operation throw or sample outside the vocabulary', () => {
    fc.assert(
      fc.property(state, ({ rows, control, counts, bias, lineRows, sampled, command, ...more }) => {
        const { logits, masks, grammarRows } = more;
        const shape = { count: 4, linesPerRow: 2, vocab, ringSlots: 2, ringLines: 3 };
        const results = new Int32Array(2 * resultSlotWords(3));
        const logprobs = new Int32Array(2 * 3 * 42);
        const arrays = { rows, control, counts, lineRows };
        const drawn = new Int32Array(4);
        const line = Float32Array.from(logits);
        sample({ ...arrays, bias, masks, sampled: drawn, logprobs, logits: line }, shape, WHOLE);
        // Where every logit is NaN or banned, there is none.
        const isToken = (token: number) => token === NO_TOKEN || (token >= 0 && token < vocab);
        for (const token of drawn) expect(isToken(token)).toBe(true);
        const pool = HOSTILE_GRAMMAR;
        const grammar = { grammarRows, pool, vocabulary: HOSTILE_VOCABULARY };
        maskLines({ ...grammar, rows, lineRows, masks }, shape, WHOLE);
        advance({ ...arrays, sampled, results, grammar }, shape);
        const [tokens, tokenRows, positions] = [0, 0, 0].map(() => new Int32Array(4));
        beginDecode(
          {
            rows,
            decodeRows: lineRows,
            tokens: tokens!,
            tokenRows: tokenRows!,
            positions: positions!,
          },
          4,
        );
        for (const row of tokenRows!) expect(row >= -1 && row < rowCount).toBe(true);
        const history = counts.slice(0, 2 * vocab);
        const texts = { history, historyTokens: vocab, linesPerRow: 2 };
        const drafted = { tokens: tokens!, tokenRows: tokenRows!, positions: positions! };
        draft(
          { rows, decodeRows: lineRows, history, ...drafted },
          { ...texts, count: 2, lookupMin: 1, lookupMax: 3 },
        );
        for (const row of tokenRows!) expect(row >= -1 && row < rowCount).toBe(true);
        accept(
          { ...arrays, sampled, results, grammar, history, tokens: sampled },
          { ...shape, ...texts },
        );
        applyCommand(command, [rows, counts, bias, lineRows], counts, vocab, 8);
      }),
    );
  });

  it('never makes attention touch memory outside its slices', () => {
    const kvType = fc.constantFrom(Float32Array, Uint8Array);
    const lineKv = fc.constantFrom('keys and values', 'keys', 'none');
    const lists = { rows: words(6), positions: words(6), pageTable: words(8) };
    const batch = fc.record({ ...lists, kvType, lineKv, valueNorm: fc.boolean() });
    const [heads, kvHeads, headDim, pageTokens, pages] = [2, 1, 4, 4, 5];
    const pageElements = 2 * kvHeads * pageTokens * headDim;
    fc.assert(
      fc.property(batch, ({ rows, positions, pageTable, kvType, lineKv, valueNorm }) => {
        const args: AttentionArgs = {
          sinks: null,
          kv: new kvType(pages * pageElements),
          pageTable,
          tokenRows: rows,
          positions,
          pageElements,
          layerElement: 0,
          lineKv,
          kvHeads,
          headDim,
          pageTokens,
          pagesPerRow: 4,
          qkv: new Float32Array(6 * qkvWidth({ heads, kvHeads, headDim, lineKv })).fill(1),
          out: new Float32Array(6 * heads * headDim),
          count: 6,
          heads,
          scale: 1,
          window: 0,
        };
        const rope = new Float32Array(64);
        const norms = { queryNorm: null, keyNorm: null, valueNorm, normOffset: 0, epsilon: 1e-6 };
        ropeWriteKv({ ...args, ...norms, rope, rotaryDim: headDim }, WHOLE);
        attention(args, WHOLE);
        expect(args.out.every(Number.isFinite)).toBe(true);
      }),
    );
  });
});
