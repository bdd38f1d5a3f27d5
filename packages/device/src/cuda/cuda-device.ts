import type { Clock, HostMemoryKind, Law } from '@bridgekeeper/bridge';
import { CUDA } from '@bridgekeeper/native';
import {
  type Device,
  type DeviceBuffer,
  type DeviceCounters,
  type DeviceEvent,
  type DeviceInfo,
  type DeviceRank,
  type Graph,
  type HostBuffer,
  type HostHandle,
  type Lane,
  type LaneOptions,
  onlyRank,
  type Slice,
  type Stream,
  type UploaderStart,
  type UploadTarget,
} from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { BridgeInstruments } from '../instruments.ts';
import type { Core } from './core.ts';
import { CudaStream, cudaStream } from './cuda-stream.ts';
import { CudaEvent, CudaGraph } from './handles/handles.ts';
import type { InlineLane } from './lanes/inline-lane.ts';
import type { LaneOpener } from './lanes/lane-opener.ts';
import { CudaInstruments } from './observe/instruments.ts';

/** A real GPU through the driver API. Made by `openCudaDevice`. */
export class CudaDevice implements Device {
  readonly info: DeviceInfo;
  readonly ranks: readonly DeviceRank[] = onlyRank(this);
  readonly clock: Clock;
  readonly inlineLane: Lane;
  readonly #core: Core;
  readonly #lanes: LaneOpener;
  readonly #uploaderStart: UploaderStart;
  readonly #release: () => void;
  readonly #streams: CudaStream[] = [];
  readonly #events: CudaEvent[] = [];
  readonly #graphs = new Set<CudaGraph>();
  #nextId = 1;
  #closing: Promise<void> | null = null;

  /** `release` gives back what was opened before the core: the context. */
  constructor(
    info: DeviceInfo,
    core: Core,
    lanes: LaneOpener,
    inlineLane: InlineLane,
    uploaderStart: UploaderStart,
    release: () => void,
  ) {
    this.info = info;
    this.clock = core.clock;
    this.#core = core;
    this.#lanes = lanes;
    this.inlineLane = inlineLane;
    this.#uploaderStart = uploaderStart;
    this.#release = release;
  }

  /** For probes: what serving has no use for. */
  get instruments(): BridgeInstruments {
    this.#core.assertOpen();
    return new CudaInstruments(this.#core);
  }

  get law(): Law | null {
    return this.#core.imposed?.law ?? null;
  }

  get notes(): readonly string[] {
    return this.#core.kernels.notes;
  }

  allocate(bytes: number, label: string): DeviceBuffer {
    this.#core.assertOpen();
    return this.#core.memory.allocate(bytes, label);
  }

  free(buffer: DeviceBuffer): void {
    this.#core.assertOpen();
    this.#core.memory.free(buffer);
  }

  allocateHost(bytes: number, memory: HostMemoryKind, label: string): HostBuffer {
    this.#core.assertOpen();
    return this.#core.memory.allocateHost(bytes, memory, label);
  }

  freeHost(buffer: HostBuffer): void {
    this.#core.assertOpen();
    this.#core.memory.freeHost(buffer);
  }

  hostHandle(buffer: HostBuffer): HostHandle {
    this.#core.assertOpen();
    return this.#core.memory.host(buffer).handle;
  }

  /** The copies are queued on the stream itself. */
  async uploadTarget(slice: Slice, stream: Stream): Promise<UploadTarget> {
    const core = this.#core;
    core.assertOpen();
    const { handle } = cudaStream(stream);
    return {
      kind: 'native',
      address: core.memory.address(slice),
      bytes: slice.bytes,
      stream: handle,
    };
  }

  uploaderStart(): UploaderStart | null {
    return this.#core.imposed === null ? this.#uploaderStart : null;
  }

  createStream(label: string): Stream {
    this.#core.assertOpen();
    const stream = new CudaStream(this.#core, this.#nextId++, label);
    this.#streams.push(stream);
    return stream;
  }

  createEvent(): DeviceEvent {
    this.#core.assertOpen();
    const handle = this.#core.driver.read('cuEventCreate', CUDA.EVENT_DISABLE_TIMING).pointer;
    const event = new CudaEvent(this.#nextId++, handle);
    this.#events.push(event);
    return event;
  }

  async openLane(options: LaneOptions): Promise<Lane> {
    this.#core.assertOpen();
    return this.#lanes.open(options);
  }

  async prepare(stream: Stream, record: () => void): Promise<void> {
    this.#core.assertOpen();
    const { kernels, driver, matmul } = this.#core;
    const own = cudaStream(stream);
    // Capturing would compile one kernel after the other.
    await kernels.compileAhead(own.rehearse(record));
    // The library's kernels are loaded when they are first seen.
    const { handle } = matmul.makeReady(() => own.capture(record));
    driver.release('cuGraphExecDestroy', handle);
  }

  refine(stream: Stream, record: () => void): Generator<undefined, boolean> {
    this.#core.assertOpen();
    return this.#core.tuner.refine(cudaStream(stream), record);
  }

  capture(stream: Stream, label: string, record: () => void): Graph {
    this.#core.assertOpen();
    const { handle, length } = cudaStream(stream).capture(record);
    const graph = new CudaGraph(this.#nextId++, label, length, handle);
    this.#graphs.add(graph);
    return graph;
  }

  discard(graph: Graph): void {
    this.#core.assertOpen();
    const own = this.#core.graph(graph);
    if (this.#graphs.delete(own)) this.#core.driver.release('cuGraphExecDestroy', own.handle);
  }

  counters(): DeviceCounters {
    const { copies, launches, graphLaunches, memory } = this.#core;
    const { allocatedBytes } = memory;
    return { ...copies.read(), launches, graphLaunches, allocatedBytes };
  }

  /** Turns the event loop once: messages, timers and the polls of completed work. */
  breathe(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const core = this.#core;
    const { driver } = core;
    core.shut();
    await this.#lanes.close();
    driver.release('cuCtxSynchronize');
    core.completions.close(new DeviceError('closed', 'the cuda device was closed meanwhile'));
    for (const graph of this.#graphs) driver.release('cuGraphExecDestroy', graph.handle);
    for (const event of this.#events) driver.release('cuEventDestroy_v2', event.handle);
    for (const stream of this.#streams) stream.close();
    core.close();
    this.#release();
  }
}
