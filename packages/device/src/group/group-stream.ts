import {
  bytesPerElement,
  type DeviceEvent,
  type Graph,
  type Launch,
  type Slice,
  type Stream,
} from '../device.ts';
import { DeviceError } from '../errors.ts';
import { lawNsOfCollective } from '../law/links.ts';
import { type CollectiveName, isCollective, type OpArgs, type OpName } from '../ops.ts';
import { argsOf, sliceOf } from './group-memory.ts';
import type { Members } from './members.ts';

/** An event of each member. */
export class GroupEvent implements DeviceEvent {
  readonly id: number;
  readonly parts: readonly DeviceEvent[];

  constructor(id: number, parts: readonly DeviceEvent[]) {
    this.id = id;
    this.parts = parts;
  }
}

/** A graph of each member. */
export class GroupGraph implements Graph {
  readonly id: number;
  readonly label: string;
  readonly length: number;
  readonly parts: readonly Graph[];

  constructor(id: number, label: string, length: number, parts: readonly Graph[]) {
    this.id = id;
    this.label = label;
    this.length = length;
    this.parts = parts;
  }
}

/**
 * A stream of each member, which get every launch in turn: no rank is ever more than one launch
 * ahead of where the others wait for it.
 */
export class GroupStream implements Stream {
  readonly id: number;
  readonly label: string;
  readonly parts: readonly Stream[];
  readonly #members: Members;
  /** The arguments of each rank: engines launch the same ones again. */
  readonly #known = new WeakMap<object, readonly object[]>();
  /** The only member that launches go to, while one records for itself; and how many went. */
  #recording: { readonly member: number; launches: number } | null = null;

  constructor(id: number, label: string, members: Members) {
    this.id = id;
    this.label = label;
    this.#members = members;
    this.parts = members.devices.map((device) => device.createStream(label));
  }

  launch<Name extends OpName>(name: Name, args: OpArgs[Name]): void {
    const ranks = this.#argsOf(name, args);
    const members = this.#members;
    const recording = this.#recording;
    for (const [rank, own] of ranks.entries()) {
      const member = members.memberOf(rank);
      if (recording !== null && recording.member !== member) continue;
      const stream = this.parts[member]!;
      if (members.links !== null && isCollective(name)) {
        members.links.launch(rank, stream, name, ranks as readonly OpArgs[typeof name][]);
      } else {
        stream.launch(name, own as OpArgs[Name]);
      }
    }
    if (recording === null) members.counts.launches += 1;
    else recording.launches += 1;
  }

  #argsOf<Name extends OpName>(name: Name, args: OpArgs[Name]): readonly object[] {
    const known = this.#known.get(args);
    if (known !== undefined) return known;
    const ranks = [...Array(this.#members.ranks).keys()];
    let all: readonly object[] = ranks.map((rank) => argsOf(args, rank));
    if (isCollective(name)) {
      const { inputs } = args as OpArgs['all-reduce'];
      const ofAll = inputs.flatMap((input) => ranks.map((rank) => sliceOf(input, rank)));
      const lawNs = this.#lawNs(name, args as OpArgs['all-reduce']);
      // Where ranks take turns on one device, one of them takes the time for all.
      const isInTurn = this.#members.links === null;
      all = all.map((own, rank) => ({
        ...own,
        inputs: ofAll,
        lawNs: isInTurn && rank > 0 ? 0 : lawNs,
      }));
    }
    if (name === 'route') {
      const { shares } = args as OpArgs['route'];
      if (shares.length > 1) all = all.map((own, rank) => ({ ...own, shares: [shares[rank]!] }));
    }
    this.#known.set(args, all);
    return all;
  }

  /** What the law adds, as far as it says anything of links between GPUs. */
  #lawNs(name: CollectiveName, { count, width }: Pick<OpArgs['all-reduce'], 'count' | 'width'>) {
    const { devices, ranks } = this.#members;
    const { law, info } = devices[0]!;
    if (law === null) return 0;
    const bytes = count * width * (name === 'all-gather' ? 4 : bytesPerElement(info.element));
    return lawNsOfCollective(law.profile, ranks, name, bytes);
  }

  /** Launches of `record` go to one member alone. Returns how many there were. */
  only(member: number, record: () => void): number {
    const recording = { member, launches: 0 };
    this.#recording = recording;
    try {
      record();
      return recording.launches;
    } finally {
      this.#recording = null;
    }
  }

  /** Throws DeviceError `bad-argument` while launches are recorded: members do so in turn. */
  assertCopies(): void {
    if (this.#recording === null) return;
    const message = `stream "${this.label}" is being captured, and a copy cannot be`;
    throw new DeviceError('bad-argument', message);
  }

  /** Brings what the first rank has of `whole` to the others, behind the work so far. */
  broadcast(whole: Slice): void {
    const { links, ranks } = this.#members;
    const from = sliceOf(whole, 0);
    if (from.bytes === 0) return;
    for (let rank = 1; rank < ranks; rank++) {
      const out = sliceOf(whole, rank);
      if (links === null) this.parts[0]!.launch('copy', { input: from, out, bytes: from.bytes });
      else links.copy(this.parts[0]!, from, this.parts[rank]!, out, rank);
    }
  }

  launchEach(launches: readonly Launch[]): void {
    for (const { name, args } of launches) this.launch(name, args);
  }

  launchGraph(graph: Graph): void {
    const { parts } = graphOf(graph);
    for (const [member, part] of parts.entries()) this.parts[member]!.launchGraph(part);
    this.#members.counts.graphLaunches += 1;
  }

  record(event: DeviceEvent): void {
    const { parts } = eventOf(event);
    for (const [member, part] of parts.entries()) this.parts[member]!.record(part);
  }

  wait(event: DeviceEvent): void {
    const { parts } = eventOf(event);
    for (const [member, part] of parts.entries()) this.parts[member]!.wait(part);
  }

  /** The first member that fails is heard at once: the others may be waiting for it. */
  async synchronize(): Promise<void> {
    await Promise.all(this.parts.map((stream) => stream.synchronize()));
  }
}

export function streamOf(stream: Stream): GroupStream {
  if (stream instanceof GroupStream) return stream;
  throw new DeviceError('bad-argument', `stream "${stream.label}" is of another device`);
}

export function graphOf(graph: Graph): GroupGraph {
  if (graph instanceof GroupGraph) return graph;
  throw new DeviceError('bad-argument', `graph "${graph.label}" is of another device`);
}

function eventOf(event: DeviceEvent): GroupEvent {
  if (event instanceof GroupEvent) return event;
  throw new DeviceError('bad-argument', `event ${event.id} is of another device`);
}
