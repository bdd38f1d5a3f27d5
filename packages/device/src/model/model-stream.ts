import { Later } from '@bridgekeeper/bridge';
import type { DeviceEvent, Graph, Launch, Stream } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { OpArgs, OpName } from '../ops.ts';
import type { Machine } from './machine.ts';
import type { Work } from './work.ts';

export class ModelEvent implements DeviceEvent {
  readonly id: number;
  /** When what it marked is done; 0 before it marked anything. */
  atNs = 0;

  constructor(id: number) {
    this.id = id;
  }
}

export class ModelGraph implements Graph {
  readonly id: number;
  readonly label: string;
  readonly length: number;
  /** Fused. */
  readonly works: readonly Work[];

  constructor(id: number, label: string, length: number, works: readonly Work[]) {
    this.id = id;
    this.label = label;
    this.length = length;
    this.works = works;
  }
}

/**
 * A stream is the moment its queued work ends. Bookkeeping runs when it is launched: in the order
 * of the program, which is the order of the streams in any program that orders them at all.
 */
export class ModelStream implements Stream {
  readonly id: number;
  readonly label: string;
  readyNs = 0;
  readonly #machine: Machine;

  constructor(machine: Machine, label: string) {
    this.id = machine.nextId();
    this.label = label;
    this.#machine = machine;
  }

  launch<Name extends OpName>(name: Name, args: OpArgs[Name]): void {
    const { counters, launchNs, pricer, recording } = this.#machine;
    this.#machine.assertOpen();
    if (recording !== null && recording.streamId !== this.id) {
      const message = `"${name}" was launched on "${this.label}" while another stream is captured`;
      throw new DeviceError('bad-argument', message);
    }
    const work = pricer.compile(name, args);
    if (recording !== null) {
      recording.works.push(work);
      return;
    }
    counters.launches += 1;
    this.#submit(launchNs, [work]);
  }

  launchEach(launches: readonly Launch[]): void {
    const { counters, launchNs, pricer, recording, launchingThread, onWork } = this.#machine;
    this.#machine.assertOpen();
    if (recording !== null) {
      if (recording.streamId !== this.id)
        for (const { name, args } of launches) this.launch(name, args);
      else recording.works.push(...pricer.compileEach(launches).works);
      return;
    }
    const { works, knownNs } = pricer.compileEach(launches);
    counters.launches += works.length;
    let issuedNs = this.#machine.launchingNs();
    let readyNs = this.readyNs;
    for (let i = 0; i < works.length; i++) {
      issuedNs += launchNs;
      const startNs = Math.max(readyNs, issuedNs);
      const known = knownNs[i]!;
      readyNs = startNs + (known < 0 ? pricer.runOne(works[i]!) : known);
      onWork?.(startNs, readyNs);
    }
    launchingThread.freeAtNs = issuedNs;
    this.readyNs = readyNs;
  }

  launchGraph(graph: Graph): void {
    const { counters, graphLaunchNs } = this.#machine;
    this.#machine.assertRunning('a graph');
    if (!(graph instanceof ModelGraph)) {
      throw new DeviceError('bad-argument', `"${graph.label}" is not a graph of this device`);
    }
    counters.graphLaunches += 1;
    this.#submit(graphLaunchNs, graph.works);
  }

  record(event: DeviceEvent): void {
    this.#machine.assertRunning('an event');
    modelEvent(event).atNs = this.readyNs;
  }

  wait(event: DeviceEvent): void {
    this.#machine.assertRunning('a wait');
    this.readyNs = Math.max(this.readyNs, modelEvent(event).atNs);
  }

  synchronize(): Later<void> {
    try {
      this.#machine.assertRunning('a synchronization');
    } catch (error) {
      return Later.failed(error);
    }
    const { launchNs, launchWithWaitNs } = this.#machine.law.profile.submission;
    const doneNs = Math.max(this.readyNs, this.#machine.launchingNs());
    return this.#machine.wake(doneNs + launchWithWaitNs - launchNs);
  }

  #submit(issueNs: number, works: readonly Work[]): void {
    const { launchingThread, pricer, onWork } = this.#machine;
    const issuedNs = this.#machine.launchingNs() + issueNs;
    launchingThread.freeAtNs = issuedNs;
    const startNs = Math.max(this.readyNs, issuedNs);
    this.readyNs = startNs + pricer.run(works);
    onWork?.(startNs, this.readyNs);
  }
}

function modelEvent(event: DeviceEvent): ModelEvent {
  if (event instanceof ModelEvent) return event;
  throw new DeviceError('bad-argument', `event ${event.id} is not of this device`);
}
