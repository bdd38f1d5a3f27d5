import type {
  Clock,
  CrossingRecord,
  Direction,
  HostMemoryKind,
  Law,
  Purpose,
} from '@bridgekeeper/bridge';
import type { OpArgs, OpName } from './ops.ts';

export type DeviceKind = 'cpu' | 'cuda' | 'model';

/**
 * How a device stores weights, activations and KV. Logits, norms' sums and row state are never
 * narrower than f32.
 */
export type ElementType = 'f32' | 'bf16';

export function bytesPerElement(type: ElementType): number {
  return type === 'f32' ? 4 : 2;
}

export interface DeviceInfo {
  readonly kind: DeviceKind;
  /** As the driver or the operating system names it. */
  readonly name: string;
  readonly element: ElementType;
  /** Memory that buffers may take: of each rank, where there are several. */
  readonly memoryBytes: number;
  /**
   * How many do every launch together, each on memory of its own that it names alike: GPUs of one
   * host, mostly. 1 for a device alone.
   */
  readonly ranks: number;
  /** Tokens a KV page holds unless told otherwise: what this device's attention likes best. */
  readonly preferredPageTokens: number;
  /** Large buffers have no contents: what crosses to or from them is nothing. Absent: they have. */
  readonly isHollow?: boolean;
  /** Facts for reports (driver, architecture, cores); never parsed. */
  readonly details: Readonly<Record<string, string | number | boolean>>;
}

/** Device memory. Contents are undefined until written. */
export interface DeviceBuffer {
  readonly id: number;
  readonly bytes: number;
  readonly label: string;
}

/** Part of a buffer. Offsets of slices passed to operations are multiples of 16. */
export interface Slice {
  readonly buffer: DeviceBuffer;
  readonly offsetBytes: number;
  readonly bytes: number;
}

/**
 * The whole buffer, or `bytes` of it from `offsetBytes`. Throws RangeError when that is outside.
 */
export function slice(
  buffer: DeviceBuffer,
  offsetBytes = 0,
  bytes = buffer.bytes - offsetBytes,
): Slice {
  if (offsetBytes < 0 || bytes < 0 || offsetBytes + bytes > buffer.bytes) {
    throw new RangeError(
      `slice [${offsetBytes}, +${bytes}) lies outside "${buffer.label}" of ${buffer.bytes} bytes`,
    );
  }
  return { buffer, offsetBytes, bytes };
}

