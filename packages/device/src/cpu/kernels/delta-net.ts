import { inverseRms } from './branches.ts';
import { type Norm, sigmoid, silu } from './lines.ts';
import { rangeOf, Scratch, type Share } from './share.ts';

/** The gated delta net: `causal-conv`, `delta-rule` and `gated-norm` of ops.ts. */

/** Inputs that a step of the convolution sees. */
export const CONV_TAPS = 4;
const KEPT = CONV_TAPS - 1;
/** Within a head's length, which keeps it from being zero. */
const LENGTH_EPSILON = 1e-6;

/** A batch's tokens and what their rows keep, in numbers. */
export interface RowRuns {
  readonly states: Float32Array;
  readonly rowStride: number;
  readonly layerStart: number;
  readonly tokenRows: Int32Array;
  readonly positions: Int32Array;
  readonly count: number;
  readonly isTrial: boolean;
}

/** Tokens [first, end) of a row whose state begins at `state`. */
interface Run {
  readonly first: number;
  readonly end: number;
  readonly state: number;
  /** It begins at position 0: what the state holds is another sequence's. */
  readonly isFresh: boolean;
}

/** Rows whose state of `size` is not within the array have no run: they are padding. */
function* runsOf(rows: RowRuns, size: number): Generator<Run> {
  const { states, rowStride, layerStart, tokenRows, positions, count } = rows;
  for (let first = 0, end = 0; first < count; first = end) {
    const row = tokenRows[first]!;
    end = first + 1;
    while (end < count && tokenRows[end] === row) end++;
    const state = row * rowStride + layerStart;
    if (row < 0 || state + size > states.length) continue;
    yield { first, end, state, isFresh: positions[first] === 0 };
  }
}

export interface ConvArgs extends RowRuns {
  readonly lines: Float32Array;
  readonly weight: Float32Array;
  readonly out: Float32Array;
  readonly stride: number;
  readonly channels: number;
}

/** For a share of the channels. */
export function causalConv(args: ConvArgs, share: Share): void {
  const { states, lines, weight, out, stride, channels } = args;
  const [from, to] = rangeOf(share, channels);
  for (const { first, end, state, isFresh } of runsOf(args, KEPT * channels)) {
    for (let channel = from; channel < to; channel++) {
      let [a, b, c] = [0, 1, 2].map((at) =>
        isFresh ? 0 : states[state + at * channels + channel]!,
      );
      for (let token = first; token < end; token++) {
        const input = lines[token * stride + channel]!;
        const tap = channel * CONV_TAPS;
        const sum =
          weight[tap]! * a! +
          weight[tap + 1]! * b! +
          weight[tap + 2]! * c! +
          weight[tap + 3]! * input;
        out[token * channels + channel] = silu(sum);
        [a, b, c] = [b, c, input];
      }
      if (args.isTrial) continue;
      states[state + channel] = a!;
      states[state + channels + channel] = b!;
      states[state + 2 * channels + channel] = c!;
    }
  }
}

export interface DeltaArgs extends RowRuns {
  readonly mixed: Float32Array;
  readonly gates: Float32Array;
  readonly decayLog: Float32Array;
  readonly stepBias: Float32Array;
  readonly out: Float32Array;
  readonly keyHeads: number;
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
}

const queryScratch = new Scratch();
const keyScratch = new Scratch();
const stepScratch = new Scratch();
const sumScratch = new Scratch();
let trialState = new Float32Array(0);

const softplus = (x: number) => (x > 20 ? x : Math.log1p(Math.exp(x)));

/** `from` over its length, times `scale`, in `to`. */
function unit(
  mixed: Float32Array,
  start: number,
  scale: number,
  to: Float64Array,
  width: number,
): void {
  let squares = 0;
  for (let i = 0; i < width; i++) squares += mixed[start + i]! * mixed[start + i]!;
  const factor = scale / Math.sqrt(squares + LENGTH_EPSILON);
  for (let i = 0; i < width; i++) to[i] = mixed[start + i]! * factor;
}

/** For a share of the value heads. */
export function deltaRule(args: DeltaArgs, share: Share): void {
  const { valueHeads, keyDim, valueDim, isTrial } = args;
  const size = keyDim * valueDim;
  if (isTrial && trialState.length < size) trialState = new Float32Array(size);
  const [from, to] = rangeOf(share, valueHeads);
  for (const run of runsOf(args, valueHeads * size)) {
    for (let head = from; head < to; head++) {
      const own = run.state + head * size;
      if (isTrial) trialState.set(args.states.subarray(own, own + size));
      const [states, state] = isTrial ? [trialState, 0] : [args.states, own];
      if (run.isFresh) states.fill(0, state, state + size);
      for (let token = run.first; token < run.end; token++) {
        stepHead(args, token, head, states, state);
      }
    }
  }
}

function stepHead(
  args: DeltaArgs,
  token: number,
  head: number,
  states: Float32Array,
  state: number,
): void {
  const { mixed, gates, decayLog, stepBias, out } = args;
  const { keyHeads, valueHeads, keyDim, valueDim } = args;
  const keyHead = Math.floor((head * keyHeads) / valueHeads);
  const keys = keyHeads * keyDim;
  const line = token * (2 * keys + valueHeads * valueDim);
  const query = queryScratch.take(keyDim);
  const key = keyScratch.take(keyDim);
  unit(mixed, line + keyHead * keyDim, 1 / Math.sqrt(keyDim), query, keyDim);
  unit(mixed, line + keys + keyHead * keyDim, 1, key, keyDim);
  const gate = token * 2 * valueHeads + head;
  const beta = sigmoid(gates[gate]!);
  const rate = softplus(gates[gate + valueHeads]! + stepBias[head]!);
  const decay = Math.exp(-Math.exp(decayLog[head]!) * rate);
  const step = stepScratch.take(valueDim);
  step.fill(0, 0, valueDim);
  for (let i = 0; i < keyDim; i++) {
    for (let j = 0; j < valueDim; j++) {
      const at = state + i * valueDim + j;
      states[at]! *= decay;
      step[j]! += states[at]! * key[i]!;
    }
  }
  const values = line + 2 * keys + head * valueDim;
  for (let j = 0; j < valueDim; j++) step[j] = beta * (mixed[values + j]! - step[j]!);
  const sums = sumScratch.take(valueDim);
  sums.fill(0, 0, valueDim);
  for (let i = 0; i < keyDim; i++) {
    for (let j = 0; j < valueDim; j++) {
      const at = state + i * valueDim + j;
      states[at]! += key[i]! * step[j]!;
      sums[j]! += states[at]! * query[i]!;
    }
  }
  const to = (token * valueHeads + head) * valueDim;
  for (let j = 0; j < valueDim; j++) out[to + j] = sums[j]!;
}

/** For a share of the lines. */
export function gatedNorm(
  lines: Float32Array,
  { weight, epsilon }: Norm,
  out: Float32Array,
  shape: { count: number; stride: number; first: number; heads: number },
  share: Share,
): void {
  const { count, stride, first, heads } = shape;
  const width = weight.length;
  const [from, to] = rangeOf(share, count);
  for (let line = from; line < to; line++) {
    for (let head = 0; head < heads; head++) {
      const start = (line * heads + head) * width;
      const gates = line * stride + first + head * width;
      const factor = inverseRms(out, start, width, epsilon);
      for (let i = 0; i < width; i++) {
        out[start + i] = out[start + i]! * factor * weight[i]! * silu(lines[gates + i]!);
      }
    }
  }
}
