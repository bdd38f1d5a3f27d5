import { expect, it } from 'vitest';
import { copied } from './copied.ts';

it('copies messages as structuredClone does', () => {
  const whole = new Uint8Array([1, 2, 3, 4]);
  const message = {
    kind: 'events',
    events: [{ id: 'a', tokens: [1, 2], finish: undefined, error: null }],
    bytes: whole.subarray(1, 3),
    numbers: new Float64Array([1.5]),
    map: new Map([['key', { deep: [1n] }]]),
    when: new Date(0),
  };
  const copy = copied(message);
  expect(copy).toStrictEqual(structuredClone(message));
  copy.events[0]!.tokens.push(3);
  copy.bytes[0] = 9;
  expect(message.events[0]!.tokens).toEqual([1, 2]);
  expect(whole[1]).toBe(2);
});

it('shares shared memory, and refuses functions', () => {
  const shared = new Uint8Array(new SharedArrayBuffer(4));
  copied({ shared }).shared[0] = 7;
  expect(shared[0]).toBe(7);
  expect(() => copied({ act: () => undefined })).toThrow();
});
