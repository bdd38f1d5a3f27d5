import type { Clock } from '@bridgekeeper/bridge';
import type { Driver } from '@bridgekeeper/native';
import type { DeviceEvent, Graph } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { ImposedLaw } from '../law/imposed-law.ts';
import { CopyCounters } from './copies/copy.ts';
import type { Hold } from './copies/hold.ts';
import type { Completions } from './handles/completions.ts';
import { CudaEvent, CudaGraph, createStream } from './handles/handles.ts';
import type { Kernels } from './kernels/kernels.ts';
import type { Matmul } from './matmul/matmul.ts';
import type { MatmulTuner } from './matmul/matmul-tuner.ts';
import type { Memory } from './memory.ts';

export interface CoreParts {
  readonly driver: Driver;
  readonly clock: Clock;
  /** On the launching thread; null: launches and crossings cost what they cost. */
  readonly imposed: ImposedLaw | null;
  readonly memory: Memory;
  readonly completions: Completions;
  readonly kernels: Kernels;
  readonly matmul: Matmul;
  readonly tuner: MatmulTuner;
  readonly gpu: GpuTraits;
}

/** What of a GPU decides which kernels it is given, and how many blocks of them. */
export interface GpuTraits {
  readonly multiprocessors: number;
  /** What a block may have where it asks for it, the kernel's own declarations included. */
  readonly sharedBytesOfBlock: number;
  /** Compute capability 9.0 or newer: kernels may be launched with programmatic dependence. */
  readonly launchesDependent: boolean;
  /** Compute capability 9.0 alone: warpgroups multiply. Blackwell does not have it any more. */
  readonly hasWarpgroupProducts: boolean;
  /** Compute capability 8.9 or newer: FP8 can be converted. */
  readonly readsFp8: boolean;
}

/** What the streams and lanes of one device share on the launching thread. */
export class Core {
  readonly driver: Driver;
  readonly clock: Clock;
  /** On the launching thread; null: launches and crossings cost what they cost. */
  readonly imposed: ImposedLaw | null;
  readonly memory: Memory;
  readonly completions: Completions;
  readonly kernels: Kernels;
  readonly matmul: Matmul;
  readonly tuner: MatmulTuner;
  readonly gpu: GpuTraits;
  readonly copies = new CopyCounters();
  launches = 0;
  graphLaunches = 0;
  /** For our own small work. Nothing makes it wait. */
  readonly #service: bigint;
  #isOpen = true;

  constructor(parts: CoreParts) {
    this.driver = parts.driver;
    this.clock = parts.clock;
    this.imposed = parts.imposed;
    this.memory = parts.memory;
    this.completions = parts.completions;
    this.kernels = parts.kernels;
    this.matmul = parts.matmul;
    this.tuner = parts.tuner;
    this.gpu = parts.gpu;
    this.#service = createStream(this.driver, 'highest');
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  assertOpen(): void {
    if (!this.#isOpen) throw new DeviceError('closed', 'the cuda device is closed');
  }

  /** From here on every use is refused. */
  shut(): void {
    this.#isOpen = false;
  }

  /** Sets device memory to zero before it returns, also beside a capture. */
  clearNow(address: bigint, bytes: number): void {
    this.driver.besideCapture(() => {
      this.driver.call('cuMemsetD8Async', address, 0, bytes, this.#service);
      this.driver.call('cuStreamSynchronize', this.#service);
    });
  }

  /** Sets device memory to zero. */
  async clear(address: bigint, bytes: number): Promise<void> {
    this.driver.call('cuMemsetD8Async', address, 0, bytes, this.#service);
    await this.completions.reach(this.#service);
  }

  release(hold: Hold): void {
    hold.releaseAll(this.#service);
  }

  event(event: DeviceEvent): CudaEvent {
    if (event instanceof CudaEvent) return event;
    throw new DeviceError('bad-argument', `event ${event.id} is of another device`);
  }

  graph(graph: Graph): CudaGraph {
    if (graph instanceof CudaGraph) return graph;
    throw new DeviceError('bad-argument', `graph "${graph.label}" is of another device`);
  }

  /** Frees what the core owns. The context must still be there, and nothing run in it. */
  close(): void {
    this.kernels.close();
    this.matmul.close();
    this.memory.close();
    this.driver.release('cuStreamDestroy_v2', this.#service);
  }
}
