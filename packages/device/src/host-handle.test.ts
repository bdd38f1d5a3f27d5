import { OutCell } from '@bridgekeeper/native';
import { openNativeLibrary } from '@bridgekeeper/native/testing';
import { describe, expect, it } from 'vitest';
import { READ_BYTES, readInThread } from './contract/reader.ts';
import type { HostHandle } from './device.ts';
import { openHostHandle } from './host-handle.ts';

const PAGE = 4096;

/** Native memory from the C library, as drivers allocate it: V8 knows nothing of it. */
function nativeMemory(bytes: number): HostHandle {
  const library = openNativeLibrary('libc.so.6');
  const { posix_memalign } = library.bind({ posix_memalign: ['pointer', 'u64', 'u64'] });
  const cell = new OutCell();
  expect(posix_memalign(cell.bytes, PAGE, bytes)).toBe(0);
  return { kind: 'native', address: cell.pointer, bytes };
}

const shared: HostHandle = {
  kind: 'shared',
  memory: new SharedArrayBuffer(PAGE),
  bytes: READ_BYTES.length,
};

describe.each([
  ['native', nativeMemory(READ_BYTES.length)],
  ['shared', shared],
] as const)('%s host memory', (_, handle) => {
  it('is seen alike by every view of it, here and in other threads', async () => {
    const [first, second] = [openHostHandle(handle), openHostHandle(handle)];
    first.fill(7);
    expect(second.every((byte) => byte === 7)).toBe(true);
    expect(await readInThread(handle)).toBe(READ_BYTES.length);
    expect(first).toEqual(new Uint8Array(READ_BYTES));
    first[0] = 99;
    expect(second[0]).toBe(99);
    // The threads that had views of it have ended, and it is still there.
    await Promise.all([readInThread(handle), readInThread(handle)]);
    expect(second).toEqual(new Uint8Array(READ_BYTES));
  });
});
