import {
  all,
  type Clock,
  type CrossingRecord,
  type Routine,
  SHARED_TENANT,
  until,
} from '@bridgekeeper/bridge';
import {
  type CopyRequest,
  type Device,
  type DeviceEvent,
  type HostBuffer,
  LOGPROB_WORDS,
  RESULT_HEADER_WORDS,
  RESULT_WORDS,
  resultSlotWords,
  type Stream,
  slice,
} from '@bridgekeeper/device';
import type { TokenLogprobs } from '../request/request.ts';
import {
  type DraftedRow,
  type RowResult,
  type StepPlan,
  type StepResults,
  wantsLines,
} from '../scheduler/plan.ts';
import type { Sequence } from '../scheduler/sequence.ts';
import type { ForwardParts } from './forward.ts';
import { readDrafts, readLogprobs, readSlot } from './results.ts';
import { IN_FLIGHT, MAX_STEPS, mostLines } from './shapes.ts';
import type { PromptLine } from './step-command.ts';
import type { StepRoutes } from './step-routes.ts';

/** The lines that one sampling of a launch filled, and whose they are. */
export interface FilledSlot {
  readonly step: number;
  readonly sequences: readonly Sequence[];
  /** More than one where tokens were drafted. */
  readonly linesPerRow: number;
  /** Some of them want logprobs. */
  readonly logprobs: boolean;
}

/** Steps on their way: what must be drained once they are done. */
export interface LaunchedSteps {
  readonly number: number;
  readonly plan: StepPlan;
  readonly slots: readonly FilledSlot[];
  readonly promptLines: readonly PromptLine[];
}

/** When a launch's results came, and what that took of a lane. */
export interface DrainTimes {
  /** The device was done with the launch; where copies are issued behind it, they were as well. */
  readonly doneNs: number;
  /** All its results were there. */
  readonly drainedNs: number;
  /** For which its drains kept their lane busy. */
  readonly drainNs: number;
}

/** What a launch brought. */
export interface Drained {
  readonly results: StepResults;
  readonly times: DrainTimes;
}

/** For which these crossings kept their lane busy. */
export function laneNs(records: readonly CrossingRecord[]): number {
  let sumNs = 0;
  for (const { startedNs, completedNs } of records) sumNs += completedNs - startedNs;
  return sumNs;
}

/** The records of a copy's pieces, once it is made. */
type Crossed = PromiseLike<CrossingRecord | readonly CrossingRecord[]>;

type Area = 'results' | 'logprobs' | 'promptLogprobs' | 'embeddings';

/** An area of the device with a place for each of some steps in turn. */
interface Ring {
  readonly area: 'results' | 'logprobs';
  readonly slotBytes: number;
  readonly headerBytes: number;
  readonly lineBytes: number;
}

/** A place for one launch's results on their way, and a stream with nothing else. */
interface Slot {
  readonly hosts: Readonly<Record<Area, HostBuffer>>;
  /** Of the host's `results`. */
  readonly resultWords: Int32Array;
  readonly stream: Stream;
  readonly launched: DeviceEvent;
}

/**
 * Drains what launches produced: one crossing each, unless the ring wraps or logprobs are wanted.
 */
export class Downlink {
  readonly #clock: Clock;
  readonly #parts: ForwardParts;
  readonly #slots: readonly Slot[];
  readonly #rings: { readonly results: Ring; readonly logprobs: Ring };

