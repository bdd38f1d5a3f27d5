import { invariant } from '@bridgekeeper/bridge';
import type { UploaderStart } from '../device.ts';
import { UPLOADS_MAX, type Upload, type UploadEngine } from '../uploader.ts';
import { CopyCounters } from './copy.ts';
import { CUDA, type Driver, openDriver } from './ffi/driver.ts';
import { createStream } from './streams.ts';

/** Copies on a stream of this thread's own in the launching thread's context. */
export class CudaUploadEngine implements UploadEngine {
  readonly #driver: Driver;
  readonly #counters: CopyCounters;
  readonly #stream: bigint;
  /** What the last copies are marked with, in turn. */
  readonly #events: readonly bigint[];

  constructor(start: UploaderStart & { readonly kind: 'native' }) {
    this.#driver = openDriver(start.driverPath);
    this.#driver.call('cuCtxSetCurrent', start.context);
    this.#counters = new CopyCounters(start.counters);
    this.#stream = createStream(this.#driver, 'normal');
    this.#events = Array.from(
      { length: UPLOADS_MAX },
      () => this.#driver.read('cuEventCreate', CUDA.EVENT_DISABLE_TIMING).pointer,
    );
  }

  begin(upload: Upload, number: number): void {
    const { host, hostOffsetBytes, device, deviceOffsetBytes, bytes } = upload;
    invariant(host.kind === 'native' && device.kind === 'native', 'memory of a GPU has addresses');
    const to = device.address + BigInt(deviceOffsetBytes);
    const from = host.address + BigInt(hostOffsetBytes);
    this.#driver.call('cuMemcpyHtoDAsync_v2', to, from, bytes, this.#stream);
    this.#driver.call('cuEventRecord', this.#events[number % UPLOADS_MAX]!, this.#stream);
    this.#counters.count({ direction: 'h2d', bytes });
  }

  await(number: number): void {
    this.#driver.call('cuEventSynchronize', this.#events[number % UPLOADS_MAX]!);
  }

  close(): void {
    this.#driver.release('cuStreamSynchronize', this.#stream);
    for (const event of this.#events) this.#driver.release('cuEventDestroy_v2', event);
    this.#driver.release('cuStreamDestroy_v2', this.#stream);
  }
}
