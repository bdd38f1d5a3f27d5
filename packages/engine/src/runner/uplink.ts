import {
  all,
  type CrossingRecord,
  invariant,
  type Routine,
  run,
  SHARED_TENANT,
  until,
} from '@bridgekeeper/bridge';
import {
  CommandWriter,
  type CopyRequest,
  type Device,
  type DeviceEvent,
  type HostBuffer,
  type Slice,
  type Stream,
  slice,
} from '@bridgekeeper/device';
import type { GrammarWrite, StepPlan } from '../scheduler/plan.ts';
import { type ForwardParts, launchKept, slices } from './forward.ts';
import { IN_FLIGHT, maxCommandRecords } from './shapes.ts';
import { type PromptLine, writeStepCommand } from './step-command.ts';
import type { StepRoutes } from './step-routes.ts';

/**
 * A place for one command on its way: host staging, device copy, and a stream with nothing else.
 */
interface Slot {
  readonly host: HostBuffer;
  readonly writer: CommandWriter;
  readonly command: Slice;
  readonly stream: Stream;
  readonly arrived: DeviceEvent;
}

/**
 * Brings the device what a step needs to know: one packed command at most, on an idle stream of its
 * own. It is applied once it has arrived. Only `behind` makes the engine's stream wait for it on
 * the device: a stream that stands still there can fill its queue and so stop the thread that
 * launches, and with it whoever shares the driver's locks.
 */
export class Uplink {
  readonly #parts: ForwardParts;
  readonly #slots: readonly Slot[];
  /** Mirrors the device's pool of grammars, so that each crosses from where it goes. */
  readonly #grammars: HostBuffer | null;

  constructor(device: Device, parts: ForwardParts) {
    this.#parts = parts;
    const { grammarBytes } = parts.shape;
    this.#grammars =
      grammarBytes === 0 ? null : device.allocateHost(grammarBytes, 'pinned', 'grammars');
    const slotBytes = parts.buffers.command.bytes / IN_FLIGHT;
    this.#slots = Array.from({ length: IN_FLIGHT }, (_, index) => {
      const host = device.allocateHost(slotBytes, 'pinned', `command staging ${index}`);
      const words = new Int32Array(host.bytes.buffer, host.bytes.byteOffset, slotBytes / 4);
      return {
        host,
        writer: new CommandWriter(words, maxCommandRecords(parts.shape)),
        command: slice(parts.buffers.command, index * slotBytes, slotBytes),
        stream: device.createStream(`command ${index}`),
        arrived: device.createEvent(),
      };
    });
  }

  /**
   * Sends the command of launch number `launch`, if there is anything to say: of `promptCount`
   * lines of prompts, of which those behind the plan's tokens are of no row. Returns when work
   * launched next sees it applied; `crossing` is then on its way or done.
   */
  *send(
    launch: number,
    plan: StepPlan,
    lines: readonly PromptLine[],
    promptCount: number,
    decodeRows: Int32Array | undefined,
    routes: StepRoutes,
  ): Routine<{ crossing: PromiseLike<readonly CrossingRecord[]> } | undefined> {
    const at = launch % IN_FLIGHT;
    const { host, writer, command, stream: side, arrived } = this.#slots[at]!;
    const { command: route, mode } = routes;
    writeStepCommand(writer, plan, this.#parts, lines, promptCount, decodeRows);
    if (writer.records === 0) return undefined;
    const grammars = plan.grammarWrites.map((write) => this.#sendGrammar(write, side, routes));
    const request: CopyRequest = {
      direction: 'h2d',
      device: slice(command.buffer, command.offsetBytes, writer.finish()),
      host,
      hostOffsetBytes: 0,
      stream: side,
      purpose: 'command',
      tenant: SHARED_TENANT,
    };
    const commanded = mode === 'behind' ? all([route.crossNow(request)]) : route.cross(request);
    const crossing = grammars.length === 0 ? commanded : run(behind(commanded, grammars));
    if (mode === 'behind') {
      side.record(arrived);
      this.#parts.stream.wait(arrived);
    } else {
      yield crossing;
    }
    launchKept(this.#parts, `command ${at}`, ({ stream, buffers, spec, shape }) => {
      stream.launch('apply-command', {
        ...slices(buffers),
        command,
        vocab: spec.vocabularySize,
        maxRecords: maxCommandRecords(shape),
      });
    });
    return { crossing };
  }

  /**
   * Brings a grammar to its place, in one crossing, before the command of the row that it is for.
   * No launch on its way reads what was there: see `GrammarPool`.
   */
  #sendGrammar(
    { grammar, tenant, offset }: GrammarWrite,
    stream: Stream,
    { command: route, mode }: StepRoutes,
  ): PromiseLike<unknown> {
    const host = this.#grammars;
    invariant(host !== null, 'a request with a grammar is refused where there are none');
    const { words } = grammar;
    const hostOffsetBytes = offset * 4;
    host.bytes.set(
      new Uint8Array(words.buffer, words.byteOffset, words.byteLength),
      hostOffsetBytes,
    );
    const request: CopyRequest = {
      direction: 'h2d',
      device: slice(this.#parts.buffers.grammarPool, hostOffsetBytes, words.byteLength),
      host,
      hostOffsetBytes,
      stream,
      purpose: 'grammar',
      tenant,
    };
    return mode === 'behind' ? route.crossNow(request) : route.cross(request);
  }
}

/** What a command brought, once the grammars of its rows are there as well. */
function* behind(
  commanded: PromiseLike<readonly CrossingRecord[]>,
  grammars: readonly PromiseLike<unknown>[],
): Routine<readonly CrossingRecord[]> {
  const [records] = yield* until(all<unknown>([commanded, ...grammars]));
  return records as readonly CrossingRecord[];
}