  constructor(device: Device, parts: ForwardParts) {
    this.#clock = device.clock;
    this.#parts = parts;
    const { maxRows } = parts.shape;
    const lines = mostLines(parts.shape);
    const lineBytes = { results: RESULT_WORDS * 4, logprobs: LOGPROB_WORDS * 4 };
    this.#rings = {
      results: {
        area: 'results',
        slotBytes: resultSlotWords(lines) * 4,
        headerBytes: HEADER_BYTES,
        lineBytes: lineBytes.results,
      },
      logprobs: {
        area: 'logprobs',
        slotBytes: lines * lineBytes.logprobs,
        headerBytes: 0,
        lineBytes: lineBytes.logprobs,
      },
    };
    const slots = MAX_STEPS + 1;
    const embeddingBytes = parts.buffers.embeddings.bytes / IN_FLIGHT;
    this.#slots = Array.from({ length: IN_FLIGHT }, (_, index) => {
      const host = (bytes: number, area: Area) =>
        device.allocateHost(bytes, 'pinned', `drained ${area} ${index}`);
      const results = host(slots * resultSlotWords(lines) * 4, 'results');
      return {
        resultWords: hostWords(results, 0),
        hosts: {
          results,
          logprobs: host(slots * lines * LOGPROB_WORDS * 4, 'logprobs'),
          promptLogprobs: host(maxRows * LOGPROB_WORDS * 4, 'promptLogprobs'),
          embeddings: host(embeddingBytes, 'embeddings'),
        },
        stream: device.createStream(`drain ${index}`),
        launched: device.createEvent(),
      };
    });
  }

  /** Call it right after the launch. Returns what the launch brought. */
  *drain(launched: LaunchedSteps, routes: StepRoutes): Routine<Drained> {
    const slot = this.#slots[launched.number % IN_FLIGHT]!;
    const { stream } = this.#parts;
    if (routes.mode === 'when-done') {
      yield stream.synchronize();
    } else {
      stream.record(slot.launched);
      slot.stream.wait(slot.launched);
    }
    const issuedNs = this.#clock.nowNs();
    const copies = this.#copies(launched, slot, routes);
    const records =
      copies.length === 1
        ? ((yield copies[0]!) as readonly CrossingRecord[] | CrossingRecord)
        : (yield* until(all(copies))).flat();
    const drainedNs = this.#clock.nowNs();
    const doneNs = routes.mode === 'when-done' ? issuedNs : drainedNs;
    const times = {
      doneNs,
      drainedNs,
      drainNs: laneNs(Array.isArray(records) ? records : [records]),
    };
    return { results: this.#read(launched, slot), times };
  }

  /** Issues every copy that the launch's results take. */
  #copies(launched: LaunchedSteps, slot: Slot, routes: StepRoutes): Crossed[] {
    const { slots, promptLines, number } = launched;
    const copies: Crossed[] = [];
    const { results, logprobs } = this.#rings;
    this.#ringCopies(results, slots, slot, routes, copies);
    if (slots.some(wantsLogprobs)) this.#ringCopies(logprobs, slots, slot, routes, copies);
    if (promptLines.length > 0) {
      const { shape, spec, buffers } = this.#parts;
      const isEmbedded = shape.task === 'embed';
      const area = isEmbedded ? 'embeddings' : 'promptLogprobs';
      const slotBytes = buffers[area].bytes / IN_FLIGHT;
      const offsetBytes = (number % IN_FLIGHT) * slotBytes;
      const bytes = promptLines.length * (isEmbedded ? spec.hiddenSize : LOGPROB_WORDS) * 4;
      copies.push(this.#copy(area, offsetBytes, bytes, 0, slot, routes));
    }
    return copies;
  }

  /** The used part of consecutive ring slots: one crossing, or two where the ring wraps. */
  #ringCopies(
    { area, slotBytes, headerBytes, lineBytes }: Ring,
    slots: readonly FilledSlot[],
    slot: Slot,
    routes: StepRoutes,
    copies: Crossed[],
  ): void {
    const { ringSlots } = this.#parts.shape;
    let first = 0;
    while (first < slots.length) {
      const at = slots[first]!.step % ringSlots;
      const count = Math.min(slots.length - first, ringSlots - at);
      const last = slots[first + count - 1]!;
      const lastLines = last.sequences.length * last.linesPerRow;
      const bytes = (count - 1) * slotBytes + headerBytes + lastLines * lineBytes;
      copies.push(this.#copy(area, at * slotBytes, bytes, first * slotBytes, slot, routes));
      first += count;
    }
  }

  #copy(
    area: Area,
    offsetBytes: number,
    bytes: number,
    hostOffsetBytes: number,
    { hosts, stream }: Slot,
    { drain: route, mode }: StepRoutes,
  ): Crossed {
    const request: CopyRequest = {
      direction: 'd2h',
      device: slice(this.#parts.buffers[area], offsetBytes, bytes),
      host: hosts[area],
      hostOffsetBytes,
      stream,
      purpose: this.#parts.shape.task === 'generate' ? 'tokens' : 'pooled',
      tenant: SHARED_TENANT,
    };
    return mode === 'behind' ? route.crossNow(request) : route.cross(request);
  }

  #read({ plan, slots, promptLines }: LaunchedSteps, { hosts, resultWords }: Slot): StepResults {
    const { results, logprobs: logprobRing } = this.#rings;
    const slotWords = results.slotBytes / 4;
    const rows: RowResult[] = [];
    const drafted: DraftedRow[] = [];
    for (let index = 0; index < slots.length; index++) {
      const { step, sequences, linesPerRow, logprobs } = slots[index]!;
      const at = index * slotWords;
      if (linesPerRow > 1) readDrafts(resultWords, at, sequences.length, linesPerRow, drafted);
      const logprobsOf = logprobs
        ? logprobReader(hosts.logprobs, index * logprobRing.slotBytes, slots[index]!)
        : undefined;
      readSlot(resultWords, at, step, sequences.length * linesPerRow, rows, logprobsOf);
    }
    const { shape, spec } = this.#parts;
    if (shape.task === 'embed') {
      const embeddings = readEmbeddings(hosts.embeddings, promptLines.length, spec.hiddenSize);
      return { rows, promptLogprobs: [], embeddings };
    }
    const promptLogprobs =
      plan.prefill.length === 0
        ? NO_LOGPROBS
        : readPromptLogprobs(plan, promptLines, hosts.promptLogprobs);
    return plan.drafts > 0 ? { rows, promptLogprobs, drafted } : { rows, promptLogprobs };
  }
}

