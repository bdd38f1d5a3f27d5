import { describe, expect, test } from 'vitest';
import { smallConfig } from '../selftest/model-folder.ts';
import { describeModel } from './describe.ts';
import { ropeFrequencies, ropeTable } from './rope.ts';
import type { ModelSpec } from './spec.ts';

function spec(rope: Record<string, unknown> | null, more: Record<string, unknown> = {}): ModelSpec {
  return describeModel(smallConfig({ config: { rope_scaling: rope, ...more } }));
}

/**
 * Values from a float64 transcription of the formulas in Llama 3.1's and YaRN's published code, run
 * apart from this implementation (Python, math module); [dimension, frequency].
 */
const LLAMA_3_2_1B: readonly (readonly [number, number])[] = [
  [0, 1.0],
  [10, 0.016560440080994446],
  [14, 0.0032114459947525913],
  [15, 0.001290547928209264],
  [16, 0.00042955679655936815],
  [17, 9.70828780262767e-5],
  [18, 1.9461638184831125e-5],
  [24, 1.661967467795309e-6],
  [31, 9.418306725434909e-8],
];
const QWEN_YARN: readonly (readonly [number, number])[] = [
  [0, 1.0],
  [20, 0.01333521432163324],
  [24, 0.005375321490790102],
  [30, 0.0010643609812470017],
  [39, 6.490394320837028e-5],
  [45, 1.5107409755953319e-5],
  [63, 3.102344401879299e-7],
];
const QWEN_YARN_EXACT_RAMP: readonly (readonly [number, number])[] = [
  [0, 1.0],
  [20, 0.01333521432163324],
  [24, 0.0055172704751341225],
  [30, 0.0010792377416765538],
  [39, 6.187806812450695e-5],
  [45, 1.5107409755953319e-5],
  [63, 3.102344401879299e-7],
];

function expectFrequencies(
  found: readonly number[],
  wanted: readonly (readonly [number, number])[],
) {
  for (const [dimension, frequency] of wanted) {
    expect(Math.abs(found[dimension]! / frequency - 1)).toBeLessThan(1e-12);
  }
}

const rope0 = (...config: Parameters<typeof spec>) => spec(...config).ropes[0]!;

describe('frequencies', () => {
  test('unscaled ones fall geometrically from 1', () => {
    const frequencies = ropeFrequencies(rope0(null, { rope_theta: 10_000 }));
    expect(frequencies).toHaveLength(8);
    frequencies.forEach((frequency, i) => {
      expect(frequency).toBeCloseTo(10 ** (-i / 2), 12);
    });
  });

  test('linear scaling stretches positions', () => {
    const plain = ropeFrequencies(rope0(null));
    const scaled = ropeFrequencies(rope0({ type: 'linear', factor: 4 }));
    expect(scaled).toEqual(plain.map((frequency) => frequency / 4));
  });

  test('llama3 as in Llama 3.2 1B', () => {
    const rope = {
      rope_type: 'llama3',
      factor: 32,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    };
    const found = ropeFrequencies(rope0(rope, { rope_theta: 500_000, head_dim: 64 }));
    expectFrequencies(found, LLAMA_3_2_1B);
  });

  test('yarn as in Qwen3 and Qwen2.5 with a factor of 4', () => {
    const rope = { type: 'yarn', factor: 4, original_max_position_embeddings: 32_768 };
    const more = { rope_theta: 1_000_000, head_dim: 128, max_position_embeddings: 32_768 };
    expectFrequencies(ropeFrequencies(rope0(rope, more)), QWEN_YARN);
    const exact = ropeFrequencies(rope0({ ...rope, truncate: false }, more));
    expectFrequencies(exact, QWEN_YARN_EXACT_RAMP);
    expect(spec(rope, more).maxPositions).toBe(131_072);
  });
});

describe('tables', () => {
  test('hold cosine and sine of position times frequency, in float32', () => {
    const table = ropeTable(rope0(null, { rope_theta: 10_000 }), 16, 200);
    expect(table).toHaveLength(200 * 16);
    for (const position of [0, 1, 57, 199]) {
      for (let i = 0; i < 8; i++) {
        const angle = position * 10_000 ** (-i / 8);
        expect(table[position * 16 + 2 * i]).toBe(Math.fround(Math.cos(angle)));
        expect(table[position * 16 + 2 * i + 1]).toBe(Math.fround(Math.sin(angle)));
      }
    }
  });

  test("carry yarn's attention factor", () => {
    const rope = { type: 'yarn', factor: 4, original_max_position_embeddings: 64 };
    const table = ropeTable(rope0(rope), 16, 3);
    const amplitude = 0.1 * Math.log(4) + 1;
    for (let at = 0; at < table.length; at += 2) {
      expect(Math.hypot(table[at]!, table[at + 1]!)).toBeCloseTo(amplitude, 6);
    }
  });

  test('leave what does not rotate as it is', () => {
    const part = rope0(null, { partial_rotary_factor: 0.5 });
    expect(part.rotaryDim).toBe(8);
    const table = ropeTable(part, 16, 5);
    const resting = ropeTable(null, 16, 5);
    for (let at = 0; at < table.length; at += 2) {
      const isTurned = at % 16 < 8 && at >= 16;
      const pair = [table[at], table[at + 1]];
      if (isTurned) expect(pair).not.toEqual([1, 0]);
      else expect(pair).toEqual([1, 0]);
      expect([resting[at], resting[at + 1]]).toEqual([1, 0]);
    }
  });
});
