import { invariant, SHARED_TENANT } from '@bridgekeeper/bridge';
import {
  CONTROL_WORDS,
  CommandWriter,
  type Device,
  type Graph,
  type HostBuffer,
  LOGPROB_WORDS,
  RESULT_HEADER_WORDS,
  RESULT_WORDS,
  resultSlotWords,
  slice,
} from '@bridgekeeper/device';
import type { TokenLogprobs } from '../request.ts';
import type { RowResult, StepPlan, StepResults } from '../scheduler/plan.ts';
import type { Sequence } from '../scheduler/sequence.ts';
import type { Door } from './door.ts';
import { type ForwardParts, launchForward, launchHead, launchSampling, slices } from './forward.ts';
import { readLogprobs, readSlot } from './results.ts';
import { maxCommandRecords } from './shapes.ts';
import { type PromptLine, promptLines, writeStepCommand } from './step-command.ts';

/** The lines that one sampling of a launched step filled, and whose they are. */
interface FilledSlot {
  readonly step: number;
  readonly sequences: readonly Sequence[];
  /** Some of them want logprobs. */
  readonly logprobs: boolean;
}

/** A step on its way: what must be drained once it is done. */
export interface LaunchedStep {
  readonly plan: StepPlan;
  readonly slots: readonly FilledSlot[];
  readonly promptLines: readonly PromptLine[];
}

/** Where the decode batch is launched from: sizes for which graphs are captured. */
function decodeBuckets(maxRows: number): number[] {
  const buckets: number[] = [];
  for (let size = 1; size < maxRows; size += size < 8 ? size : size < 64 ? 8 : 32) {
    buckets.push(size);
  }
  return [...buckets, maxRows];
}

/**
 * Runs planned steps on a device. The policies choose when each of `upload`, `launch` and `drain`
 * happens and through which door; this class knows what they consist of.
 */
export class Runner {
  readonly #device: Device;
  readonly #parts: ForwardParts;
  readonly #buckets: readonly number[];
  readonly #graphs = new Map<number, Graph>();
  readonly #staging: readonly { host: HostBuffer; writer: CommandWriter }[];
  readonly #drained: Readonly<Record<'results' | 'logprobs' | 'promptLogprobs', HostBuffer>>;
  #nextStaging = 0;
  /** The device's list of decode rows, as last uploaded. */
  #decodeRows: Int32Array = new Int32Array(0);
  /** Mirrors the device's CONTROL.STEP. */
  #step = 0;

