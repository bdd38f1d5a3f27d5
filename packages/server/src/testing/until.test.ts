import { expect, test } from 'vitest';
import { until } from './until.ts';

test('waiting ends when the condition holds', async () => {
  let asked = 0;
  await until('it was asked three times', async () => ++asked === 3);
  expect(asked).toBe(3);
});

test('waiting for what never comes fails, and says what that was', async () => {
  const never = until('the sea is dry', () => false, 0);
  await expect(never).rejects.toThrow('waited 0 s until the sea is dry');
});
