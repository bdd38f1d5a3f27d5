import { bf16FromF32, f32FromBf16 } from '../bf16.ts';
import {
  bytesPerElement,
  type Device,
  type DeviceBuffer,
  type DeviceRank,
  type ElementType,
  type HostBuffer,
  type Lane,
  type Slice,
  type Stream,
  slice,
} from '../device.ts';
import type { OpArgs, OpName } from '../ops.ts';
import { sampleUniform } from '../random.ts';
import { type ContractCase, expectThat, type MadeOnce } from './case.ts';

/**
 * Bytes after every slice that a kernel must leave alone, and what they hold. All ones is a NaN in
 * f32 and bf16.
 */
const GUARD_BYTES = 256;
const POISON = 0xff;
const GUARD = new Uint8Array(GUARD_BYTES).fill(POISON);

/** Repeatable random numbers of one case. */
export class Dice {
  readonly #seed: number;
  /** How many numbers were drawn: with the seed, which. */
  draws = 0;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** In [0, 1). */
  uniform(): number {
    this.draws += 1;
    return sampleUniform(this.#seed, 0x5eed, this.draws);
  }

  /** An integer in [low, high]. */
  integer(low: number, high: number): number {
    return low + Math.floor(this.uniform() * (high - low + 1));
  }

  /** Uniform in [-scale, scale). */
  values(count: number, scale = 1): Float32Array {
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = scale * (2 * this.uniform() - 1);
    return values;
  }

  /** The numbers 0 to count - 1 in random order. */
  permutation(count: number): number[] {
    const order = Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const other = this.integer(0, i);
      [order[i], order[other]] = [order[other]!, order[i]!];
    }
    return order;
  }
}

/**
 * What a case needs around a device: a stream, arrays up and down with guards, and everything freed
 * at the end.
 */
export class Workbench {
  readonly device: Device;
  readonly stream: Stream;
  readonly element: ElementType;
  /** Relative error allowed to arithmetic of this element type. */
  readonly tolerance: number;
  readonly dice: Dice;
  readonly #buffers: DeviceBuffer[] = [];
  readonly #hosts: HostBuffer[] = [];
  readonly #idle: HostBuffer[] = [];
  readonly #made: MadeOnce | undefined;
  readonly #name: string;

  constructor(device: Device, seed = 1, name = '', made?: MadeOnce) {
    this.#made = made;
    this.#name = name;
    this.device = device;
    this.stream = device.createStream('contract');
    this.element = device.info.element;
    this.tolerance = this.element === 'f32' ? 1e-5 : 1e-2;
    this.dice = new Dice(seed);
  }

