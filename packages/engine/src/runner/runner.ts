import {
  all,
  type CrossingRecord,
  invariant,
  type Routine,
  run,
  until,
} from '@bridgekeeper/bridge';
import { CONTROL_WORDS, type Device, type Graph, slice } from '@bridgekeeper/device';
import {
  LINE_STEP,
  type PrefillChunk,
  type StepPlan,
  type StepResults,
} from '../scheduler/plan.ts';
import type { Sequence } from '../scheduler/sequence.ts';
import {
  Downlink,
  type Drained,
  type DrainTimes,
  type FilledSlot,
  type LaunchedSteps,
  laneNs,
} from './downlink.ts';
import {
  type ForwardParts,
  launchBeginRows,
  launchDecodeStep,
  launchForward,
  launchKept,
  launchPickedHead,
  launchRowSampling,
  launchSampling,
  launchStateCopy,
  slices,
} from './forward.ts';
import { promptGraphSizes, promptLineCount } from './prompt-sizes.ts';
import { canDraft, IN_FLIGHT, type RunnerShape } from './shapes.ts';
import { type PromptLine, promptLines } from './step-command.ts';
import type { StepRoutes } from './step-routes.ts';
import { Uplink } from './uplink.ts';

/** When what of a launch happened, by the device's clock, and for how long it kept lanes busy. */
export interface LaunchTimes extends DrainTimes {
  /** Its command had arrived, and its work was handed to the device from then on. */
  readonly queuedNs: number;
  /** For which its command kept a lane busy; 0 where it needed none. */
  readonly commandNs: number;
}

/** What a launch brought. */
export interface FinishedSteps {
  readonly results: StepResults;
  readonly times: LaunchTimes;
}

/** A launch on its way, and what will come of it. */
export interface StepsInFlight {
  readonly launched: LaunchedSteps;
  /** Its work was handed to the device from then on. */
  readonly queuedNs: number;
  /** For which launching it had to wait for its command. */
  readonly commandWaitNs: number;
  readonly finished: PromiseLike<FinishedSteps>;
}

/**
 * Lengths of the captured graphs, in steps, the longest first: bursts are made of them. Graphs for
 * every length would take long to capture and much memory.
 */
const GRAPH_STEPS = [8, 1] as const;
/**
 * Of several devices a step each: a graph that does not fit the driver's queue keeps the thread
 * that launches it until a part has run, which waits for the other devices, which then get nothing.
 */
const SHARED_GRAPH_STEPS = [1] as const;

/** Steps that are captured alike: so many rows, with so many drafts each. */
interface DecodeKind {
  readonly bucket: number;
  readonly drafts: number;
}

/** Whether the device knows all that such a plan takes. */
function isSilent({ prefill, pageWrites, grammarWrites }: StepPlan, rows: Int32Array | undefined) {
  return (
    rows === undefined &&
    prefill.length === 0 &&
    pageWrites.length === 0 &&
    grammarWrites.length === 0
  );
}

/** A number: every launch looks its graphs up. There are at most 32 steps, and few drafts. */
const graphKey = (bucket: number, steps: number, drafts: number) =>
  (bucket * 1024 + drafts) * 64 + steps;
/** Which graph a plan's prompts are, or the first tokens of so many of them. */
const promptKey = (what: 'forward' | 'sample', count: number) => `${what} ${count}`;
const graphLabel = ({ bucket, drafts }: DecodeKind, steps: number) =>
  `decode ${bucket} x ${steps}${drafts > 0 ? ` with ${drafts} drafts` : ''}`;

/** Small chunks, each of which a device may have a kernel of its own for. */
const SMALL_CHUNKS = [1, 2, 3, 4, 8, 16, 32, 64, 128] as const;
const LARGE_CHUNK = 256;
/**
 * Rows that decode beside such a chunk. Products of 516 lines with the algorithm of 768, the next
 * size that is ready, take as long as those: 18.5 ms of an H200 for an 8B model in place of 13.1.
 */
const BESIDE = [16, 64] as const;
/** Chunks for which rows beside them make a difference: many tiles, of which few are for rows. */
const BESIDE_CHUNKS = { least: 512, most: 2048 } as const;

/**
 * Chunks worth making ready for: small ones, and full ones, halves and quarters less of these, with
 * rows beside them and without.
 */
