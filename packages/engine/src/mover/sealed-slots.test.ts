import { describe, expect, test } from 'vitest';
import { type Identity, SealedSlots, type SlotFile } from './sealed-slots.ts';

const SLOT = 64;
const page = (value: number) => new Uint8Array(SLOT).fill(value);
const mine: Identity = { tenant: 'a', part: 'context', fromBytes: 0, key: 'k' };

/** A disk of memory, whose owner may do with it what they like. */
class HostileDisk implements SlotFile {
  readonly bytes = Buffer.alloc(8 * SLOT);
  code: string | null = null;

  write(position: number, bytes: Uint8Array): void {
    if (this.code !== null) throw Object.assign(new Error('no'), { code: this.code });
    this.bytes.set(bytes, position);
  }

  read(position: number, bytes: Uint8Array): void {
    if (this.code !== null) throw Object.assign(new Error('no'), { code: this.code });
    bytes.set(this.bytes.subarray(position, position + bytes.length));
  }
}

function opened() {
  const disk = new HostileDisk();
  const slots = new SealedSlots(disk, 'a model');
  const read = (position: number, identity = mine) => {
    const target = page(0xee);
    return { failure: slots.read(position, identity, target), bytes: target };
  };
  return { disk, slots, read };
}

test('what was written is read, and what is on the disk says nothing of it', () => {
  const { disk, slots, read } = opened();
  expect(slots.write(SLOT, mine, page(7))).toBeNull();
  expect(read(SLOT)).toEqual({ failure: null, bytes: page(7) });
  const first = Buffer.from(disk.bytes);
  expect(slots.write(SLOT, mine, page(7))).toBeNull();
  // The same page, the same slot: another nonce.
  expect(disk.bytes.equals(first)).toBe(false);
  expect(disk.bytes.includes(Buffer.from(page(7).subarray(0, 8)))).toBe(false);
});

describe('is refused, and nothing of it is given out:', () => {
  const refused = { failure: 'not-authentic', bytes: page(0) };

  test('a page with any bit changed', () => {
    for (let byte = 0; byte < SLOT; byte += 9) {
      const { disk, slots, read } = opened();
      slots.write(0, mine, page(7));
      disk.bytes[byte]! ^= 1 << (byte % 8);
      expect(read(0)).toEqual(refused);
    }
  });

  test('an older page of the same slot and content', () => {
    const { disk, slots, read } = opened();
    slots.write(0, mine, page(7));
    const old = Buffer.from(disk.bytes);
    slots.write(0, mine, page(8));
    disk.bytes.set(old);
    expect(read(0)).toEqual(refused);
  });

  test('pages that changed places', () => {
    const { disk, slots, read } = opened();
    slots.write(0, mine, page(7));
    slots.write(SLOT, mine, page(8));
    const first = Buffer.from(disk.bytes.subarray(0, SLOT));
    disk.bytes.copyWithin(0, SLOT, 2 * SLOT);
    disk.bytes.set(first, SLOT);
    expect([read(0), read(SLOT)]).toEqual([refused, refused]);
  });

  test('what is of another tenant, part, piece or content', () => {
    const changes = [{ tenant: 'b' }, { part: 'state' }, { fromBytes: 64 }, { key: 'l' }] as const;
    for (const change of changes) {
      const { slots, read } = opened();
      slots.write(0, mine, page(7));
      expect(read(0, { ...mine, ...change })).toEqual(refused);
      expect(read(0)).toEqual({ failure: null, bytes: page(7) });
    }
  });

  test('a page of another process, or from before the key was erased', () => {
    const { disk, slots, read } = opened();
    slots.write(0, mine, page(7));
    const other = new SealedSlots(disk, 'a model');
    const target = page(0xee);
    // It has no proof of anything.
    expect(other.read(0, mine, target)).toBe('not-authentic');
    expect(target).toEqual(page(0xee));
    slots.dropAll();
    expect(read(0).failure).toBe('not-authentic');
  });
});

test('a slot that could not be written holds nothing', () => {
  const { disk, slots, read } = opened();
  slots.write(0, mine, page(7));
  const failures = { ENOSPC: 'disk-full', EDQUOT: 'disk-full', EIO: 'disk-failed' };
  for (const [code, failure] of Object.entries(failures)) {
    disk.code = code;
    expect(slots.write(0, mine, page(8))).toBe(failure);
    disk.code = null;
    expect(read(0).failure).toBe('not-authentic');
  }
});

test('a disk that cannot be read is no more than that', () => {
  const { disk, slots, read } = opened();
  slots.write(0, mine, page(7));
  disk.code = 'EIO';
  expect(read(0).failure).toBe('disk-failed');
  disk.code = null;
  expect(read(0)).toEqual({ failure: null, bytes: page(7) });
});