const HEADER_BYTES = RESULT_HEADER_WORDS * 4;
const NO_LOGPROBS: readonly TokenLogprobs[][] = [];
const wantsLogprobs = ({ logprobs }: FilledSlot) => logprobs;

/** What the lines of a slot had beside their tokens, by line. */
function logprobReader(
  host: HostBuffer,
  offsetBytes: number,
  { sequences, linesPerRow }: FilledSlot,
) {
  const words = hostWords(host, offsetBytes);
  return (line: number) => {
    const count = sequences[Math.floor(line / linesPerRow)]!.request.sampling.logprobs;
    return count === undefined ? undefined : readLogprobs(words, line, count);
  };
}

function readPromptLogprobs(
  plan: StepPlan,
  lines: readonly PromptLine[],
  host: HostBuffer,
): TokenLogprobs[][] {
  const wanting = plan.prefill.filter(wantsLines);
  const gathered: TokenLogprobs[][] = wanting.map(() => []);
  lines.forEach((line, index) => {
    const chunk = plan.prefill[line.chunk]!;
    const count = chunk.sequence.request.sampling.promptLogprobs ?? 0;
    gathered[wanting.indexOf(chunk)]!.push(readLogprobs(hostWords(host, 0), index, count));
  });
  return gathered;
}

/** Copies: the place is used again. */
function readEmbeddings(host: HostBuffer, count: number, width: number): Float32Array[] {
  const words = hostWords(host, 0);
  const values = new Float32Array(words.buffer, words.byteOffset, words.length);
  return Array.from({ length: count }, (_, i) => values.slice(i * width, (i + 1) * width));
}

function hostWords(host: HostBuffer, offsetBytes: number): Int32Array {
  const { buffer, byteOffset, byteLength } = host.bytes;
  return new Int32Array(buffer, byteOffset + offsetBytes, (byteLength - offsetBytes) / 4);
}