/** Whether an operation's argument is memory; others are numbers, words, null and lists. */
export function isSlice(value: unknown): value is Slice {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether it is several pieces of memory; other lists are of numbers. */
export function isSliceList(value: unknown): value is readonly Slice[] {
  return Array.isArray(value) && isSlice(value[0]);
}

/** The ranks of a device alone. */
export function onlyRank(device: Device): readonly DeviceRank[] {
  return [{ device, part: (buffer) => buffer, stream: (stream) => stream }];
}

/** Host memory that lanes copy from and to. `bytes` stays readable until `free`. */
export interface HostBuffer {
  readonly id: number;
  readonly memory: HostMemoryKind;
  readonly bytes: Uint8Array;
  readonly label: string;
}

/**
 * Names host memory to other threads of this process, which get it by a message and open it with
 * openHostHandle. Ends with the buffer that it is of.
 */
export type HostHandle =
  | { readonly kind: 'shared'; readonly memory: SharedArrayBuffer; readonly bytes: number }
  | { readonly kind: 'native'; readonly address: bigint; readonly bytes: number };

/**
 * Where an Uploader on another thread may put bytes: plain data. Ends with the buffer and the
 * stream that it is of.
 */
export type UploadTarget =
  | {
      readonly kind: 'shared';
      readonly memory: SharedArrayBuffer;
      readonly offsetBytes: number;
      readonly bytes: number;
    }
  | {
      readonly kind: 'native';
      readonly address: bigint;
      readonly bytes: number;
      readonly stream: bigint;
    };

/** What another thread of this process opens an Uploader with: plain data. */
export type UploaderStart = {
  readonly clockOrigin: readonly [seconds: number, nanoseconds: number];
} & (
  | { readonly kind: 'shared'; readonly control: SharedArrayBuffer }
  | {
      readonly kind: 'native';
      readonly driverPath: string;
      readonly context: bigint;
      readonly counters: SharedArrayBuffer;
    }
);

/** What an uploader's thread saw of one copy: `completedNs` is when it looked. */
export type UploadedCopy = Pick<
  CrossingRecord,
  'bytes' | 'issuedNs' | 'startedNs' | 'completedNs' | 'issuerBlockedNs'
>;

/** A point in a stream's work. */
export interface DeviceEvent {
  readonly id: number;
}

/** Operations recorded once, launched many times with the same arguments. */
export interface Graph {
  readonly id: number;
  readonly label: string;
  /** Operations in it. */
  readonly length: number;
}

/** An operation with its arguments. */
export type Launch = {
  readonly [Name in OpName]: { readonly name: Name; readonly args: OpArgs[Name] };
}[OpName];

/** Work done in the order it was given. Launching never waits for the work. */
export interface Stream {
  readonly id: number;
  readonly label: string;
  launch<Name extends OpName>(name: Name, args: OpArgs[Name]): void;
  /** Each in turn. Devices may keep what they make of a list that they are given again. */
  launchEach(launches: readonly Launch[]): void;
  launchGraph(graph: Graph): void;
  /** Marks the work launched so far. */
  record(event: DeviceEvent): void;
  /** Later work of this stream starts after what `event` marked. */
  wait(event: DeviceEvent): void;
  /**
   * Resolves when all work launched so far is done; rejects with DeviceError if any of it failed.
   */
  synchronize(): PromiseLike<void>;
}

/**
 * One copy for a lane to make. It starts after the work queued on `stream`, and later work of
 * `stream` after it. Where `stream` is null no stream has to do with it: what it needs is there
 * when it is asked for, and who needs it awaits it.
 */
export interface CopyRequest {
  readonly direction: Direction;
  readonly device: Slice;
  readonly host: HostBuffer;
  readonly hostOffsetBytes: number;
  readonly stream: Stream | null;
  readonly purpose: Purpose;
  readonly tenant: string;
}

/**
 * An OS thread with a context and its channel, making crossings one at a time.
 * The inline lane is the launching thread itself, which the law may block inside `copy`;
 * a worker lane blocks only its own thread.
 */
export interface Lane {
  readonly id: string;
  readonly kind: 'inline' | 'worker';
  /** Issues the copy before it returns; the promise resolves when the bytes have arrived. */
  copy(request: CopyRequest): PromiseLike<CrossingRecord>;
  close(): Promise<void>;
}

export interface LaneOptions {
  readonly label: string;
  /**
   * A context of its own has a channel of its own; on a shared one, copies serialise with the
   * launching thread's.
   */
  readonly context: 'own' | 'shared';
}

/** What the device itself counted, independently of lanes and ledger. */
export interface DeviceCounters {
  readonly h2dBytes: number;
  readonly d2hBytes: number;
  readonly copies: number;
  readonly launches: number;
  readonly graphLaunches: number;
  readonly allocatedBytes: number;
}

/** One of those that do every launch together, by itself: what each has of its own goes there. */
export interface DeviceRank {
  readonly device: Device;
  /** What it has of a buffer that was allocated on all. */
  part(buffer: DeviceBuffer): DeviceBuffer;
  /** Where what all launch on a stream comes to it. */
  stream(stream: Stream): Stream;
}

export interface Device {
  readonly info: DeviceInfo;
  /**
   * Those whose memory differs. A device alone is its only one, and so is a virtual one, whose
   * ranks are all alike.
   */
  readonly ranks: readonly DeviceRank[];
  readonly clock: Clock;
  /** What is imposed on crossings and launches; null: nothing, they cost what they cost. */
  readonly law: Law | null;
  /** How it got ready, for people: may grow while it prepares. */
  readonly notes: readonly string[];
  /** The launching thread's own lane. */
  readonly inlineLane: Lane;
  /** Throws DeviceError `out-of-memory`. Buffers are aligned to 256 bytes. */
  allocate(bytes: number, label: string): DeviceBuffer;
  free(buffer: DeviceBuffer): void;
  allocateHost(bytes: number, memory: HostMemoryKind, label: string): HostBuffer;
  freeHost(buffer: HostBuffer): void;
  /** For another thread to fill or read the buffer. Throws DeviceError `bad-argument`. */
  hostHandle(buffer: HostBuffer): HostHandle;
  /**
   * For an Uploader on another thread. What it copies after this resolved follows the work queued
   * on `stream` before; work queued after the copy was made sees it. Throws DeviceError
   * `bad-argument`.
   */
  uploadTarget(slice: Slice, stream: Stream): Promise<UploadTarget>;
  /**
   * For threads that copy up what they read or computed by themselves, in the launching context
   * (openUploader). null where a law is imposed: there all crossings are made by lanes.
   */
  uploaderStart(): UploaderStart | null;
  createStream(label: string): Stream;
  createEvent(): DeviceEvent;
  openLane(options: LaneOptions): Promise<Lane>;
  /**
   * Does beforehand what launches like those of `record` need once: compiles and allocates. Runs
   * nothing.
   */
  prepare(stream: Stream, record: () => void): Promise<void>;
  /**
   * Makes launches like those of `record` faster where this machine was not known: chooses among
   * algorithms by timing them, in slices of about a millisecond, which overwrite the launches'
   * outputs. A slice may run when nothing is queued on any stream, and other work may come between
   * two. Returns, at its end, whether what is captured from now on differs.
   */
  refine(stream: Stream, record: () => void): Generator<undefined, boolean>;
  /** Records what `record` launches on `stream` without running it. Copies cannot be recorded. */
  capture(stream: Stream, label: string, record: () => void): Graph;
  /** Frees a graph. None of its launches may be under way. */
  discard(graph: Graph): void;
  counters(): DeviceCounters;
  /**
   * Lets the thread's other work (messages, timers) run; virtual devices only advance their clock's
   * due work.
   */
  breathe(): PromiseLike<void>;
  /**
   * Of devices in virtual time, where calls take none: settled when the launching thread goes on
   * after those that it made; null: it does now. Elsewhere a call has kept its thread itself.
   */
  held?(): PromiseLike<void> | null;
  /** Ends threads and frees everything. Idempotent. */
  close(): Promise<void>;
}
