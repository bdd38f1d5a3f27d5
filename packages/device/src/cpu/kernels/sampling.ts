import { maskWords } from '../../grammar-layout.ts';
import { sampleUniform } from '../../random.ts';
import {
  CONTROL,
  COUNT_PROMPT,
  LOGPROB_WORDS,
  MAX_BIAS,
  MAX_TOP_LOGPROBS,
  NO_TOKEN,
  ROW,
  ROW_FLAG,
  ROW_WORDS,
} from '../../row-layout.ts';
import { writeLogprobLine } from './logprobs.ts';
import { isRow, stopIds } from './rows.ts';
import { keptThreshold } from './selection.ts';
import { rangeOf, Scratch, type Share } from './share.ts';

export interface SampleArrays {
  readonly rows: Int32Array;
  readonly control: Int32Array;
  readonly lineRows: Int32Array;
  readonly logits: Float32Array;
  readonly counts: Int32Array;
  readonly bias: Int32Array;
  readonly masks: Int32Array;
  readonly sampled: Int32Array;
  readonly logprobs: Int32Array;
}

export interface SampleShape {
  readonly count: number;
  readonly linesPerRow: number;
  readonly vocab: number;
  readonly ringSlots: number;
  readonly ringLines: number;
}

/** Samples a token for each line of a share, as OpArgs' `sample` says. */
export function sample(arrays: SampleArrays, shape: SampleShape, share: Share): void {
  const { rows, control, lineRows, logits, sampled, logprobs } = arrays;
  const { vocab, ringSlots, ringLines } = shape;
  const slot = (control[CONTROL.STEP]! >>> 0) % ringSlots;
  const [from, to] = rangeOf(share, shape.count);
  for (let line = from; line < to; line++) {
    const row = lineRows[line]!;
    if (!isRow(rows, row)) continue;
    const raw = logits.subarray(line * vocab, (line + 1) * vocab);
    const mask = arrays.masks.subarray(line * maskWords(vocab), (line + 1) * maskWords(vocab));
    const generated = rows[row * ROW_WORDS + ROW.GENERATED]! + (line % shape.linesPerRow);
    const token = sampleRow(arrays, raw, mask, row, generated);
    sampled[line] = token;
    const state = row * ROW_WORDS;
    if (token === NO_TOKEN) continue;
    if ((rows[state + ROW.FLAGS]! & ROW_FLAG.LOGPROBS) === 0 || line >= ringLines) continue;
    const at = (slot * ringLines + line) * LOGPROB_WORDS;
    const top = Math.min(Math.max(rows[state + ROW.TOP_LOGPROBS]!, 0), MAX_TOP_LOGPROBS);
    writeLogprobLine(raw, token, top, logprobs.subarray(at, at + LOGPROB_WORDS));
  }
}

const logitScratch = new Scratch();

/** `generated`: tokens of the row before the one that is sampled. */
function sampleRow(
  arrays: SampleArrays,
  raw: Float32Array,
  mask: Int32Array,
  row: number,
  generated: number,
): number {
  const { rows } = arrays;
  const state = row * ROW_WORDS;
  const floats = new Float32Array(rows.buffer, rows.byteOffset + state * 4, ROW_WORDS);
  const logits = logitScratch.take(raw.length);
  for (let v = 0; v < raw.length; v++) {
    const value = raw[v]!;
    // NaN counts as impossible.
    logits[v] = Number.isNaN(value) ? Number.NEGATIVE_INFINITY : value;
  }
  if ((rows[state + ROW.FLAGS]! & ROW_FLAG.GRAMMAR) !== 0) {
    for (let v = 0; v < raw.length; v++) {
      if (((mask[v >> 5]! >>> (v & 31)) & 1) === 0) logits[v] = Number.NEGATIVE_INFINITY;
    }
  }
  addBias(arrays, logits, raw.length, row);
  if (generated < rows[state + ROW.MIN_TOKENS]!) {
    for (const id of stopIds(rows, state)) {
      if (id >= 0 && id < raw.length) logits[id] = Number.NEGATIVE_INFINITY;
    }
  }
  if ((rows[state + ROW.FLAGS]! & ROW_FLAG.PENALTIES) !== 0) {
    const counts = arrays.counts.subarray(row * raw.length, (row + 1) * raw.length);
    penalise(logits, counts, floats);
  }
  const best = argmax(logits, raw.length);
  if (logits[best] === Number.NEGATIVE_INFINITY) return NO_TOKEN;
  const temperature = floats[ROW.TEMPERATURE]!;
  // An infinite best logit leaves nothing to draw from.
  if (!(temperature > 0) || !Number.isFinite(logits[best]!)) return best;
  const uniform = sampleUniform(rows[state + ROW.SEED_LO]!, rows[state + ROW.SEED_HI]!, generated);
  return draw(logits, raw.length, logits[best]!, {
    temperature,
    minP: floats[ROW.MIN_P]!,
    topK: rows[state + ROW.TOP_K]!,
    topP: floats[ROW.TOP_P]!,
    uniform,
  });
}

