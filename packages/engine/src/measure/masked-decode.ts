import { invariant, SHARED_TENANT } from '@bridgekeeper/bridge';
import {
  type CopyRequest,
  type Device,
  GRAMMAR_ROW_WORDS,
  GrammarWalk,
  grammarPlace,
  grammarRowLength,
  maskWords,
  RESULT,
  RESULT_HEADER_WORDS,
  RESULT_WORDS,
  ROW,
  ROW_FLAG,
  ROW_WORDS,
  resultSlotWords,
  type Slice,
  slice,
  type Vocabulary,
} from '@bridgekeeper/device';
import type { PreparedModel } from '../create.ts';
import type { CompiledGrammar } from '../grammar/compiled.ts';
import { launchDecodeStep, slices } from '../runner/forward.ts';
import { setUpRows, write } from './steps.ts';

export interface MaskedDecodeSetting {
  readonly batch: number;
  readonly grammar: CompiledGrammar;
  readonly contextTokens: number;
  readonly steps: number;
  readonly repeats: number;
}

export interface HostMaskTimes {
  /** Of one step, for each repeat. */
  readonly stepNs: readonly number[];
  /** Masks that were made, and what one of them took. */
  readonly masks: number;
  readonly maskNs: number;
}

/** What a host keeps of a grammar for each row, and makes masks of. */
export interface HostGrammars {
  /** So many rows are at the start of the grammar. */
  begin(rows: number): void | Promise<void>;
  /** The row's next token, which its last mask admits. */
  advance(row: number, token: number): void;
  /** maskWords(vocab) words: a bit for each token that the row admits. Not to be kept. */
  maskOf(row: number): Int32Array | Promise<Int32Array>;
}

const NEVER = 0x7fffffff;

/**
 * Decode steps whose masks the device makes: all steps of a repeat are launched at once, and
 * nothing crosses between them. What one took, in nanoseconds, for each repeat.
 */
export async function measureDeviceMasks(
  device: Device,
  model: PreparedModel,
  { batch, grammar, contextTokens, steps, repeats }: MaskedDecodeSetting,
): Promise<readonly number[]> {
  const { parts, runner } = model;
  const bucket = runner.bucketOf(batch);
  await setUpRows(model, { batch, bucket, tokens: contextTokens + steps });
  await write(model, slices(parts.buffers).grammarPool, grammar.words);
  const stepNs: number[] = [];
  for (let repeat = 0; repeat <= repeats; repeat++) {
    await beginRows(model, batch, contextTokens, grammar, repeat);
    const startedNs = device.clock.nowNs();
    runner.launchDecode(bucket, steps);
    await parts.stream.synchronize();
    if (repeat > 0) stepNs.push((device.clock.nowNs() - startedNs) / steps);
  }
  await restartRing(model);
  return stepNs;
}

/** The engine, which may come next, counts its steps from 0. */
function restartRing(model: PreparedModel): Promise<void> {
  return write(model, slices(model.parts.buffers).control, new Int32Array(1));
}

/**
 * Decode steps as engines constrain them that keep grammars on the host: a step's tokens come up,
 * the host moves each row on in its grammar, and the masks for the next step go down before it may
 * start. Rows and steps are set up on the device; nothing schedules, streams or answers.
 *
 * `peer` makes each mask in its step. Without it the host is at its best: each mask is made once,
 * which is no part of the steps, and then found by the row's place, so that a step costs its two
 * crossings, a copy of a mask for each row, and little else.
 */
