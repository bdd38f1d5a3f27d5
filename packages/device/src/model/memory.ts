import type { HostMemoryKind } from '@bridgekeeper/bridge';
import type { DeviceBuffer, HostBuffer, Slice } from '../device.ts';
import { DeviceError } from '../errors.ts';

/**
 * Buffers above this (weights, KV, activations) keep no contents unless bookkeeping needs them. A
 * command is written before it is first read: gpt-oss's for 256 rows of 65,536 tokens has 23 MiB.
 * What a probe copies has 64 MiB, and copying it for real takes minutes.
 */
const KEPT_BYTES_MAX = 48 * 1024 * 1024;
/** Less is kept whatever it is. */
const BLANK_BYTES_MIN = 1024 * 1024;
const ALIGNMENT_BYTES = 256;

/** Modelled device memory: real bytes exist from the first time that someone will read them. */
export class ModelBuffer implements DeviceBuffer {
  readonly id: number;
  readonly bytes: number;
  readonly label: string;
  isFreed = false;
  #contents: ArrayBuffer | undefined;
  #all: Uint8Array | undefined;
  /** By offset. Making a view costs more than the bookkeeping that it is for. */
  readonly #views = new Map<number, Int32Array>();

  constructor(id: number, bytes: number, label: string) {
    this.id = id;
    this.bytes = bytes;
    this.label = label;
  }

  /** What it takes of the device's memory. */
  get reservedBytes(): number {
    return Math.ceil(this.bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
  }

  /** The contents, kept from now on. */
  get contents(): ArrayBuffer {
    this.#contents ??= new ArrayBuffer(Math.ceil(this.bytes / 4) * 4);
    return this.#contents;
  }

  words(offsetBytes: number, bytes: number): Int32Array {
    const count = Math.floor(bytes / 4);
    let view = this.#views.get(offsetBytes);
    if (view === undefined || view.length !== count) {
      view = new Int32Array(this.contents, offsetBytes, count);
      this.#views.set(offsetBytes, view);
    }
    return view;
  }

  /** Whether anybody has written or looked at what is there. */
  get hasContents(): boolean {
    return this.#contents !== undefined;
  }

  /** The contents as bytes: making a view of them for each copy is slow. */
  get all(): Uint8Array {
    this.#all ??= new Uint8Array(this.contents);
    return this.#all;
  }

  write(offsetBytes: number, source: Uint8Array): void {
    if (this.#contents === undefined && (this.bytes > KEPT_BYTES_MAX || isBlank(source))) return;
    this.all.set(source, offsetBytes);
  }

  release(): void {
    this.isFreed = true;
    this.#contents = undefined;
    this.#all = undefined;
    this.#views.clear();
  }
}

/**
 * Whether much is written that is there anyway, where nothing was written yet: tables that nobody
 * reads here are zeros, and keeping them takes longer than the rest of an engine's start.
 */
function isBlank({ buffer, byteOffset, length }: Uint8Array): boolean {
  if (length < BLANK_BYTES_MIN || byteOffset % 4 !== 0 || length % 4 !== 0) return false;
  const words = new Int32Array(buffer, byteOffset, length / 4);
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
  return true;
}

export class ModelHostBuffer implements HostBuffer {
  readonly id: number;
  readonly memory: HostMemoryKind;
  readonly bytes: Uint8Array;
  readonly label: string;
  readonly shared: SharedArrayBuffer;
  isFreed = false;
  /** Never crossed yet. */
  isFresh = true;

  constructor(id: number, bytes: number, memory: HostMemoryKind, label: string) {
    this.id = id;
    this.memory = memory;
    // Other threads may fill it, as they may with any device's.
    this.shared = new SharedArrayBuffer(bytes);
    this.bytes = new Uint8Array(this.shared);
    this.label = label;
  }
}

/** The live buffer of a slice. Throws DeviceError `bad-argument` for any other. */
export function bufferOf({ buffer, offsetBytes, bytes }: Slice): ModelBuffer {
  if (!(buffer instanceof ModelBuffer)) {
    throw new DeviceError('bad-argument', `"${buffer.label}" is not memory of this device`);
  }
  if (buffer.isFreed) {
    throw new DeviceError('bad-argument', `"${buffer.label}" was freed already`);
  }
  if (!(offsetBytes >= 0 && bytes >= 0 && offsetBytes + bytes <= buffer.bytes)) {
    throw new DeviceError(
      'bad-argument',
      `[${offsetBytes}, +${bytes}) lies outside "${buffer.label}" of ${buffer.bytes} bytes`,
    );
  }
  return buffer;
}

/** The words of a slice as they are now and will be: later writes show through. */
export function wordsOf(slice: Slice): Int32Array {
  return bufferOf(slice).words(slice.offsetBytes, slice.bytes);
}

/** The same, as floats. */
export function floatsOf(slice: Slice): Float32Array {
  const { contents } = bufferOf(slice);
  return new Float32Array(contents, slice.offsetBytes, Math.floor(slice.bytes / 4));
}
