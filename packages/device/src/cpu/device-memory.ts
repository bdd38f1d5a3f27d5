import type { BufferStorage, SliceRef } from './messages.ts';
import { SimdMatmul } from './simd/simd-matmul.ts';

/**
 * Device memory as a compute worker sees it: buffers by id, and typed views of exactly the sizes
 * asked for.
 */
export class DeviceMemory {
  readonly #buffers = new Map<number, BufferStorage>();
  /** One per buffer of weights, made when it is first multiplied by. */
  readonly #matmuls = new Map<number, SimdMatmul>();

  add(id: number, storage: BufferStorage): void {
    this.#buffers.set(id, storage);
  }

  remove(id: number): void {
    this.#buffers.delete(id);
    this.#matmuls.delete(id);
  }

  /** The first `length` floats of a slice. Throws RangeError when it holds fewer. */
  f32(slice: SliceRef, length: number): Float32Array {
    return new Float32Array(this.#room(slice, length * 4), slice.offsetBytes, length);
  }

  u16(slice: SliceRef, length: number): Uint16Array {
    return new Uint16Array(this.#room(slice, length * 2), slice.offsetBytes, length);
  }

  u8(slice: SliceRef, length: number): Uint8Array {
    return new Uint8Array(this.#room(slice, length), slice.offsetBytes, length);
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

  /** SIMD for weights in a buffer, or null where it has none. */
  simdMatmul(id: number): SimdMatmul | null {
    const storage = this.#buffers.get(id);
    if (storage === undefined || storage.wasm === null) return null;
    const matmul = this.#matmuls.get(id) ?? new SimdMatmul(storage.wasm, storage.bytes);
    this.#matmuls.set(id, matmul);
    return matmul;
  }

  #room(slice: SliceRef, bytes: number): SharedArrayBuffer {
    const storage = this.#buffers.get(slice.id);
    if (storage === undefined) throw new RangeError(`buffer ${slice.id} was freed`);
    if (bytes > slice.bytes) {
      throw new RangeError(`a slice of ${slice.bytes} bytes was given where ${bytes} are needed`);
    }
    return storage.shared;
  }
}