  /**
   * What `make` makes of the numbers drawn so far and those that it draws; `what` tells it from
   * others that begin at the same numbers. Another device of this element type may have left it
   * here: it must not be written to.
   */
  once<T>(what: string, make: () => T): T {
    const key = [this.#name, this.element, this.dice.draws, what].join('\n');
    const known = this.#made?.get(key);
    if (known !== undefined) {
      this.dice.draws = known.draws;
      return known.value as T;
    }
    const value = make();
    this.#made?.set(key, { value, draws: this.dice.draws });
    return value;
  }

  launch<Name extends OpName>(name: Name, args: OpArgs[Name]): void {
    this.stream.launch(name, args);
  }

  host(bytes: number, label = 'contract host'): HostBuffer {
    const buffer = this.device.allocateHost(bytes, 'pinned', label);
    this.#hosts.push(buffer);
    return buffer;
  }

  /**
   * Random values that the device's element type holds exactly, so that references see the same
   * inputs.
   */
  random(count: number, scale = 1): Float32Array {
    const values = this.dice.values(count, scale);
    return this.element === 'bf16' ? f32FromBf16(bf16FromF32(values)) : values;
  }

  /** Device memory of `bytes`, full of NaN, with a guard behind it. */
  async poisoned(bytes: number, label = 'contract output'): Promise<Slice> {
    return this.uploadBytes(new Uint8Array(bytes).fill(POISON), label);
  }

  /** Poisoned room for `count` values of `type`, by default the device's own. */
  async output(count: number, type: ElementType = this.element): Promise<Slice> {
    return this.poisoned(count * bytesPerElement(type));
  }

  async upload(values: Float32Array, type: ElementType = this.element): Promise<Slice> {
    return this.uploadBytes(bytesOf(type === 'f32' ? values : bf16FromF32(values)));
  }

  async uploadWords(words: ArrayLike<number>): Promise<Slice> {
    return this.uploadBytes(bytesOf(Int32Array.from(words)));
  }

  async uploadBytes(bytes: Uint8Array, label = 'contract input'): Promise<Slice> {
    const buffer = this.device.allocate(bytes.length + GUARD_BYTES, label);
    this.#buffers.push(buffer);
    await this.#staged(buffer.bytes, async (host) => {
      host.bytes.set(bytes);
      host.bytes.set(GUARD, bytes.length);
      await this.copy(this.device.inlineLane, 'h2d', slice(buffer), host);
    });
    return slice(buffer, 0, bytes.length);
  }

  /** Lends host memory, which is used again: new pages cost far more than what crosses them. */
  async #staged<T>(bytes: number, use: (host: HostBuffer) => Promise<T>): Promise<T> {
    const known = this.#idle.findIndex((host) => host.bytes.length >= bytes);
    const [host = this.host(bytes)] = known < 0 ? [] : this.#idle.splice(known, 1);
    const result = await use(host);
    this.#idle.push(host);
    return result;
  }

  /** Writes `bytes` over the start of `target` through the inline lane. */
  async rewrite(target: Slice, bytes: Uint8Array): Promise<void> {
    await this.#staged(bytes.length, async (host) => {
      host.bytes.set(bytes);
      await this.copy(this.device.inlineLane, 'h2d', { ...target, bytes: bytes.length }, host);
    });
  }

  async copy(
    lane: Lane,
    direction: 'h2d' | 'd2h',
    device: Slice,
    host: HostBuffer,
    hostOffsetBytes = 0,
    stream: Stream = this.stream,
  ) {
    const request = { direction, device, host, hostOffsetBytes, stream } as const;
    return lane.copy({ ...request, purpose: 'probe', tenant: 'contract' });
  }

  /** The bytes of a slice that this workbench made; fails when something wrote behind it. */
  async downloadBytes(source: Slice): Promise<Uint8Array> {
    const { buffer, offsetBytes, bytes } = source;
    return this.#staged(buffer.bytes, async (host) => {
      await this.copy(this.device.inlineLane, 'd2h', slice(buffer), host);
      const guard = host.bytes.subarray(buffer.bytes - GUARD_BYTES, buffer.bytes);
      const broken = guard.findIndex((byte) => byte !== POISON);
      const where = `past the end of "${buffer.label}"`;
      expectThat(broken < 0, `an operation wrote ${broken} bytes ${where}`);
      // A copy that is not shared, whatever the device's memory is.
      return new Uint8Array(host.bytes.subarray(offsetBytes, offsetBytes + bytes));
    });
  }

  async download(source: Slice, type: ElementType = this.element): Promise<Float32Array> {
    const { buffer } = await this.downloadBytes(source);
    return type === 'f32' ? new Float32Array(buffer) : f32FromBf16(new Uint16Array(buffer));
  }

  async downloadWords(source: Slice): Promise<Int32Array> {
    return new Int32Array((await this.downloadBytes(source)).buffer);
  }

  /** Writes what one rank has of a slice, and no other. */
  async writeRank({ device, part }: DeviceRank, target: Slice, bytes: Uint8Array): Promise<void> {
    const host = device.allocateHost(bytes.length, 'pinned', 'contract upload to a rank');
    host.bytes.set(bytes);
    const own = { ...target, buffer: part(target.buffer), bytes: bytes.length };
    await this.stream.synchronize();
    await this.copy(device.inlineLane, 'h2d', own, host, 0, device.createStream('to a rank'));
    device.freeHost(host);
  }

  /** What one rank has of a slice, once everything queued is done. */
  async downloadRank({ device, part }: DeviceRank, source: Slice): Promise<Uint8Array> {
    const host = device.allocateHost(source.bytes, 'pinned', 'contract download from a rank');
    const own = { ...source, buffer: part(source.buffer) };
    await this.stream.synchronize();
    await this.copy(device.inlineLane, 'd2h', own, host, 0, device.createStream('from a rank'));
    const bytes = new Uint8Array(host.bytes);
    device.freeHost(host);
    return bytes;
  }

  async numbersOf(rank: DeviceRank, source: Slice): Promise<Float32Array> {
    const { buffer } = await this.downloadRank(rank, source);
    return this.element === 'f32' ? new Float32Array(buffer) : f32FromBf16(new Uint16Array(buffer));
  }

  /** Frees what the case allocated. */
  dispose(): void {
    for (const buffer of this.#buffers) this.device.free(buffer);
    for (const host of this.#hosts) this.device.freeHost(host);
  }
}

/** A case on a fresh workbench. */
export function benchCase(
  name: string,
  needs: 'arithmetic' | 'no arithmetic',
  run: (bench: Workbench) => Promise<void>,
): ContractCase {
  return {
    name,
    arithmetic: needs === 'arithmetic',
    closesDevice: false,
    run: async (device, made) => {
      const bench = new Workbench(device, name.length, name, made);
      try {
        await run(bench);
        await bench.stream.synchronize();
      } finally {
        bench.dispose();
      }
    },
  };
}

/** The bytes of a typed array's own part of its buffer. */
export function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
