import type { HostMemoryKind } from '@bridgekeeper/bridge';
import type { DeviceBuffer, HostBuffer, Slice } from '../device.ts';
import { DeviceError } from '../errors.ts';

/**
 * Buffers above this (weights, KV, activations) keep no contents unless bookkeeping needs them.
 * What a probe copies has 64 MiB, and copying it for real takes minutes.
 */
const KEPT_BYTES_MAX = 48 * 1024 * 1024;
/** Less is kept whatever it is. */
const BLANK_BYTES_MIN = 1024 * 1024;
const ALIGNMENT_BYTES = 256;

/** The same memory, as bytes and as words. */
export interface Views {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
}

/** `buffer` is as long as whole words are. */
export function viewsOf(buffer: ArrayBuffer | SharedArrayBuffer): Views {
  return { bytes: new Uint8Array(buffer), words: new Int32Array(buffer) };
}

/** Bytes of the words that so many bytes take. */
export const wholeWords = (bytes: number) => Math.ceil(bytes / 4) * 4;

/** So much is copied word by word: a step's results, for which making a view takes longer. */
const BY_WORDS_MAX = 2048;

export function copyBytes(
  from: Views,
  fromOffset: number,
  to: Views,
  toOffset: number,
  bytes: number,
): void {
  if (bytes > BY_WORDS_MAX || ((fromOffset | toOffset | bytes) & 3) !== 0) {
    to.bytes.set(from.bytes.subarray(fromOffset, fromOffset + bytes), toOffset);
    return;
  }
  const source = from.words;
  const target = to.words;
  const first = fromOffset >> 2;
  const at = toOffset >> 2;
  const count = bytes >> 2;
  for (let i = 0; i < count; i++) target[at + i] = source[first + i]!;
}

/** Modelled device memory: real bytes exist from the first time that someone will read them. */
export class ModelBuffer implements DeviceBuffer {
  readonly id: number;
  readonly bytes: number;
  readonly label: string;
  isFreed = false;
  #contents: ArrayBuffer | undefined;
  #viewed: Views | undefined;
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
    this.#contents ??= new ArrayBuffer(wholeWords(this.bytes));
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

  /** The contents, in views that are made once: making one for each copy is slow. */
  get views(): Views {
    this.#viewed ??= viewsOf(this.contents);
    return this.#viewed;
  }

  /** As bytes. */
  get all(): Uint8Array {
    return this.views.bytes;
  }

  /**
   * Takes in `bytes` bytes of `source`. `isNeeded`: bookkeeping will read them, however many there
   * are; commands of long contexts take more than a probe's copies.
   */
  write(
    offsetBytes: number,
    source: Views,
    sourceOffset: number,
    bytes: number,
    isNeeded = false,
  ): void {
    if (this.#contents === undefined && !isNeeded) {
      const from = source.bytes.subarray(sourceOffset, sourceOffset + bytes);
      if (this.bytes > KEPT_BYTES_MAX || isBlank(from)) return;
    }
    copyBytes(source, sourceOffset, this.views, offsetBytes, bytes);
  }

  release(): void {
    this.isFreed = true;
    this.#contents = undefined;
    this.#viewed = undefined;
    this.#views.clear();
  }
}

/**
 * Whether much is written that is there anyway, where nothing was written yet: tables that nobody
 * reads here are zeros, and keeping them takes longer than the rest of an engine's start.
 */
function isBlank(bytes: Uint8Array): boolean {
  if (bytes.length < BLANK_BYTES_MIN || bytes[0] !== 0) return false;
  // Each byte is like the one before it: comparing memory is faster than looking at words.
  return Buffer.compare(bytes.subarray(1), bytes.subarray(0, -1)) === 0;
}

/**
 * Modelled host memory. It is there from the first time that someone looks: what is never written
 * would take none, but adds up to more than a machine has, which keeps the system from starting
 * processes.
 */
export class ModelHostBuffer implements HostBuffer {
  readonly id: number;
  readonly memory: HostMemoryKind;
  readonly label: string;
  readonly sizeBytes: number;
  isFreed = false;
  /** Never crossed yet. */
  isFresh = true;
  #shared: SharedArrayBuffer | undefined;
  #bytes: Uint8Array | undefined;
  #views: Views | undefined;

  constructor(id: number, sizeBytes: number, memory: HostMemoryKind, label: string) {
    this.id = id;
    this.sizeBytes = sizeBytes;
    this.memory = memory;
    this.label = label;
  }

  /** Other threads may fill it, as they may with any device's. */
  get shared(): SharedArrayBuffer {
    this.#shared ??= new SharedArrayBuffer(wholeWords(this.sizeBytes));
    return this.#shared;
  }

  get bytes(): Uint8Array {
    this.#bytes ??= new Uint8Array(this.shared, 0, this.sizeBytes);
    return this.#bytes;
  }

  get views(): Views {
    this.#views ??= viewsOf(this.shared);
    return this.#views;
  }

  /** Whether anybody has written or looked at what is there. Otherwise it is zeros. */
  get hasContents(): boolean {
    return this.#shared !== undefined;
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