function promptSizes(shape: RunnerShape): number[] {
  const { maxBatchTokens } = shape;
  const small = [...SMALL_CHUNKS, ...promptGraphSizes(shape)];
  const sizes = new Set([maxBatchTokens, ...small.filter((size) => size < maxBatchTokens)]);
  for (let size = maxBatchTokens; size > LARGE_CHUNK; size >>= 1) {
    for (const part of [(3 * size) >> 2, size >> 1]) {
      if (part < LARGE_CHUNK) continue;
      sizes.add(part);
      if (part < BESIDE_CHUNKS.least || part > BESIDE_CHUNKS.most) continue;
      for (const rows of BESIDE) if (part + rows < maxBatchTokens) sizes.add(part + rows);
    }
  }
  return [...sizes];
}

/** Prompts that end in one launch, at most, whose first tokens are captured as one graph. */
const MOST_SAMPLED_TOGETHER = 8;

const padded = (lines: number) => Math.ceil(lines / LINE_STEP) * LINE_STEP;

/** Batch sizes for which decode graphs are captured. */
function decodeBuckets(maxRows: number): number[] {
  const buckets: number[] = [];
  for (let size = 1; size < maxRows; size += size < 8 ? size : size < 64 ? 8 : 32) {
    buckets.push(size);
  }
  return [...buckets, maxRows];
}

/**
 * Runs planned steps on a device: command up, prompts and captured decode graph, results down. The
 * policies choose the routes, how many steps a launch has, and how many launches are in
 * flight; this class knows what they consist of.
 */
export class Runner {
  readonly #device: Device;
  readonly #parts: ForwardParts;
  readonly #buckets: readonly number[];
  /** Of so many rows; every launch asks. */
  readonly #bucketOf: readonly number[];
  /** The longest first. */
  readonly #graphSteps: readonly number[];
  readonly #graphs = new Map<number, Graph>();
  /** Lines of the prompts that are captured, ascending. */
  readonly #promptGraphSizes: readonly number[];
  readonly #promptGraphs = new Map<string, Graph>();
  readonly #uplink: Uplink;
  readonly #downlink: Downlink;
  /** The device's list of decode rows, as last uploaded. */
  #decodeRows: Int32Array = new Int32Array(0);
  /** Mirrors the device's CONTROL.STEP. */
  #step = 0;
  #launches = 0;
  #undrained = 0;

  constructor(device: Device, parts: ForwardParts) {
    this.#device = device;
    this.#parts = parts;
    const { task, maxRows, ranks } = parts.shape;
    this.#graphSteps = ranks === 1 ? GRAPH_STEPS : SHARED_GRAPH_STEPS;
    this.#buckets = task === 'generate' ? decodeBuckets(maxRows) : [];
    const least = (rows: number) => this.#buckets.find((size) => size >= rows) ?? 0;
    this.#bucketOf = Array.from({ length: maxRows + 1 }, (_, rows) => least(rows));
    this.#promptGraphSizes = promptGraphSizes(parts.shape);
    this.#uplink = new Uplink(device, parts);
    this.#downlink = new Downlink(device, parts);
  }

