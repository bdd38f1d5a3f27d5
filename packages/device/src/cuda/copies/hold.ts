import { CUDA, type Driver } from '@bridgekeeper/native/threads';

/**
 * A word of device memory that counts the copies a lane has finished. A stream that waits for the
 * n-th is blocked on the GPU until the lane's thread has written n: no thread of ours waits.
 * Lanes write from streams of the highest priority, which share no hardware queue with the streams
 * that wait.
 */
export class Hold {
  readonly address: bigint;
  readonly #driver: Driver;
  #placed = 0;

  constructor(driver: Driver, address: bigint) {
    this.#driver = driver;
    this.address = address;
  }

  /** Lets go every stream that waits. `stream` must not be one of them. */
  releaseAll(stream: bigint): void {
    const { address } = this;
    this.#driver.release('cuStreamWriteValue32_v2', stream, address, this.#placed >>> 0, 0);
  }

  /** Later work of `stream` waits for the copy whose number this returns. */
  place(stream: bigint): number {
    this.#placed = (this.#placed + 1) | 0;
    const flags = CUDA.WAIT_VALUE_GEQ;
    this.#driver.call('cuStreamWaitValue32_v2', stream, this.address, this.#placed >>> 0, flags);
    return this.#placed;
  }
}

/** Lets every stream go on that waits for copy `number` or an earlier one. */
export function releaseHold(driver: Driver, address: bigint, number: number, stream: bigint): void {
  driver.call('cuStreamWriteValue32_v2', stream, address, number >>> 0, 0);
}
