import { CUDA, type Driver } from '@bridgekeeper/native/threads';
import type { UploaderStart } from '../../device.ts';
import { DeviceError } from '../../errors.ts';
import { UPLOADS_MAX, type Upload, type UploadEngine } from '../../uploader.ts';
import { CopyCounters } from '../copies/copy.ts';
import { openDriver } from '../native.ts';

/**
 * Copies in the launching thread's context, each on the stream that its target is for. Whatever
 * this module imports is loaded by every thread that copies, while nothing crosses yet.
 */
export class CudaUploadEngine implements UploadEngine {
  readonly #driver: Driver;
  readonly #counters: CopyCounters;
  /** What the last copies are marked with, in turn. */
  readonly #events: readonly bigint[];

  constructor(start: UploaderStart & { readonly kind: 'native' }) {
    this.#driver = openDriver(start.driverPath);
    this.#driver.call('cuCtxSetCurrent', start.context);
    this.#counters = new CopyCounters(start.counters);
    this.#events = Array.from(
      { length: UPLOADS_MAX },
      () => this.#driver.read('cuEventCreate', CUDA.EVENT_DISABLE_TIMING).pointer,
    );
  }

  begin({ host, hostOffsetBytes, target, targetOffsetBytes, bytes }: Upload, number: number) {
    if (host.kind !== 'native' || target.kind !== 'native') {
      throw new DeviceError('bad-argument', 'a GPU copies from pinned memory to memory of its own');
    }
    const { stream } = target;
    const to = target.address + BigInt(targetOffsetBytes);
    const from = host.address + BigInt(hostOffsetBytes);
    this.#driver.call('cuMemcpyHtoDAsync_v2', to, from, bytes, stream);
    this.#driver.call('cuEventRecord', this.#events[number % UPLOADS_MAX]!, stream);
    this.#counters.count({ direction: 'h2d', bytes });
  }

  await(number: number): void {
    this.#driver.call('cuEventSynchronize', this.#events[number % UPLOADS_MAX]!);
  }

  close(): void {
    for (const event of this.#events) this.#driver.release('cuEventDestroy_v2', event);
  }
}