  /**
   * Makes the device ready for prompts and captures every decode graph, so that serving allocates
   * and compiles nothing.
   */
  async warmUp(onPhase: (phase: 'kernels' | 'graphs') => void): Promise<void> {
    onPhase('kernels');
    const { stream, buffers, shape } = this.#parts;
    const { maxRows } = shape;
    const { control } = slices(buffers);
    const zero = { mean: 0, spread: 0, seed: 0 };
    stream.launch('fill-uniform', { out: control, elements: CONTROL_WORDS, type: 'f32', ...zero });
    await this.#device.prepare(stream, () => {
      for (const count of promptSizes(this.#parts.shape)) this.#launchPrompt(count);
      // So many prompts may end in one launch: each number has a kernel of its own.
      for (const prompts of SMALL_CHUNKS) if (prompts <= maxRows) this.#launchPicked(prompts);
      for (const { bucket, drafts } of this.#kinds().toReversed()) {
        launchDecodeStep(this.#parts, bucket, drafts);
      }
    });
    onPhase('graphs');
    await this.capture();
  }

  /** Captures every graph, over the weights and buffers that there are now. */
  async capture(): Promise<void> {
    for (const kind of this.#kinds().toReversed()) {
      for (const steps of this.#graphSteps) this.#captureDecode(kind, steps);
    }
    for (const count of this.#promptGraphSizes) this.#capturePrompt(count);
    for (const prompts of this.#sampledTogether()) this.#captureFirstTokens(prompts);
    await this.#parts.stream.synchronize();
  }

  /** Frees every graph: what they launch is about to be freed. Nothing is under way. */
  discardGraphs(): void {
    for (const graphs of [this.#graphs, this.#promptGraphs]) {
      for (const graph of graphs.values()) this.#device.discard(graph);
      graphs.clear();
    }
  }

  /**
   * Makes steps faster on a machine that was not known, in slices for when nothing runs (see
   * `Device.refine`). The smallest batches come first: most steps are theirs.
   */
  *refine(): Generator<undefined, void> {
    const device = this.#device;
    const { stream, shape } = this.#parts;
    let areHeadsOthers = false;
    for (const kind of this.#kinds()) {
      const { bucket, drafts } = kind;
      const launch = () => launchDecodeStep(this.#parts, bucket, drafts);
      const differs = yield* device.refine(stream, launch);
      if (!differs) continue;
      areHeadsOthers = true;
      for (const steps of this.#graphSteps) {
        yield;
        const before = this.#graphs.get(graphKey(bucket, steps, drafts))!;
        this.#captureDecode(kind, steps);
        device.discard(before);
      }
    }
    for (const count of promptSizes(shape)) {
      const differs = yield* device.refine(stream, () => this.#launchPrompt(count));
      const before = this.#promptGraphs.get(promptKey('forward', count));
      if (!differs || before === undefined) continue;
      yield;
      this.#capturePrompt(count);
      device.discard(before);
    }
    if (!areHeadsOthers) return;
    for (const prompts of this.#sampledTogether()) {
      yield;
      const before = this.#promptGraphs.get(promptKey('sample', prompts))!;
      this.#captureFirstTokens(prompts);
      device.discard(before);
    }
  }

  /**
   * Launches `plan`: settled when its work is queued, long before it is done, unless copies are
   * issued behind it that block this thread.
   */
  *start(plan: StepPlan, routes: StepRoutes): Routine<StepsInFlight> {
    invariant(this.#undrained < IN_FLIGHT, 'no more launches are in flight than have buffers');
    this.#undrained += 1;
    const number = this.#launches++;
    const lines = promptLines(plan);
    const promptCount = promptLineCount(plan, this.#promptGraphSizes);
    const rows = this.#changedDecodeRows(plan);
    const { clock } = this.#device;
    const calledNs = clock.nowNs();
    const command = isSilent(plan, rows)
      ? undefined
      : yield* this.#uplink.send(number, plan, lines, promptCount, rows, routes);
    const queuedNs = clock.nowNs();
    const slots: FilledSlot[] = [];
    for (const copy of plan.restores ?? []) launchStateCopy(this.#parts, 'restore', copy);
    if (plan.prefill.length > 0) {
      this.#launchPrompts(number, plan, lines, promptCount, slots);
    } else {
      const { decode, steps, drafts } = plan;
      this.launchDecode(this.bucketOf(decode.length), steps, drafts);
      for (let step = 0; step < steps; step++) slots.push(this.#fillSlot(decode, 1 + drafts));
    }
    for (const copy of plan.snapshots ?? []) launchStateCopy(this.#parts, 'keep', copy);
    const launched = { number, plan, slots, promptLines: lines };
    const finished = run(this.#drain(launched, command?.crossing, queuedNs, routes));
    const commandWaitNs = command === undefined ? 0 : queuedNs - calledNs;
    if (routes.mode === 'behind') {
      const held = this.#device.held?.() ?? null;
      if (held !== null) yield held;
    }
    return { launched, queuedNs, commandWaitNs, finished };
  }

  *#drain(
    launched: LaunchedSteps,
    command: PromiseLike<readonly CrossingRecord[]> | undefined,
    queuedNs: number,
    routes: StepRoutes,
  ): Routine<FinishedSteps> {
    try {
      const drain = this.#downlink.drain(launched, routes);
      let drained: Drained;
      let commandNs = 0;
      if (command === undefined) {
        drained = yield* drain;
      } else {
        // Together: of a launch whose command was lost results may never come.
        const both = yield* until(all<unknown>([run(drain), command]));
        drained = both[0] as Drained;
        commandNs = laneNs(both[1] as readonly CrossingRecord[]);
      }
      // Written out: every launch makes one.
      const { doneNs, drainedNs, drainNs } = drained.times;
      const times = { doneNs, drainedNs, drainNs, queuedNs, commandNs };
      return { results: drained.results, times };
    } finally {
      this.#undrained -= 1;
    }
  }

  /**
   * The device's list of decode rows, padded to the batch's bucket, if it must be told of a new
   * one.
   */
  #changedDecodeRows(plan: StepPlan): Int32Array | undefined {
    const { decode } = plan;
    if (decode.length === 0) return undefined;
    const size = this.bucketOf(decode.length);
    const known = this.#decodeRows;
    let same = known.length === size && (decode.length === size || known[decode.length] === -1);
    for (let i = 0; same && i < decode.length; i++) same = known[i] === decode[i]!.row;
    if (same) return undefined;
    const rows = new Int32Array(size).fill(-1);
    decode.forEach((sequence, index) => {
      rows[index] = sequence.row;
    });
    this.#decodeRows = rows;
    return rows;
  }

  /** Rows of the decode step that serves so many. */
  bucketOf(rows: number): number {
    const bucket = this.#bucketOf[rows] ?? 0;
    invariant(bucket > 0, 'a step never decodes more rows than there are');
    return bucket;
  }

  /** Whether a step of so many rows can have drafts. */
  canDraft(rows: number): boolean {
    return canDraft(this.#parts.shape, this.bucketOf(rows));
  }

  /** Every kind of decode step: with drafts, too, where these may pay. */
  #kinds(): readonly DecodeKind[] {
    const { shape } = this.#parts;
    return this.#buckets.flatMap((bucket) => [
      { bucket, drafts: 0 },
      ...(canDraft(shape, bucket) ? [{ bucket, drafts: shape.speculation!.drafts }] : []),
    ]);
  }

  /**
   * `steps` decode steps of `bucket` rows (see bucketOf), in as few launches as the graphs allow.
   * Their rows are those that the device holds.
   */
  launchDecode(bucket: number, steps: number, drafts = 0): void {
    let left = steps;
    for (const length of this.#graphSteps) {
      if (left < length) continue;
      const graph = this.#graphs.get(graphKey(bucket, length, drafts));
      invariant(graph !== undefined, 'warm-up captured a graph for every batch and length');
      for (; left >= length; left -= length) this.#parts.stream.launchGraph(graph);
    }
  }

  /** Records `steps` decode steps: the device carries everything from one to the next. */
  #captureDecode(kind: DecodeKind, steps: number): void {
    const { bucket, drafts } = kind;
    const graph = this.#device.capture(this.#parts.stream, graphLabel(kind, steps), () => {
      for (let step = 0; step < steps; step++) launchDecodeStep(this.#parts, bucket, drafts);
    });
    this.#graphs.set(graphKey(bucket, steps, drafts), graph);
  }

  #capturePrompt(count: number): void {
    const key = promptKey('forward', count);
    const record = () => this.#launchPromptLines(count);
    this.#promptGraphs.set(key, this.#device.capture(this.#parts.stream, `prompt ${key}`, record));
  }

  /** Numbers of prompts that may end in one launch and whose first tokens are one graph. */
  #sampledTogether(): readonly number[] {
    const { task, maxRows } = this.#parts.shape;
    if (task !== 'generate' || this.#promptGraphSizes.length === 0) return [];
    return SMALL_CHUNKS.filter((prompts) => prompts <= Math.min(maxRows, MOST_SAMPLED_TOGETHER));
  }

  #captureFirstTokens(prompts: number): void {
    const key = promptKey('sample', prompts);
    const record = () => this.#launchPicked(prompts);
    this.#promptGraphs.set(key, this.#device.capture(this.#parts.stream, `prompt ${key}`, record));
  }

  /** So many lines of prompts alone. */
  #launchPromptLines(count: number): void {
    launchForward(this.#parts, count, [{ first: 0, count, phase: 'prefill' }]);
  }

  /** Everything that a chunk of prompts may launch. */
  #launchPrompt(count: number): void {
    this.#launchPromptLines(count);
    this.#launchPicked(1);
    this.#launchLines(0, 1);
  }

  /** The first tokens of so many prompts. */
  #launchPicked(prompts: number): void {
    if (this.#parts.shape.task !== 'generate') return;
    const { select, selectRows } = slices(this.#parts.buffers);
    launchPickedHead(this.#parts, select, prompts);
    launchSampling(this.#parts, selectRows, prompts);
  }

  /**
   * The plan's prompts, `count` lines of them, and a step of its decoding rows in the same pass
   * over the weights.
   */
  #launchPrompts(
    number: number,
    plan: StepPlan,
    lines: readonly PromptLine[],
    count: number,
    slots: FilledSlot[],
  ): void {
    const prompts = { first: 0, count, phase: 'prefill' } as const;
    const first = padded(count);
    const rows = { first, count: plan.decode.length, phase: 'decode' } as const;
    const rowLines = `${rows.first}+${rows.count}`;
    if (rows.count > 0) {
      launchKept(this.#parts, `begin ${rowLines}`, (parts) => {
        launchBeginRows(parts, rows.first, rows.count);
      });
      launchForward(this.#parts, first + padded(rows.count), [rows, prompts]);
    } else {
      this.#launchGraphOr(promptKey('forward', count), () => this.#launchPromptLines(count));
    }
    const isSampled = ({ last, sequence }: PrefillChunk) =>
      last && sequence.request.pooling === undefined;
    const last = plan.prefill.filter(isSampled);
    if (last.length > 0) {
      const { length } = last;
      this.#launchGraphOr(promptKey('sample', length), () => {
        launchKept(this.#parts, `sample ${length}`, (parts) => {
          const { select, selectRows } = slices(parts.buffers);
          launchPickedHead(parts, select, length);
          launchSampling(parts, selectRows, length);
        });
      });
      slots.push(this.#fillSlot(last.map((chunk) => chunk.sequence)));
    }
    if (lines.length > 0) this.#launchLines(number, lines.length);
    if (rows.count > 0) {
      launchKept(this.#parts, `sample ${rowLines}`, (parts) => {
        launchRowSampling(parts, rows.first, rows.count);
      });
      slots.push(this.#fillSlot(plan.decode));
    }
  }

  #launchGraphOr(key: string, launch: () => void): void {
    const graph = this.#promptGraphs.get(key);
    if (graph === undefined) launch();
    else this.#parts.stream.launchGraph(graph);
  }

  /** What is wanted of the lines that a plan names beside those that are sampled. */
  #launchLines(number: number, count: number): void {
    if (this.#parts.shape.task === 'embed') this.#launchPooling(number, count);
    else this.#launchPromptLogprobs(number, count);
  }

  #launchPooling(number: number, count: number): void {
    const { stream, buffers, spec, weights } = this.#parts;
    const { residual: input, promptSelect: indices } = slices(buffers);
    const slotBytes = buffers.embeddings.bytes / IN_FLIGHT;
    const out = slice(buffers.embeddings, (number % IN_FLIGHT) * slotBytes, slotBytes);
    const { hiddenSize: width, normOffset } = spec;
    const norm = weights.finalNorm;
    stream.launch('pool', { input, indices, norm, normOffset, out, count, width });
  }

  #launchPromptLogprobs(number: number, count: number): void {
    const { stream, buffers, spec } = this.#parts;
    const { logits, promptSelect, promptTargets } = slices(buffers);
    launchPickedHead(this.#parts, promptSelect, count);
    const slotBytes = buffers.promptLogprobs.bytes / IN_FLIGHT;
    stream.launch('prompt-logprobs', {
      logits,
      targets: promptTargets,
      out: slice(buffers.promptLogprobs, (number % IN_FLIGHT) * slotBytes, slotBytes),
      count,
      vocab: spec.vocabularySize,
    });
  }

  #fillSlot(sequences: readonly Sequence[], linesPerRow = 1): FilledSlot {
    const logprobs = sequences.some(({ request }) => request.sampling.logprobs !== undefined);
    const slot = { step: this.#step, sequences, linesPerRow, logprobs };
    this.#step = (this.#step + 1) | 0;
    return slot;
  }
}
