import type { HostMemoryKind } from '@bridgekeeper/bridge';
import { addressOf, CUDA, type Driver } from '@bridgekeeper/native';
import type { DeviceBuffer, HostBuffer, HostHandle, Slice } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { openHostHandle } from '../host-handle.ts';

/** cuMemAlloc aligns to this or better. */
const ALIGNMENT_BYTES = 256;

interface CudaBuffer extends DeviceBuffer {
  readonly address: bigint;
}

export interface CudaHostBuffer extends HostBuffer {
  readonly address: bigint;
  /** How other threads reach it. */
  readonly handle: HostHandle;
  /** No crossing has used it yet. */
  isFresh: boolean;
}

/** Device and host memory of one device: every address that reaches the driver comes from here. */
export class Memory {
  readonly #driver: Driver;
  readonly #buffers = new Map<DeviceBuffer, CudaBuffer>();
  readonly #hosts = new Map<HostBuffer, CudaHostBuffer>();
  readonly #scratch = new Set<bigint>();
  readonly #isLawImposed: boolean;
  /** Of the GPUs whose memory kernels of this one reach. */
  readonly #peers: Memory[] = [];
  #nextId = 1;
  #allocatedBytes = 0;

  /**
   * Under an imposed law pageable memory is pinned as well: the law says what crossing from it
   * costs, and the machine's own way with pages must not be slower than that.
   */
  constructor(driver: Driver, isLawImposed = false) {
    this.#driver = driver;
    this.#isLawImposed = isLawImposed;
  }

  get allocatedBytes(): number {
    return this.#allocatedBytes;
  }

  allocate(bytes: number, label: string): DeviceBuffer {
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new DeviceError('bad-argument', `"${label}": ${bytes} is no size of a buffer`);
    }
    const rounded = Math.max(Math.ceil(bytes / ALIGNMENT_BYTES), 1) * ALIGNMENT_BYTES;
    const address = this.#allocateRaw(rounded, label);
    const buffer: CudaBuffer = { id: this.#nextId++, bytes, label, address };
    this.#buffers.set(buffer, buffer);
    this.#allocatedBytes += bytes;
    return buffer;
  }

  #allocateRaw(bytes: number, label: string): bigint {
    try {
      return this.#driver.besideCapture(() => this.#driver.read('cuMemAlloc_v2', bytes).pointer);
    } catch (cause) {
      if (!(cause instanceof DeviceError) || cause.code !== 'out-of-memory') throw cause;
      const freeBytes = this.#driver.read('cuMemGetInfo_v2', Buffer.alloc(8)).size;
      throw new DeviceError(
        'out-of-memory',
        `"${label}" needs ${bytes} bytes of GPU memory, and ${freeBytes} are free: ` +
          'lower the context length, the batch or the share of memory for KV',
        { cause },
      );
    }
  }

  /**
   * Memory of our own, beside what users allocate; in use until the device closes unless freed
   * before.
   */
  allocateScratch(bytes: number, purpose: string): bigint {
    const address = this.#allocateRaw(bytes, `scratch for ${purpose}`);
    this.#scratch.add(address);
    return address;
  }

  freeScratch(address: bigint): void {
    if (this.#scratch.delete(address)) this.#driver.release('cuMemFree_v2', address);
  }

  free(buffer: DeviceBuffer): void {
    const known = this.#buffers.get(buffer);
    if (known === undefined) {
      throw new DeviceError('bad-argument', `"${buffer.label}" is not allocated on this device`);
    }
    this.#buffers.delete(buffer);
    this.#allocatedBytes -= known.bytes;
    this.#driver.call('cuMemFree_v2', known.address);
  }

  allocateHost(bytes: number, memory: HostMemoryKind, label: string): HostBuffer {
    if (!Number.isSafeInteger(bytes) || bytes < 1) {
      throw new DeviceError('bad-argument', `"${label}": ${bytes} is no size of a host buffer`);
    }
    const id = this.#nextId++;
    let handle: HostHandle;
    let address: bigint;
    if (memory === 'pinned' || this.#isLawImposed) {
      const flags = CUDA.HOST_ALLOC_PORTABLE;
      address = this.#driver.read('cuMemHostAlloc', bytes, flags).pointer;
      handle = { kind: 'native', address, bytes };
    } else {
      // Shared, so that its address holds for as long as anyone has the buffer, on any thread.
      const shared = new SharedArrayBuffer(bytes);
      address = addressOf(new Uint8Array(shared));
      handle = { kind: 'shared', memory: shared, bytes };
    }
    const view = openHostHandle(handle);
    const host = { id, memory, bytes: view, label, address, handle, isFresh: true };
    this.#hosts.set(host, host);
    return host;
  }

  freeHost(buffer: HostBuffer): void {
    const known = this.host(buffer);
    this.#hosts.delete(buffer);
    if (known.handle.kind === 'native') this.#driver.call('cuMemFreeHost', known.address);
  }

  host(buffer: HostBuffer): CudaHostBuffer {
    const known = this.#hosts.get(buffer);
    if (known === undefined) {
      throw new DeviceError('bad-argument', `host buffer "${buffer.label}" is not allocated here`);
    }
    return known;
  }

  /** From now on, buffers of a linked GPU are good for kernels of this one, too. */
  link(peer: Memory): void {
    this.#peers.push(peer);
  }

  #find(buffer: DeviceBuffer): CudaBuffer | undefined {
    const own = this.#buffers.get(buffer);
    if (own !== undefined) return own;
    for (const peer of this.#peers) {
      const known = peer.#buffers.get(buffer);
      if (known !== undefined) return known;
    }
    return undefined;
  }

  /**
   * Where a slice starts. Throws DeviceError `bad-argument` unless it lies in a live buffer of this
   * device, or of one that is linked with it.
   */
  address(slice: Slice): bigint {
    const { buffer, offsetBytes, bytes } = slice;
    const known = this.#find(buffer);
    if (known === undefined) {
      throw new DeviceError('bad-argument', `"${buffer.label}" is not allocated on this device`);
    }
    if (offsetBytes < 0 || bytes < 0 || offsetBytes + bytes > known.bytes) {
      throw new DeviceError(
        'bad-argument',
        `slice [${offsetBytes}, +${bytes}) lies outside "${buffer.label}" of ${known.bytes} bytes`,
      );
    }
    return known.address + BigInt(offsetBytes);
  }

  close(): void {
    for (const { address } of this.#buffers.values()) this.#driver.release('cuMemFree_v2', address);
    for (const address of this.#scratch) this.#driver.release('cuMemFree_v2', address);
    for (const { memory, address } of this.#hosts.values()) {
      if (memory === 'pinned') this.#driver.release('cuMemFreeHost', address);
    }
    this.#buffers.clear();
    this.#hosts.clear();
    this.#scratch.clear();
    this.#allocatedBytes = 0;
  }
}