export async function measureHostMasks(
  device: Device,
  model: PreparedModel,
  { batch, grammar, contextTokens, steps, repeats }: MaskedDecodeSetting,
  peer?: HostGrammars,
): Promise<HostMaskTimes> {
  const { parts, shape, runner, traffic } = model;
  const { stream, vocabulary, spec } = parts;
  invariant(vocabulary !== null, 'the model was prepared with a vocabulary');
  const buffers = slices(parts.buffers);
  const bucket = runner.bucketOf(batch);
  await setUpRows(model, { batch, bucket, tokens: contextTokens + steps });
  await write(model, buffers.grammarPool, grammar.words);
  // Without a vocabulary a step makes no masks, and samples by those that are there.
  const graph = device.capture(stream, 'decode with masks of the host', () =>
    launchDecodeStep({ ...parts, vocabulary: null }, bucket),
  );
  const maskLength = maskWords(spec.vocabularySize);
  const maskHost = device.allocateHost(batch * maskLength * 4, 'pinned', 'masks');
  const slotBytes = resultSlotWords(shape.maxRows) * 4;
  const drained = (RESULT_HEADER_WORDS + batch * RESULT_WORDS) * 4;
  const resultHost = device.allocateHost(drained, 'pinned', 'drained results');
  const lines = wordsOf(maskHost.bytes);
  const results = wordsOf(resultHost.bytes);
  const way = { hostOffsetBytes: 0, stream, tenant: SHARED_TENANT } as const;
  const down: CopyRequest = {
    ...way,
    direction: 'h2d',
    device: { ...buffers.masks, bytes: maskHost.bytes.length },
    host: maskHost,
    purpose: 'command',
  };
  const up = (device: Slice): CopyRequest => ({
    ...way,
    direction: 'd2h',
    device,
    host: resultHost,
    purpose: 'tokens',
  });
  const { clock } = device;
  const grammars =
    peer ?? new KnownMasks(grammar.words, vocabulary, grammarStart(grammar, vocabulary));
  let made = 0;
  let madeNs = 0;
  const makeMasks = async (): Promise<void> => {
    for (let row = 0; row < batch; row++) {
      const startedNs = clock.nowNs();
      const isKnown = grammars instanceof KnownMasks && grammars.has(row);
      const mask = grammars.maskOf(row);
      const words = mask instanceof Promise ? await mask : mask;
      if (!isKnown) {
        made += 1;
        madeNs += clock.nowNs() - startedNs;
      }
      lines.set(words, row * maskLength);
    }
  };
  const stepNs: number[] = [];
  let step = 0;
  for (let repeat = 0; repeat <= repeats; repeat++) {
    await beginRows(model, batch, contextTokens, grammar, repeat);
    await grammars.begin(batch);
    await makeMasks();
    await traffic.launching.cross(down);
    const startedNs = clock.nowNs();
    const before = madeNs;
    for (let each = 0; each < steps; each++) {
      stream.launchGraph(graph);
      await stream.synchronize();
      const at = (step++ % shape.ringSlots) * slotBytes;
      await traffic.launching.cross(up(slice(buffers.results.buffer, at, drained)));
      for (let row = 0; row < batch; row++) {
        const result = RESULT_HEADER_WORDS + row * RESULT_WORDS;
        grammars.advance(row, results[result + RESULT.TOKEN]!);
      }
      await makeMasks();
      await traffic.launching.cross(down);
    }
    const readyNs = peer === undefined ? madeNs - before : 0;
    if (repeat > 0) stepNs.push((clock.nowNs() - startedNs - readyNs) / steps);
  }
  await restartRing(model);
  device.discard(graph);
  device.freeHost(maskHost);
  device.freeHost(resultHost);
  return { stepNs, masks: made, maskNs: madeNs / made };
}

function grammarStart(grammar: CompiledGrammar, vocabulary: Vocabulary): Int32Array {
  return grammarPlace(grammar.words, vocabulary, -1, []);
}

/** Rows at the start of the grammar, drawing at random. */
async function beginRows(
  model: PreparedModel,
  batch: number,
  contextTokens: number,
  grammar: CompiledGrammar,
  seed: number,
): Promise<void> {
  const { buffers, vocabulary } = model.parts;
  const { rows, grammarRows } = slices(buffers);
  const place = grammarStart(grammar, vocabulary!);
  const states = new Int32Array(batch * ROW_WORDS);
  const floats = new Float32Array(states.buffer);
  const places = new Int32Array(batch * GRAMMAR_ROW_WORDS);
  for (let row = 0; row < batch; row++) {
    const at = row * ROW_WORDS;
    states[at + ROW.ACTIVE] = 1;
    states[at + ROW.TOKEN] = row;
    states[at + ROW.POSITION] = contextTokens;
    states[at + ROW.REMAINING] = NEVER;
    states[at + ROW.SEED_LO] = row;
    states[at + ROW.SEED_HI] = seed;
    states[at + ROW.FLAGS] = ROW_FLAG.GRAMMAR;
    floats[at + ROW.TEMPERATURE] = 1;
    floats[at + ROW.TOP_P] = 1;
    floats[at + ROW.REPETITION] = 1;
    places.set(place, row * GRAMMAR_ROW_WORDS);
  }
  await write(model, rows, states);
  await write(model, grammarRows, places);
}

/** Masks by place, each made once. */
class KnownMasks implements HostGrammars {
  readonly #walk: GrammarWalk;
  readonly #vocabulary: Vocabulary;
  readonly #start: Int32Array;
  readonly #masks = new Map<string, Int32Array>();
  #places: Int32Array[] = [];

  constructor(grammar: Uint32Array, vocabulary: Vocabulary, start: Int32Array) {
    this.#walk = new GrammarWalk(grammar, vocabulary);
    this.#vocabulary = vocabulary;
    this.#start = start;
  }

  begin(rows: number): void {
    this.#places = Array.from({ length: rows }, () => this.#start.slice());
  }

  advance(row: number, token: number): void {
    this.#walk.begin(this.#places[row]!);
    const moved = this.#walk.advance(token);
    invariant(moved === 'moved', 'the device samples by the masks');
  }

  has(row: number): boolean {
    return this.#masks.has(this.#keyOf(row));
  }

  maskOf(row: number): Int32Array {
    const key = this.#keyOf(row);
    const known = this.#masks.get(key);
    if (known !== undefined) return known;
    const vocab = this.#vocabulary.spans.length;
    const mask = new Int32Array(maskWords(vocab));
    this.#walk.begin(this.#places[row]!);
    for (let token = 0; token < vocab; token++) {
      if (this.#walk.admits(token)) mask[token >> 5]! |= 1 << (token & 31);
    }
    this.#masks.set(key, mask);
    return mask;
  }

  #keyOf(row: number): string {
    const place = this.#places[row]!;
    return place.subarray(0, grammarRowLength(place)).join();
  }
}

function wordsOf({ buffer, byteOffset, byteLength }: Uint8Array): Int32Array {
  return new Int32Array(buffer, byteOffset, byteLength / 4);
}