function addBias(
  { rows, bias }: SampleArrays,
  logits: Float64Array,
  vocab: number,
  row: number,
): void {
  const start = row * MAX_BIAS * 2;
  const count = Math.min(rows[row * ROW_WORDS + ROW.BIAS_COUNT]!, MAX_BIAS);
  if (count <= 0) return;
  const pairs = bias.subarray(start, start + 2 * count);
  const values = new Float32Array(pairs.buffer, pairs.byteOffset, pairs.length);
  for (let i = 0; i < pairs.length; i += 2) {
    const token = pairs[i]!;
    if (token >= 0 && token < vocab) logits[token]! += values[i + 1]!;
  }
  if ((rows[row * ROW_WORDS + ROW.FLAGS]! & ROW_FLAG.ALLOWED) === 0) return;
  const allowed = pairs.filter((_, i) => i % 2 === 0);
  const kept = Array.from(allowed, (token) => logits[token]);
  logits.fill(Number.NEGATIVE_INFINITY, 0, vocab);
  allowed.forEach((token, i) => {
    if (token >= 0 && token < vocab) logits[token] = kept[i]!;
  });
}

function penalise(logits: Float64Array, counts: Int32Array, floats: Float32Array): void {
  const repetition = floats[ROW.REPETITION]!;
  const presence = floats[ROW.PRESENCE]!;
  const frequency = floats[ROW.FREQUENCY]!;
  for (let v = 0; v < counts.length; v++) {
    const count = counts[v]!;
    if (count === 0) continue;
    let logit = logits[v]!;
    logit = logit > 0 ? logit / repetition : logit * repetition;
    const sampledTimes = count & (COUNT_PROMPT - 1);
    if (sampledTimes > 0) logit -= presence + frequency * sampledTimes;
    logits[v] = logit;
  }
}

/** The lowest id of the best logit. */
function argmax(logits: Float64Array, vocab: number): number {
  let best = 0;
  for (let v = 1; v < vocab; v++) if (logits[v]! > logits[best]!) best = v;
  return best;
}

interface Draw {
  readonly temperature: number;
  readonly minP: number;
  readonly topK: number;
  readonly topP: number;
  readonly uniform: number;
}

const massScratch = new Scratch();
const keptScratch = new Scratch();
const keptMassScratch = new Scratch();

/**
 * Filters and draws. Every filter keeps the logits from some threshold up, so the filters are one
 * threshold.
 */
function draw(logits: Float64Array, vocab: number, best: number, how: Draw): number {
  const masses = massScratch.take(vocab);
  for (let v = 0; v < vocab; v++) masses[v] = Math.exp((logits[v]! - best) / how.temperature);
  let threshold = Number.NEGATIVE_INFINITY;
  if (how.minP > 0) threshold = best + Math.log(how.minP) * how.temperature;
  if (how.topK > 0 && how.topK < vocab) {
    const { kept, keptMasses, count } = gather(logits, masses, vocab, threshold);
    keptMasses.fill(1, 0, count);
    threshold = Math.max(threshold, keptThreshold(kept, keptMasses, count, how.topK));
  }
  if (how.topP < 1) {
    const { kept, keptMasses, count } = gather(logits, masses, vocab, threshold);
    let total = 0;
    for (let i = 0; i < count; i++) total += keptMasses[i]!;
    threshold = Math.max(threshold, keptThreshold(kept, keptMasses, count, how.topP * total));
  }
  return inverseCdf(logits, masses, vocab, threshold, how.uniform);
}

/** The logits from `threshold` up, and their masses. */
function gather(logits: Float64Array, masses: Float64Array, vocab: number, threshold: number) {
  const kept = keptScratch.take(vocab);
  const keptMasses = keptMassScratch.take(vocab);
  let count = 0;
  for (let v = 0; v < vocab; v++) {
    if (logits[v]! >= threshold) {
      kept[count] = logits[v]!;
      keptMasses[count] = masses[v]!;
      count += 1;
    }
  }
  return { kept, keptMasses, count };
}

/** The first id at which the mass of kept ids passes `uniform` of their total. */
function inverseCdf(
  logits: Float64Array,
  masses: Float64Array,
  vocab: number,
  threshold: number,
  uniform: number,
): number {
  let total = 0;
  for (let v = 0; v < vocab; v++) if (logits[v]! >= threshold) total += masses[v]!;
  const goal = uniform * total;
  let mass = 0;
  let last = 0;
  for (let v = 0; v < vocab; v++) {
    if (!(logits[v]! >= threshold) || masses[v] === 0) continue;
    mass += masses[v]!;
    last = v;
    if (mass > goal) break;
  }
  return last;
}
