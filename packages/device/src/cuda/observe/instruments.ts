import { FORBIDDEN_FEATURES, type ForbiddenFeature } from '@bridgekeeper/bridge';
import { DeviceError } from '../../errors.ts';
import type { BatchTimes, BridgeInstruments, FeatureVerdict, PeerRate } from '../../instruments.ts';
import { type Copy, issueCopy } from '../copies/copy.ts';
import type { Core } from '../core.ts';
import { createStream } from '../handles/handles.ts';
import { FeatureTrials } from './feature-trials.ts';
import { timePeers } from './peers.ts';

/** sizeof(CUmemcpyAttributes): access order, two location hints, flags. */
const COPY_ATTRIBUTES_BYTES = 24;
/** CU_MEMCPY_SRC_ACCESS_ORDER_STREAM of cuda.h. */
const ORDER_OF_STREAM = 1;

/** The instruments of one GPU. */
export class CudaInstruments implements BridgeInstruments {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  timeContext(): { createNs: number; destroyNs: number } {
    const { driver, clock } = this.#core;
    const device = this.#device();
    const startedNs = clock.nowNs();
    // It becomes this thread's current context until it is destroyed.
    const context = driver.read('cuCtxCreate_v2', 0, device).pointer;
    const createdNs = clock.nowNs();
    driver.call('cuCtxDestroy_v2', context);
    return { createNs: createdNs - startedNs, destroyNs: clock.nowNs() - createdNs };
  }

  tryFeatures(): FeatureVerdict[] {
    const trials = new FeatureTrials(this.#core, this.#device());
    return FORBIDDEN_FEATURES.map((feature) => this.#tryFeature(feature, trials));
  }

  #tryFeature(feature: ForbiddenFeature, trials: FeatureTrials): FeatureVerdict {
    try {
      return { feature, ...trials.try(feature) };
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      const pending = this.#clearPending();
      const detail = pending === null ? error.message : `${error.message}; then ${pending}`;
      return { feature, works: false, detail };
    }
  }

  /** A refused call can leave an error behind that the next one trips over: it may trip here. */
  #clearPending(): string | null {
    try {
      this.#core.driver.call('cuCtxSynchronize');
      return null;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  timeBatch(count: number, bytes: number): BatchTimes {
    const { driver, memory, copies, clock } = this.#core;
    const batch = driver.optional('cuMemcpyBatchAsync', BATCH_TYPES);
    if (batch === null) {
      throw new DeviceError('unsupported', 'this driver has no cuMemcpyBatchAsync (CUDA 12.8)');
    }
    const stream = createStream(driver, 'normal');
    const device = memory.allocateScratch(count * bytes, 'batched copies');
    const host = memory.allocateHost(count * bytes, 'pinned', 'batched copies');
    const from = memory.host(host).address;
    const crossing = { direction: 'h2d', bytes, purpose: 'probe', tenant: 'probe' } as const;
    const copyOf = (index: number): Copy => ({
      crossing: { ...crossing, memory: 'pinned' },
      deviceAddress: device + BigInt(index * bytes),
      hostAddress: from + BigInt(index * bytes),
      hostIsFresh: false,
    });
    const timeNs = (action: () => void): number => {
      driver.call('cuStreamSynchronize', stream);
      const startedNs = clock.nowNs();
      action();
      driver.call('cuStreamSynchronize', stream);
      return clock.nowNs() - startedNs;
    };
    try {
      const indices = Array.from({ length: count }, (_, index) => index);
      const oneByOneNs = timeNs(() => {
        for (const index of indices) issueCopy(driver, copies, copyOf(index), stream);
      });
      const targets = BigUint64Array.from(indices, (index) => copyOf(index).deviceAddress);
      const sources = BigUint64Array.from(indices, (index) => copyOf(index).hostAddress);
      const sizes = BigUint64Array.from(indices, () => BigInt(bytes));
      const attributes = Buffer.alloc(COPY_ATTRIBUTES_BYTES);
      attributes.writeInt32LE(ORDER_OF_STREAM);
      const first = new BigUint64Array(1);
      const failed = new BigUint64Array(1);
      const batchNs = timeNs(() => {
        batch(targets, sources, sizes, count, attributes, first, 1, failed, stream);
        for (const index of indices) copies.count(copyOf(index).crossing);
      });
      return { batchNs, oneByOneNs };
    } finally {
      driver.release('cuStreamSynchronize', stream);
      memory.freeHost(host);
      memory.freeScratch(device);
      driver.release('cuStreamDestroy_v2', stream);
    }
  }

  timePeers(bytes: number): PeerRate[] {
    return timePeers(this.#core, this.#device(), bytes);
  }

  /** CUdevice of the current context. */
  #device(): number {
    const { driver } = this.#core;
    // Another GPU may have been used on this thread meanwhile.
    driver.makeCurrent();
    const get = driver.optional('cuCtxGetDevice', ['pointer']);
    const cell = new Int32Array(1);
    get?.(cell);
    return cell[0]!;
  }
}

const BATCH_TYPES = [
  ...(['pointer', 'pointer', 'pointer', 'u64', 'pointer'] as const),
  ...(['pointer', 'u64', 'pointer', 'u64'] as const),
] as const;
