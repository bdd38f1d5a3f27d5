import type { SliceRef } from './messages.ts';

/**
 * Device memory as a compute worker sees it: buffers by id, and typed views of exactly the sizes
 * asked for.
 */
export class DeviceMemory {
  readonly #buffers = new Map<number, SharedArrayBuffer>();

  add(id: number, memory: SharedArrayBuffer): void {
    this.#buffers.set(id, memory);
  }

  remove(id: number): void {
    this.#buffers.delete(id);
  }

  /** The first `length` floats of a slice. Throws RangeError when it holds fewer. */
  f32(slice: SliceRef, length: number): Float32Array {
    return new Float32Array(this.#room(slice, length * 4), slice.offsetBytes, length);
  }

  u16(slice: SliceRef, length: number): Uint16Array {
    return new Uint16Array(this.#room(slice, length * 2), slice.offsetBytes, length);
  }

  i32(slice: SliceRef, length: number): Int32Array {
    return new Int32Array(this.#room(slice, length * 4), slice.offsetBytes, length);
  }

  /** All the words of a slice. */
  words(slice: SliceRef): Int32Array {
    return this.i32(slice, Math.floor(slice.bytes / 4));
  }

  /** All the floats of a slice. */
  floats(slice: SliceRef): Float32Array {
    return this.f32(slice, Math.floor(slice.bytes / 4));
  }

  #room(slice: SliceRef, bytes: number): SharedArrayBuffer {
    const memory = this.#buffers.get(slice.id);
    if (memory === undefined) throw new RangeError(`buffer ${slice.id} was freed`);
    if (bytes > slice.bytes) {
      throw new RangeError(`a slice of ${slice.bytes} bytes was given where ${bytes} are needed`);
    }
    return memory;
  }
}
