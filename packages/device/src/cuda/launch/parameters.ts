import { invariant } from '@bridgekeeper/bridge';
import { addressOf } from '@bridgekeeper/native';

/** More than any of our kernels takes; CUDA's own limit is 4 KiB. */
const MAX_PARAMETER_BYTES = 512;
/**
 * CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE and CU_LAUNCH_PARAM_END of cuda.h.
 */
const BUFFER_POINTER = 1n;
const BUFFER_SIZE = 2n;
const END = 0n;

/**
 * The parameters of one kernel launch, packed as its C++ signature lays them out (natural
 * alignment). The driver copies them while it launches, so that one block serves every launch.
 */
export class ParameterBlock {
  readonly #bytes = new DataView(new ArrayBuffer(MAX_PARAMETER_BYTES));
  readonly #size = new BigUint64Array(new ArrayBuffer(8));
  readonly #extra = new BigUint64Array(new ArrayBuffer(40));
  #end = 0;

  constructor() {
    this.#extra.set([
      BUFFER_POINTER,
      addressOf(this.#bytes),
      BUFFER_SIZE,
      addressOf(this.#size),
      END,
    ]);
  }

  start(): this {
    this.#end = 0;
    return this;
  }

  pointers(...addresses: readonly bigint[]): this {
    for (const address of addresses) this.#bytes.setBigUint64(this.#take(8), address, true);
    return this;
  }

  ints(...values: readonly number[]): this {
    for (const value of values) this.#bytes.setInt32(this.#take(4), value, true);
    return this;
  }

  longs(...values: readonly number[]): this {
    for (const value of values) this.#bytes.setBigInt64(this.#take(8), BigInt(value), true);
    return this;
  }

  floats(...values: readonly number[]): this {
    for (const value of values) this.#bytes.setFloat32(this.#take(4), value, true);
    return this;
  }

  /** What cuLaunchKernel takes as `extra`. */
  finish(): BigUint64Array {
    this.#size[0] = BigInt(this.#end);
    return this.#extra;
  }

  #take(bytes: number): number {
    const offset = Math.ceil(this.#end / bytes) * bytes;
    this.#end = offset + bytes;
    invariant(this.#end <= MAX_PARAMETER_BYTES, 'a kernel with more parameters than a block holds');
    return offset;
  }
}
