import { expect, test } from 'vitest';
import { type Bytes, toHex } from '../../core/bytes.ts';
import { AttestError } from '../../core/errors.ts';
import { fuzz } from './fuzz.ts';

const bases = [Uint8Array.from({ length: 40 }, (_, i) => i), new Uint8Array(8).fill(0xaa)];

test('the same seed gives the same inputs, none of which is a base', async () => {
  const inputsOf = async (seed: number) => {
    const inputs: string[] = [];
    await fuzz(seed, 500, bases, (input) => inputs.push(toHex(input)));
    return inputs;
  };
  const inputs = await inputsOf(1);
  expect(await inputsOf(1)).toEqual(inputs);
  expect(await inputsOf(2)).not.toEqual(inputs);
  expect(new Set(inputs).size).toBeGreaterThan(300);
});

test('refusals are counted by code, and any other error is found', async () => {
  const parse = (input: Bytes) => {
    if (input.length < 20) throw new AttestError('malformed', 'short');
  };
  const { tried, read, refused } = await fuzz(3, 500, bases, parse);
  expect(tried).toBe(500);
  expect(read + refused.malformed!).toBe(500);
  const broken = (input: Bytes) => {
    if (input[0] === 0xff) throw new RangeError('a bug');
  };
  const found = fuzz(4, 5_000, bases, broken);
  await expect(found).rejects.toMatchObject({ name: 'FuzzError', cause: new RangeError('a bug') });
  const rejecting = fuzz(4, 5_000, bases, async (input) => broken(input));
  await expect(rejecting).rejects.toThrow('seed 4');
});
