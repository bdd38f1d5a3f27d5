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
  /** Masks that were made, once each, and what one of them took: not part of the steps. */
  readonly masks: number;
  readonly maskNs: number;
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
 * start. The host is at its best here: each mask is made once and then found by the row's place, so
 * that a step costs its two crossings, a copy of a mask for each row, and little else. Rows
 * and steps are set up on the device; nothing schedules, streams or answers.
 */
export async function measureHostMasks(
  device: Device,
  model: PreparedModel,
  { batch, grammar, contextTokens, steps, repeats }: MaskedDecodeSetting,
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
  const words = maskWords(spec.vocabularySize);
  const maskHost = device.allocateHost(batch * words * 4, 'pinned', 'masks');
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
  const known = new HostMasks(grammar.words, vocabulary, () => device.clock.nowNs());
  const stepNs: number[] = [];
  let step = 0;
  for (let repeat = 0; repeat <= repeats; repeat++) {
    const places = await beginRows(model, batch, contextTokens, grammar, repeat);
    places.forEach((place, row) => {
      lines.set(known.maskAt(place), row * words);
    });
    await traffic.launching.cross(down);
    const startedNs = device.clock.nowNs();
    const madeNs = known.ns;
    for (let each = 0; each < steps; each++) {
      stream.launchGraph(graph);
      await stream.synchronize();
      const at = (step++ % shape.ringSlots) * slotBytes;
      await traffic.launching.cross(up(slice(buffers.results.buffer, at, drained)));
      places.forEach((place, row) => {
        const result = RESULT_HEADER_WORDS + row * RESULT_WORDS;
        known.advance(place, results[result + RESULT.TOKEN]!);
        lines.set(known.maskAt(place), row * words);
      });
      await traffic.launching.cross(down);
    }
    const ownNs = device.clock.nowNs() - startedNs - (known.ns - madeNs);
    if (repeat > 0) stepNs.push(ownNs / steps);
  }
  await restartRing(model);
  device.discard(graph);
  device.freeHost(maskHost);
  device.freeHost(resultHost);
  return { stepNs, masks: known.made, maskNs: known.ns / known.made };
}

/** Rows at the start of the grammar, drawing at random; the places that the host keeps of them. */
async function beginRows(
  model: PreparedModel,
  batch: number,
  contextTokens: number,
  grammar: CompiledGrammar,
  seed: number,
): Promise<Int32Array[]> {
  const { buffers, vocabulary } = model.parts;
  const { rows, grammarRows } = slices(buffers);
  const place = grammarPlace(grammar.words, vocabulary!, -1, []);
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
  return Array.from({ length: batch }, () => place.slice());
}

/** Masks by place, each made once. */
class HostMasks {
  made = 0;
  /** For which masks were made. */
  ns = 0;
  readonly #walk: GrammarWalk;
  readonly #vocabulary: Vocabulary;
  readonly #nowNs: () => number;
  readonly #masks = new Map<string, Int32Array>();

  constructor(grammar: Uint32Array, vocabulary: Vocabulary, nowNs: () => number) {
    this.#walk = new GrammarWalk(grammar, vocabulary);
    this.#vocabulary = vocabulary;
    this.#nowNs = nowNs;
  }

  advance(place: Int32Array, token: number): void {
    this.#walk.begin(place);
    const moved = this.#walk.advance(token);
    invariant(moved === 'moved', 'the device samples by the masks');
  }

  maskAt(place: Int32Array): Int32Array {
    const key = place.subarray(0, grammarRowLength(place)).join();
    const known = this.#masks.get(key);
    if (known !== undefined) return known;
    const startedNs = this.#nowNs();
    const vocab = this.#vocabulary.spans.length;
    const mask = new Int32Array(maskWords(vocab));
    this.#walk.begin(place);
    for (let token = 0; token < vocab; token++) {
      if (this.#walk.admits(token)) mask[token >> 5]! |= 1 << (token & 31);
    }
    this.#masks.set(key, mask);
    this.made += 1;
    this.ns += this.#nowNs() - startedNs;
    return mask;
  }
}

function wordsOf({ buffer, byteOffset, byteLength }: Uint8Array): Int32Array {
  return new Int32Array(buffer, byteOffset, byteLength / 4);
}
