import { CUDA, OutCell } from '@bridgekeeper/native/threads';
import type { DeviceEvent, Graph, Launch, Stream } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { CollectiveName, OpArgs, OpName } from '../ops.ts';
import type { Core } from './core.ts';
import { createStream } from './handles/handles.ts';
import type { WantedKernel } from './kernels/kernel-source.ts';
import { Launcher } from './launch/launcher.ts';
import { launchCollective, launchPeerCopy, type RankPlace } from './operations/collectives.ts';
import { launchOperation } from './operations/operations.ts';

/** Throws DeviceError `bad-argument` for a stream of another device. */
export function cudaStream(stream: Stream): CudaStream {
  if (stream instanceof CudaStream) return stream;
  throw new DeviceError('bad-argument', `stream "${stream.label}" is of another device`);
}

export class CudaStream implements Stream {
  readonly id: number;
  readonly label: string;
  readonly handle: bigint;
  readonly #core: Core;
  readonly #launcher: Launcher;
  /** Operations recorded since capture began; null while the stream runs what it is given. */
  #recorded: number | null = null;

  constructor(core: Core, id: number, label: string) {
    this.#core = core;
    this.id = id;
    this.label = label;
    this.handle = createStream(core.driver, 'normal');
    this.#launcher = new Launcher(core, this.handle);
  }

  /** Copies cannot be recorded. */
  assertCopies(): void {
    this.#assertNotCapturing('copy');
  }

  launch<Name extends OpName>(name: Name, args: OpArgs[Name]): void {
    this.#launch((launcher) => launchOperation(launcher, name, args));
  }

  /** What this rank does of a collective; `all` are the arguments of each. */
  launchCollective<Name extends CollectiveName>(
    name: Name,
    all: readonly OpArgs[Name][],
    place: RankPlace,
  ): void {
    this.#launch((launcher) => launchCollective(launcher, name, all, place));
  }

  /** Brings what is at an address of another GPU, one of `ranks`, to one of this GPU's. */
  launchPeerCopy(from: bigint, out: bigint, bytes: number, ranks: number): void {
    this.#assertNotCapturing('copy');
    this.#launch((launcher) => launchPeerCopy(launcher, from, out, bytes, ranks));
  }

  #launch(put: (launcher: Launcher) => void): void {
    const core = this.#core;
    core.assertOpen();
    const startedNs = core.imposed === null ? 0 : core.clock.nowNs();
    put(this.#launcher);
    if (this.#recorded !== null) {
      this.#recorded += 1;
      return;
    }
    core.launches += 1;
    core.imposed?.blockForLaunch(startedNs, 'launch');
  }

  launchEach(launches: readonly Launch[]): void {
    for (const { name, args } of launches) this.launch(name, args);
  }

  launchGraph(graph: Graph): void {
    const core = this.#core;
    core.assertOpen();
    this.#assertNotCapturing('launch a graph');
    const startedNs = core.imposed === null ? 0 : core.clock.nowNs();
    core.driver.call('cuGraphLaunch', core.graph(graph).handle, this.handle);
    core.graphLaunches += 1;
    core.imposed?.blockForLaunch(startedNs, 'graph');
  }

  record(event: DeviceEvent): void {
    this.#core.assertOpen();
    this.#core.driver.call('cuEventRecord', this.#core.event(event).handle, this.handle);
  }

  wait(event: DeviceEvent): void {
    this.#core.assertOpen();
    this.#core.driver.call('cuStreamWaitEvent', this.handle, this.#core.event(event).handle, 0);
  }

  async synchronize(): Promise<void> {
    this.#core.assertOpen();
    this.#assertNotCapturing('wait for a stream');
    await this.#core.completions.reach(this.handle);
  }

  /**
   * Records what `record` launches here. Returns an executable graph and its number of operations.
   */
  capture(record: () => void): { handle: bigint; length: number } {
    const { driver } = this.#core;
    this.#assertNotCapturing('capture');
    driver.call('cuStreamBeginCapture_v2', this.handle, CUDA.CAPTURE_THREAD_LOCAL);
    this.#recorded = 0;
    const graph = new OutCell();
    try {
      record();
      driver.call('cuStreamEndCapture', this.handle, graph.bytes);
      const handle = driver.read('cuGraphInstantiateWithFlags', graph.pointer, 0).pointer;
      return { handle, length: this.#recorded };
    } catch (error) {
      // After a failed recording the stream still captures; otherwise this changes nothing.
      if (graph.pointer === 0n) driver.release('cuStreamEndCapture', this.handle, graph.bytes);
      throw error;
    } finally {
      this.#recorded = null;
      if (graph.pointer !== 0n) driver.release('cuGraphDestroy', graph.pointer);
    }
  }

  /** The kernels that `record` would launch here. Nothing is launched, and nothing counted. */
  rehearse(record: () => void): readonly WantedKernel[] {
    this.#assertNotCapturing('rehearse');
    this.#recorded = 0;
    try {
      return this.#launcher.rehearse(record);
    } finally {
      this.#recorded = null;
    }
  }

  #assertNotCapturing(action: string): void {
    if (this.#recorded === null) return;
    throw new DeviceError(
      'bad-argument',
      `"${this.label}" is being captured: it cannot ${action} until the capture ends`,
    );
  }

  close(): void {
    this.#core.driver.release('cuStreamDestroy_v2', this.handle);
  }
}