  constructor(device: Device, parts: ForwardParts) {
    this.#device = device;
    this.#parts = parts;
    const { maxRows } = parts.shape;
    this.#buckets = decodeBuckets(maxRows);
    const { command, promptLogprobs } = parts.buffers;
    this.#staging = [0, 1].map((index) => {
      const host = device.allocateHost(command.bytes, 'pinned', `command staging ${index}`);
      const words = new Int32Array(host.bytes.buffer, host.bytes.byteOffset, command.bytes / 4);
      return { host, writer: new CommandWriter(words, maxCommandRecords(parts.shape)) };
    });
    const logprobBytes = 2 * maxRows * LOGPROB_WORDS * 4;
    this.#drained = {
      results: device.allocateHost(2 * resultSlotWords(maxRows) * 4, 'pinned', 'drained results'),
      logprobs: device.allocateHost(logprobBytes, 'pinned', 'drained logprobs'),
      promptLogprobs: device.allocateHost(
        promptLogprobs.bytes,
        'pinned',
        'drained prompt logprobs',
      ),
    };
  }

  /**
   * Captures the decode graphs, largest first, so that later steps allocate and compile nothing.
   */
  async warmUp(): Promise<void> {
    const { stream, buffers } = this.#parts;
    const { control } = slices(buffers);
    const zero = { mean: 0, spread: 0, seed: 0 };
    stream.launch('fill-uniform', { out: control, elements: CONTROL_WORDS, type: 'f32', ...zero });
    for (const bucket of [...this.#buckets].reverse()) this.#decodeGraph(bucket);
    await stream.synchronize();
  }

  /**
   * Brings the device what `plan` needs to know: at most one crossing. Resolves when it has been
   * applied or queued.
   */
  async upload(plan: StepPlan, door: Door): Promise<void> {
    const { host, writer } = this.#staging[this.#nextStaging]!;
    const lines = promptLines(plan);
    writeStepCommand(writer, plan, this.#parts.shape, lines, this.#changedDecodeRows(plan));
    if (writer.records === 0) return;
    const bytes = writer.finish();
    this.#nextStaging = 1 - this.#nextStaging;
    const { stream, buffers } = this.#parts;
    await door.copy({
      direction: 'h2d',
      device: slice(buffers.command, 0, bytes),
      host,
      hostOffsetBytes: 0,
      stream,
      purpose: 'command',
      tenant: SHARED_TENANT,
    });
    stream.launch('apply-command', {
      ...slices(buffers),
      vocab: this.#parts.spec.vocabularySize,
      maxRecords: maxCommandRecords(this.#parts.shape),
    });
  }

  /** Launches the plan's prompts and then its decode rows. Never waits. */
  launch(plan: StepPlan): LaunchedStep {
    const lines = promptLines(plan);
    const slots: FilledSlot[] = [];
    if (plan.prefill.length > 0) this.#launchPrefill(plan, lines, slots);
    if (plan.decode.length > 0) {
      this.#parts.stream.launchGraph(this.#decodeGraph(this.#bucket(plan.decode.length)));
      slots.push(this.#fillSlot(plan.decode));
    }
    return { plan, slots, promptLines: lines };
  }

  /** Fetches what a launched step produced; resolves when it is done. */
  async drain(launched: LaunchedStep, door: Door): Promise<StepResults> {
    const { slots } = launched;
    if (slots.length === 0 && launched.promptLines.length === 0) {
      return { rows: [], promptLogprobs: emptyPromptLogprobs(launched) };
    }
    const { maxRows } = this.#parts.shape;
    const slotBytes = resultSlotWords(maxRows) * 4;
    const usedBytes = (lines: number) => (RESULT_HEADER_WORDS + lines * RESULT_WORDS) * 4;
    await this.#drainRing('results', slots, slotBytes, usedBytes, door);
    if (slots.some((slot) => slot.logprobs)) {
      const lineBytes = LOGPROB_WORDS * 4;
      await this.#drainRing('logprobs', slots, maxRows * lineBytes, (n) => n * lineBytes, door);
    }
    const rows: RowResult[] = [];
    slots.forEach((slot, index) => {
      this.#readSlot(slot, index, slotBytes, rows);
    });
    return { rows, promptLogprobs: await this.#drainPromptLogprobs(launched, door) };
  }

  /**
   * The device's list of decode rows, padded to the batch's bucket, if it must be told of a new
   * one.
   */
  #changedDecodeRows(plan: StepPlan): Int32Array | undefined {
    const { decode } = plan;
    if (decode.length === 0) return undefined;
    const size = this.#bucket(decode.length);
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

  #bucket(rows: number): number {
    const bucket = this.#buckets.find((size) => size >= rows);
    invariant(bucket !== undefined, 'a step never decodes more rows than there are');
    return bucket;
  }

  #decodeGraph(bucket: number): Graph {
    const known = this.#graphs.get(bucket);
    if (known !== undefined) return known;
    const { stream, buffers } = this.#parts;
    const { rows, decodeRows, tokens, tokenRows, positions, normed } = slices(buffers);
    const graph = this.#device.capture(stream, `decode ${bucket}`, () => {
      const count = bucket;
      stream.launch('begin-decode', { rows, decodeRows, tokens, tokenRows, positions, count });
      launchForward(this.#parts, count, 'decode');
      launchHead(this.#parts, normed, count);
      launchSampling(this.#parts, tokenRows, count);
    });
    this.#graphs.set(bucket, graph);
    return graph;
  }

  #launchPrefill(plan: StepPlan, lines: readonly PromptLine[], slots: FilledSlot[]): void {
    const count = plan.prefill.reduce((sum, chunk) => sum + chunk.length, 0);
    launchForward(this.#parts, count, 'prefill');
    const last = plan.prefill.filter((chunk) => chunk.last);
    const { stream, buffers, spec } = this.#parts;
    const {
      normed,
      selected,
      select,
      selectRows,
      logits,
      promptSelect,
      promptTargets,
      promptLogprobs,
    } = slices(buffers);
    const width = spec.hiddenSize;
    if (last.length > 0) {
      const picked = { input: normed, out: selected, count: last.length, width };
      stream.launch('select', { ...picked, indices: select });
      launchHead(this.#parts, selected, last.length);
      launchSampling(this.#parts, selectRows, last.length);
      slots.push(this.#fillSlot(last.map((chunk) => chunk.sequence)));
    }
    if (lines.length > 0) {
      const picked = { input: normed, out: selected, count: lines.length, width };
      stream.launch('select', { ...picked, indices: promptSelect });
      launchHead(this.#parts, selected, lines.length);
      stream.launch('prompt-logprobs', {
        logits,
        targets: promptTargets,
        out: promptLogprobs,
        count: lines.length,
        vocab: spec.vocabularySize,
      });
    }
  }

  #fillSlot(sequences: readonly Sequence[]): FilledSlot {
    const logprobs = sequences.some(({ request }) => request.sampling.logprobs !== undefined);
    const slot = { step: this.#step, sequences, logprobs };
    this.#step = (this.#step + 1) | 0;
    return slot;
  }

  /**
   * Copies the used part of consecutive ring slots to the host: one crossing, or two where the ring
   * wraps.
   */
  async #drainRing(
    ring: 'results' | 'logprobs',
    slots: readonly FilledSlot[],
    slotBytes: number,
    usedBytes: (lines: number) => number,
    door: Door,
  ): Promise<void> {
    const { ringSlots } = this.#parts.shape;
    let first = 0;
    while (first < slots.length) {
      const ringSlot = slots[first]!.step % ringSlots;
      const count = Math.min(slots.length - first, ringSlots - ringSlot);
      const bytes = (count - 1) * slotBytes + usedBytes(slots[first + count - 1]!.sequences.length);
      await door.copy({
        direction: 'd2h',
        device: slice(this.#parts.buffers[ring], ringSlot * slotBytes, bytes),
        host: this.#drained[ring],
        hostOffsetBytes: first * slotBytes,
        stream: this.#parts.stream,
        purpose: 'tokens',
        tenant: SHARED_TENANT,
      });
      first += count;
    }
  }

  #readSlot(slot: FilledSlot, index: number, slotBytes: number, rows: RowResult[]): void {
    const { sequences } = slot;
    const words = hostWords(this.#drained.results, index * slotBytes);
    const lineBytes = LOGPROB_WORDS * 4;
    const logprobsOf = (line: number) => {
      const count = sequences[line]!.request.sampling.logprobs;
      if (count === undefined) return undefined;
      const { maxRows } = this.#parts.shape;
      const logprobs = hostWords(this.#drained.logprobs, index * maxRows * lineBytes);
      return readLogprobs(logprobs, line, count);
    };
    readSlot(words, slot.step, sequences.length, rows, slot.logprobs ? logprobsOf : undefined);
  }

  async #drainPromptLogprobs(launched: LaunchedStep, door: Door): Promise<TokenLogprobs[][]> {
    const gathered = emptyPromptLogprobs(launched);
    const lines = launched.promptLines;
    if (lines.length === 0) return gathered;
    const host = this.#drained.promptLogprobs;
    await door.copy({
      direction: 'd2h',
      device: slice(this.#parts.buffers.promptLogprobs, 0, lines.length * LOGPROB_WORDS * 4),
      host,
      hostOffsetBytes: 0,
      stream: this.#parts.stream,
      purpose: 'tokens',
      tenant: SHARED_TENANT,
    });
    const wanting = launched.plan.prefill.filter(wantsPromptLogprobs);
    lines.forEach((line, index) => {
      const chunk = launched.plan.prefill[line.chunk]!;
      const count = chunk.sequence.request.sampling.promptLogprobs ?? 0;
      gathered[wanting.indexOf(chunk)]!.push(readLogprobs(hostWords(host, 0), index, count));
    });
    return gathered;
  }
}

function wantsPromptLogprobs(chunk: StepPlan['prefill'][number]): boolean {
  return chunk.sequence.request.sampling.promptLogprobs !== undefined;
}

function emptyPromptLogprobs(launched: LaunchedStep): TokenLogprobs[][] {
  return launched.plan.prefill.filter(wantsPromptLogprobs).map(() => []);
}

function hostWords(host: HostBuffer, offsetBytes: number): Int32Array {
  const { buffer, byteOffset, byteLength } = host.bytes;
  return new Int32Array(buffer, byteOffset + offsetBytes, (byteLength - offsetBytes) / 4);
}
