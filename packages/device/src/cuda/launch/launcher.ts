import { invariant } from '@bridgekeeper/bridge';
import type { Slice } from '../../device.ts';
import { DeviceError } from '../../errors.ts';
import type { Core } from '../core.ts';
import type { KernelDefines, KernelName, WantedKernel } from '../kernels/kernel-source.ts';
import type { MatmulOperands, MatmulShape } from '../matmul/matmul.ts';
import { LaunchConfiguration, type LaunchShape } from './launch-configuration.ts';
import { ParameterBlock } from './parameters.ts';

/** Slices passed to operations start at multiples of this. */
const SLICE_ALIGNMENT_BYTES = 16;
const GRID_LIMIT = 65_535;

/** Puts kernels on one stream, with scratch memory that no other stream uses. */
export class Launcher {
  readonly core: Core;
  readonly stream: bigint;
  readonly #configuration: LaunchConfiguration;
  readonly #block = new ParameterBlock();
  readonly #scratch = new Map<string, { address: bigint; bytes: number }>();
  #previous: KernelName | null = null;
  /** Filled while operations are rehearsed. */
  #rehearsed: WantedKernel[] | null = null;

  constructor(core: Core, stream: bigint) {
    this.core = core;
    this.stream = stream;
    this.#configuration = new LaunchConfiguration(stream, core.gpu.launchesDependent);
  }

  /** The kernel that was launched last, where nothing but kernels of ours came after it. */
  get previous(): KernelName | null {
    return this.#previous;
  }

  /** An empty parameter block; each launch fills it anew. */
  get parameters(): ParameterBlock {
    return this.#block.start();
  }

  /**
   * The address of a slice that must hold `bytes` at the least. Throws DeviceError `bad-argument`.
   */
  address(what: string, slice: Slice, bytes: number): bigint {
    if (slice.bytes < bytes) {
      throw new DeviceError(
        'bad-argument',
        `${what} needs ${bytes} bytes of "${slice.buffer.label}" and got ${slice.bytes}`,
      );
    }
    if (slice.offsetBytes % SLICE_ALIGNMENT_BYTES !== 0) {
      throw new DeviceError(
        'bad-argument',
        `${what} starts at byte ${slice.offsetBytes} of "${slice.buffer.label}": ` +
          `offsets must be multiples of ${SLICE_ALIGNMENT_BYTES}`,
      );
    }
    return this.core.memory.address(slice);
  }

  /** Memory for the time of one operation: its contents do not outlive it. */
  scratch(purpose: string, bytes: number): bigint {
    let scratch = this.#scratch.get(purpose);
    if (scratch === undefined || scratch.bytes < bytes) {
      // What is outgrown stays until the device closes: captured graphs may still write to it.
      scratch = { address: this.core.memory.allocateScratch(bytes, purpose), bytes };
      this.#scratch.set(purpose, scratch);
    }
    return scratch.address;
  }

  /** The same, all zeros before its first use: for counters that kernels leave at zero. */
  zeroedScratch(purpose: string, bytes: number): bigint {
    const before = this.#scratch.get(purpose)?.address;
    const address = this.scratch(purpose, bytes);
    if (address !== before) this.core.clearNow(address, bytes);
    return address;
  }

  /** Launches a kernel whose parameters are in `block`. A grid without blocks launches nothing. */
  launch(
    name: KernelName,
    shape: LaunchShape,
    block: ParameterBlock,
    defines?: KernelDefines,
  ): void {
    const [x, y = 1, z = 1] = shape.grid;
    if (x === 0 || y === 0 || z === 0) return;
    invariant(y <= GRID_LIMIT && z <= GRID_LIMIT, `${name} with a grid of ${x} x ${y} x ${z}`);
    if (this.#rehearsed !== null) {
      this.#rehearsed.push({ name, defines });
      return;
    }
    const { driver, kernels } = this.core;
    const kernel = kernels.get(name, defines, shape.sharedBytes);
    driver.call('cuLaunchKernelEx', this.#configuration.fill(shape), kernel, null, block.finish());
    this.#previous = name;
  }

  /** The library's product. false: it has none for this shape. */
  product(shape: MatmulShape, operands: MatmulOperands): boolean {
    this.#previous = null;
    return this.#rehearsed !== null || this.core.matmul.launch(shape, operands);
  }

  /** Copies within device memory. */
  copy(to: bigint, from: bigint, bytes: number): void {
    if (this.#rehearsed !== null) return;
    this.#previous = null;
    this.core.driver.call('cuMemcpyDtoDAsync_v2', to, from, bytes, this.stream);
  }

  /** The kernels that operations of `record` launch; none of them is. */
  rehearse(record: () => void): readonly WantedKernel[] {
    const wanted: WantedKernel[] = [];
    this.#rehearsed = wanted;
    try {
      record();
    } finally {
      this.#rehearsed = null;
    }
    return wanted;
  }
}
