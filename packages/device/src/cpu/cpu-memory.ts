import type { HostMemoryKind } from '@bridgekeeper/bridge';
import type { DeviceBuffer, HostBuffer, HostHandle, Slice, UploadTarget } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { BufferStorage, SliceRef } from './messages.ts';
import { allocateForSimd } from './simd/simd-matmul.ts';

const ALIGNMENT = 256;
/** Smaller weights are multiplied fast enough without SIMD. */
const SIMD_BUFFER_MIN_BYTES = 65_536;

/** Host memory that lanes in other threads reach, too. */
class CpuHostBuffer implements HostBuffer {
  readonly id: number;
  readonly memory: HostMemoryKind;
  readonly bytes: Uint8Array;
  readonly label: string;
  readonly shared: SharedArrayBuffer;
  /** It has never crossed. */
  isFresh = true;

  constructor(id: number, shared: SharedArrayBuffer, memory: HostMemoryKind, label: string) {
    this.id = id;
    this.shared = shared;
    this.memory = memory;
    this.bytes = new Uint8Array(shared);
    this.label = label;
  }
}

/** All memory of one device: who has it, how much there is. */
export class CpuMemory {
  readonly limitBytes: number;
  readonly #threads: number;
  readonly #buffers = new Map<number, BufferStorage>();
  readonly #hosts = new Map<number, CpuHostBuffer>();
  #nextId = 1;
  #allocatedBytes = 0;

  /** `threads`: how many will compute. */
  constructor(limitBytes: number, threads: number) {
    this.limitBytes = limitBytes;
    this.#threads = threads;
  }

  get allocatedBytes(): number {
    return this.#allocatedBytes;
  }

  /** Throws DeviceError `bad-argument` or `out-of-memory`. */
  allocate(bytes: number, label: string): { buffer: DeviceBuffer; storage: BufferStorage } {
    const taken = occupied(bytes, label);
    const left = this.limitBytes - this.#allocatedBytes;
    if (taken > left) {
      throw new DeviceError(
        'out-of-memory',
        `no room for "${label}" of ${bytes} bytes on the cpu device: ${left} of ` +
          `${this.limitBytes} bytes are left`,
      );
    }
    const wasm = bytes < SIMD_BUFFER_MIN_BYTES ? null : allocateForSimd(bytes, this.#threads);
    const storage = { bytes, shared: wasm?.buffer ?? share(bytes, label), wasm };
    const buffer = { id: this.#nextId, bytes, label };
    this.#nextId += 1;
    this.#buffers.set(buffer.id, storage);
    this.#allocatedBytes += taken;
    return { buffer, storage };
  }

  /** Throws DeviceError `bad-argument` when the buffer is not, or no longer, allocated here. */
  free(buffer: DeviceBuffer): void {
    this.find(buffer);
    this.#buffers.delete(buffer.id);
    this.#allocatedBytes -= occupied(buffer.bytes, buffer.label);
  }

  find(buffer: DeviceBuffer): SharedArrayBuffer {
    const storage = this.#buffers.get(buffer.id);
    if (storage === undefined || storage.bytes !== buffer.bytes) {
      throw new DeviceError('bad-argument', `"${buffer.label}" is not allocated on this device`);
    }
    return storage.shared;
  }

  allocateHost(bytes: number, memory: HostMemoryKind, label: string): CpuHostBuffer {
    occupied(bytes, label);
    const host = new CpuHostBuffer(this.#nextId, share(bytes, label), memory, label);
    this.#nextId += 1;
    this.#hosts.set(host.id, host);
    return host;
  }

  freeHost(host: HostBuffer): void {
    this.findHost(host, 0, 0);
    this.#hosts.delete(host.id);
  }

  hostHandle(host: HostBuffer): HostHandle {
    const { shared, bytes } = this.findHost(host, 0, 0);
    return { kind: 'shared', memory: shared, bytes: bytes.length };
  }

  /** The buffer behind `host`, of which [offset, offset + bytes) will be used. */
  findHost(host: HostBuffer, offsetBytes: number, bytes: number): CpuHostBuffer {
    const found = this.#hosts.get(host.id);
    if (found !== host) {
      throw new DeviceError('bad-argument', `host memory "${host.label}" is not of this device`);
    }
    if (!(offsetBytes >= 0 && offsetBytes + bytes <= found.bytes.length)) {
      throw new DeviceError(
        'bad-argument',
        `[${offsetBytes}, +${bytes}) lies outside "${host.label}" of ${found.bytes.length} bytes`,
      );
    }
    return found;
  }

  /** Checks a slice and names it for other threads. */
  readonly refer = ({ buffer, offsetBytes, bytes }: Slice): SliceRef => {
    this.find(buffer);
    if (!(offsetBytes >= 0 && bytes >= 0 && offsetBytes + bytes <= buffer.bytes)) {
      throw new DeviceError(
        'bad-argument',
        `[${offsetBytes}, +${bytes}) lies outside "${buffer.label}" of ${buffer.bytes} bytes`,
      );
    }
    return { id: buffer.id, offsetBytes, bytes };
  };

  uploadTarget(slice: Slice): UploadTarget {
    const { offsetBytes, bytes } = this.refer(slice);
    return { kind: 'shared', memory: this.find(slice.buffer), offsetBytes, bytes };
  }

  clear(): void {
    this.#buffers.clear();
    this.#hosts.clear();
    this.#allocatedBytes = 0;
  }
}

/** Bytes as they are counted: buffers are aligned, so they take whole blocks. */
function occupied(bytes: number, label: string): number {
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new DeviceError('bad-argument', `"${label}" cannot have ${bytes} bytes`);
  }
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

function share(bytes: number, label: string): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(bytes);
  } catch (cause) {
    throw new DeviceError(
      'out-of-memory',
      `the system has no ${bytes} bytes for "${label}": free memory or choose a smaller size`,
      { cause },
    );
  }
}
