import { describe, expect, it } from 'vitest';
import { Repetition } from './repetition.ts';

const text = (tokens: readonly number[]) => Uint32Array.from(tokens);

describe('how a text repeats itself', () => {
  it('is nothing where no tokens come again', () => {
    const repetition = new Repetition(2, 1000);
    repetition.follow(text(Array.from({ length: 1000 }, (_, i) => i)), 10);
    expect(repetition.chance).toBe(0);
    expect(repetition.acceptedOf(4)).toBe(0);
  });

  it('is nearly certain where an answer says what its prompt said', () => {
    const prompt = Array.from({ length: 100 }, (_, i) => i);
    const repetition = new Repetition(2, 200);
    repetition.follow(text([...prompt, ...prompt]), prompt.length);
    // The first two find the place.
    expect(repetition.chance).toBeCloseTo(1 - 0.8 ** 98, 9);
    expect(repetition.acceptedOf(4)).toBeCloseTo(4, 6);
  });

  it('is the same however often it looks', () => {
    const tokens = Array.from({ length: 300 }, (_, i) => (i * i) % 7);
    const once = new Repetition(3, 300);
    once.follow(text(tokens), 20);
    const often = new Repetition(3, 300);
    for (let length = 1; length <= 300; length++) often.follow(text(tokens.slice(0, length)), 20);
    expect(often.chance).toBe(once.chance);
    expect(once.chance).toBeGreaterThan(0.9);
  });

  it('adds up what is expected of one draft after the other', () => {
    const repetition = new Repetition(1, 10);
    // Once right, at a fifth of the weight.
    repetition.follow(text([1, 1, 1]), 2);
    expect(repetition.chance).toBeCloseTo(0.2, 9);
    expect(repetition.acceptedOf(3)).toBeCloseTo(0.2 + 0.04 + 0.008, 9);
  });

  it('forgets places of texts that are longer than it remembers', () => {
    const repetition = new Repetition(2, 1 << 20);
    const long = Array.from({ length: 1 << 18 }, (_, i) => i);
    repetition.follow(text([...long, 0, 1, 2, 3]), long.length);
    expect(repetition.chance).toBeLessThan(0.5);
  });
});
