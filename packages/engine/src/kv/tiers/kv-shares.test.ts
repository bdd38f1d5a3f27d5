import { expect, test } from 'vitest';
import { type KvShare, sumOfKvShares } from './kv-shares.ts';

const restored = (from: 'host' | 'disk', tokens: number): KvShare => {
  return { what: 'restored', from, tokens };
};
const slower = (tokens: number): KvShare => {
  return { what: 'recomputed', why: 'lane_slower', tokens };
};

test('shares alike are one, and what was given up after all is none', () => {
  const shares = [restored('host', 64), restored('disk', 16), restored('host', 32)];
  expect(sumOfKvShares(shares)).toEqual([restored('host', 96), restored('disk', 16)]);
  const givenUp = [...shares, restored('disk', -16), slower(16)];
  expect(sumOfKvShares(givenUp)).toEqual([restored('host', 96), slower(16)]);
});

test('who gives up what another asked for has restored no less than nothing', () => {
  expect(sumOfKvShares([restored('host', -48), slower(48)])).toEqual([slower(48)]);
});
