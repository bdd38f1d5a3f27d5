import { describe, expect, test } from 'vitest';
import { unshared } from './engine-channel.ts';

describe('what is sent to another process', () => {
  test('has no memory that threads share, wherever it lies, and is the same else', () => {
    const shared = new Uint32Array(new SharedArrayBuffer(8));
    shared.set([3, 4]);
    const own = Uint8Array.of(1, 2);
    const sent = { list: [{ shared }], own, count: 2n, none: null, missing: undefined };
    const copy = unshared(sent);
    expect(copy).toEqual({ ...sent, list: [{ shared: Uint32Array.of(3, 4) }] });
    expect(copy.list[0]!.shared.buffer).toBeInstanceOf(ArrayBuffer);
    expect(copy.own).toBe(own);
    shared[0] = 9;
    expect(copy.list[0]!.shared[0]).toBe(3);
  });
});
