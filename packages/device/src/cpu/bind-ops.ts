import { bf16FromF32 } from '../bf16.ts';
import { checksumOf } from '../checksum.ts';
import { SystemClock } from '../clock/system-clock.ts';
import { targetList } from '../command-targets.ts';
import { e4m3FromF32 } from '../fp8.ts';
import { maskWords } from '../grammar-layout.ts';
import { DIGEST_BYTES, hashPieces, pieceCount } from '../hash-tree.ts';
import { type ExpertGroups, type ExpertMatrix, packedBytes, qkvWidth } from '../ops.ts';
import { storedElementBytes } from '../placement.ts';
import { LOGPROB_WORDS, resultSlotWords } from '../row-layout.ts';
import type { DeviceMemory } from './device-memory.ts';
import { attention, type PagedKv, ropeWriteKv } from './kernels/attention.ts';
import {
  addBranch,
  finishLogits,
  gateLines,
  gateSpan,
  normSpan,
  scaleByPosition,
  sigmoidGate,
} from './kernels/branches.ts';
import { CONV_TAPS, causalConv, deltaRule, gatedNorm, type RowRuns } from './kernels/delta-net.ts';
import {
  chooseExperts,
  type ExpertWeights,
  expertDown,
  expertGate,
  type Groups,
} from './kernels/experts.ts';
import { maskLines } from './kernels/grammar.ts';
import { joinInt4Scales, orderInt4Codes } from './kernels/int4.ts';
import { attendLatents, headLinear, type PagedLines, writeLatents } from './kernels/latent.ts';
import {
  add,
  bytesFromF32,
  embed,
  fillUniform,
  fillUniformRounded,
  gateMul,
  gatherInputs,
  pool,
  rmsNorm,
  select,
  sumInputs,
} from './kernels/lines.ts';
import { promptLogprobs } from './kernels/logprobs.ts';
import { matmul } from './kernels/matmul.ts';
import { type Fp8Weight, matmulFp8 } from './kernels/matmul-fp8.ts';
import { type Int4Weight, matmulInt4 } from './kernels/matmul-int4.ts';
import { gatherPages, scatterPages } from './kernels/pages.ts';
import { place } from './kernels/place.ts';
import {
  type AdvanceArrays,
  advance,
  applyCommand,
  beginDecode,
  type GrammarArrays,
} from './kernels/rows.ts';
import { sample } from './kernels/sampling.ts';
import { rangeOf, type Share } from './kernels/share.ts';
import { accept, draft } from './kernels/speculation.ts';
import type { OpItem, OpRefs, SliceRef } from './messages.ts';
import type { PrimitiveName } from './primitives.ts';
import { SIMD_INPUTS_MAX } from './simd/simd-matmul.ts';

/** An operation with its memory found: ready to run, any number of times. */
export interface BoundOp {
  readonly name: PrimitiveName;
  /** Every worker runs its share; otherwise one worker runs all of it. */
  readonly isSplit: boolean;
  run(share: Share): void;
}

/**
 * An operation that takes less than this on one thread is not split: waking and meeting the others
 * costs as much as they bring. Small models decode single lines on one core and leave the other to
 * the server.
 */
const SPLIT_NS = 200_000;
/**
 * Rough times on one core of a server: of a multiplication in a matmul and elsewhere, and of an
 * exponential.
 */
const MATMUL_STEP_NS = 0.3;
const STEP_NS = 1;
const EXP_NS = 20;
const COPY_BYTE_NS = 0.1;
/** How long rows are is known on the device alone: assume a few hundred positions. */
const ASSUMED_POSITIONS = 256;
const clock = new SystemClock();

/** Keeps this thread busy for so much longer, as a law has it. */
function takeTime(lawNs: number): void {
  if (lawNs === 0) return;
  const endNs = clock.nowNs() + lawNs;
  while (clock.nowNs() < endNs);
}
/** Of SHA-256, for one byte. */
const HASH_NS = 1;

/** What of a binding depends on the operation. */
interface Binding {
  /** How long one thread takes, roughly. */
  readonly aloneNs: number;
  run(share: Share): void;
}

type Binders = { [Name in PrimitiveName]: (memory: DeviceMemory, args: OpRefs<Name>) => Binding };

/** Finds the operation's memory. Arguments that do not fit fail when it is run, as on a GPU. */
export function bindOp(memory: DeviceMemory, { op, args }: OpItem): BoundOp {
  try {
    const bind = BINDERS[op] as (memory: DeviceMemory, args: OpRefs<PrimitiveName>) => Binding;
    const { aloneNs, run } = bind(memory, args);
    return { name: op, isSplit: aloneNs >= SPLIT_NS, run };
  } catch (error) {
    const run = () => {
      throw error;
    };
    return { name: op, isSplit: false, run };
  }
}

const BINDERS: Binders = {
  'apply-command': (memory, args) => {
    const targets = targetList(args).map((target) => memory.words(target));
    const command = memory.words(args.command);
    const counts = memory.words(args.counts);
    const run = () => applyCommand(command, targets, counts, args.vocab, args.maxRecords);
    return { aloneNs: 0, run };
  },

  'begin-decode': (memory, { count, ...args }) => {
    const arrays = {
      rows: memory.words(args.rows),
      decodeRows: memory.i32(args.decodeRows, count),
      tokens: memory.i32(args.tokens, count),
      tokenRows: memory.i32(args.tokenRows, count),
      positions: memory.i32(args.positions, count),
    };
    return { aloneNs: 0, run: () => beginDecode(arrays, count) };
  },

  draft: (memory, args) => {
    const lines = args.count * args.linesPerRow;
    const arrays = {
      rows: memory.words(args.rows),
      decodeRows: memory.i32(args.decodeRows, args.count),
      history: memory.words(args.history),
      tokens: memory.i32(args.tokens, lines),
      tokenRows: memory.i32(args.tokenRows, lines),
      positions: memory.i32(args.positions, lines),
    };
    return { aloneNs: 0, run: () => draft(arrays, args) };
  },

  embed: (memory, { count, width, vocab, scale, ...args }) => {
    const table = memory.f32(args.table, vocab * width);
    const tokens = memory.i32(args.tokens, count);
    const out = memory.f32(args.out, count * width);
    return { aloneNs: 0, run: () => embed(table, tokens, out, scale, width, vocab) };
  },

  'rms-norm': (memory, { count, width, epsilon, normOffset: offset, ...args }) => {
    const input = memory.f32(args.input, count * width);
    const norm = { weight: memory.f32(args.norm, width), offset, epsilon };
    const out = memory.f32(args.out, count * width);
    const run = (share: Share) => rmsNorm(input, norm, out, count, share);
    return { aloneNs: 4 * STEP_NS * count * width, run };
  },

  add: (memory, { elements, ...args }) => {
    const input = memory.f32(args.input, elements);
    const out = memory.f32(args.out, elements);
    return { aloneNs: STEP_NS * elements, run: (share) => add(input, out, share) };
  },

  matmul: (memory, args) => {
    const { count, inputs, outputs } = args;
    const input = memory.f32(args.input, count * inputs);
    const bias = args.bias && memory.f32(args.bias, outputs);
    const out = memory.f32(args.out, count * outputs);
    const shape = { count, inputs, outputs };
    const products = MATMUL_STEP_NS * count * inputs * outputs;
    if (args.format === 'fp8-e4m3') {
      const weight = bindFp8(memory, args);
      const run = (share: Share) => matmulFp8(input, weight, bias, out, shape, share);
      return { aloneNs: products + STEP_NS * inputs * outputs, run };
    }
    if (args.format === 'int4') {
      const weight = bindInt4(memory, args);
      const run = (share: Share) => matmulInt4(input, weight, bias, out, shape, share);
      return { aloneNs: products + STEP_NS * inputs * outputs, run };
    }
    const weight = memory.f32(args.weight, outputs * inputs);
    const simd = inputs <= SIMD_INPUTS_MAX ? memory.simdMatmul(args.weight.id) : null;
    const { offsetBytes } = args.weight;
    const run = (share: Share) =>
      simd === null
        ? matmul(input, weight, bias, out, shape, share)
        : simd.run(input, offsetBytes, bias, out, shape, share);
    return { aloneNs: products, run };
  },

  'rope-write-kv': (memory, args) => {
    const { count, headDim } = args;
    const width = qkvWidth(args);
    const bound = {
      ...args,
      ...bindKv(memory, args),
      qkv: memory.f32(args.qkv, count * width),
      queryNorm: args.queryNorm && memory.f32(args.queryNorm, headDim),
      keyNorm: args.keyNorm && memory.f32(args.keyNorm, headDim),
      rope: memory.floats(args.rope),
    };
    return { aloneNs: 4 * STEP_NS * count * width, run: (share) => ropeWriteKv(bound, share) };
  },

  attend: (memory, args) => {
    const { count, heads, headDim, window } = args;
    const bound = {
      ...args,
      ...bindKv(memory, args),
      qkv: memory.f32(args.qkv, count * qkvWidth(args)),
      sinks: args.sinks && memory.f32(args.sinks, heads),
      out: memory.f32(args.out, count * heads * headDim),
    };
    const positions = window > 0 ? Math.min(window, ASSUMED_POSITIONS) : ASSUMED_POSITIONS;
    const aloneNs = STEP_NS * count * heads * headDim * 2 * positions;
    return { aloneNs, run: (share) => attention(bound, share) };
  },

  'write-latents': (memory, args) => {
    const { count, heads, rank, rotaryDim } = args;
    const width = rank + rotaryDim;
    const bound = {
      ...args,
      ...bindLines(memory, args),
      projected: memory.f32(args.projected, count * heads * args.projectedStride),
      queries: memory.f32(args.queries, count * heads * width),
      latents: memory.f32(args.latents, count * width),
      norm: memory.f32(args.norm, rank),
      rope: memory.floats(args.rope),
    };
    const elements = count * (width + heads * rotaryDim);
    return { aloneNs: 4 * STEP_NS * elements, run: (share) => writeLatents(bound, share) };
  },

  'attend-latents': (memory, args) => {
    const { count, heads, rank, rotaryDim } = args;
    const bound = {
      ...args,
      ...bindLines(memory, args),
      queries: memory.f32(args.queries, count * heads * (rank + rotaryDim)),
      out: memory.f32(args.out, count * heads * rank),
    };
    const aloneNs = STEP_NS * count * heads * 2 * rank * ASSUMED_POSITIONS;
    return { aloneNs, run: (share) => attendLatents(bound, share) };
  },

  'head-linear': (memory, args) => {
    const { count, heads, headRows, rows, columns, isTransposed } = args;
    const { format, blockOutputs, blockInputs } = args;
    const [inputs, outputs] = isTransposed ? [rows, columns] : [columns, rows];
    const all = heads * headRows;
    const strided = (stride: number, width: number) => (count * heads - 1) * stride + width;
    const blocks = Math.ceil(all / blockOutputs) * Math.ceil(columns / blockInputs);
    const weight =
      format === 'element'
        ? { values: memory.f32(args.weight, all * columns), scales: null }
        : {
            values: memory.u8(args.weight, all * columns),
            scales: memory.f32(scalesOf(args), blocks),
          };
    const bound = {
      ...args,
      input: memory.f32(args.input, strided(args.inputStride, inputs)),
      weight: { ...weight, blockOutputs, blockInputs },
      out: memory.f32(args.out, strided(args.outStride, outputs)),
    };
    const aloneNs = STEP_NS * count * heads * rows * columns;
    return { aloneNs, run: (share) => headLinear(bound, share) };
  },

  'choose-experts': (memory, args) => {
    const { count, allExperts, topK } = args;
    const bound = {
      ...args,
      ...bindGroups(memory, args),
      logits: memory.f32(args.logits, count * allExperts),
      tokenRows: memory.i32(args.tokenRows, count),
      choiceBias: args.choiceBias && memory.f32(args.choiceBias, allExperts),
      expertScales: args.expertScales && memory.f32(args.expertScales, allExperts),
      weights: memory.f32(args.weights, count * topK),
    };
    return { aloneNs: 0, run: () => chooseExperts(bound) };
  },

  'expert-gate': (memory, args) => {
    const { count, experts, topK, inputs, inner } = args;
    const bound = {
      ...args,
      ...bindGroups(memory, args),
      input: memory.f32(args.input, count * inputs),
      weights: bindExperts(memory, args, experts * 2 * inner),
      bias: args.bias && memory.f32(args.bias, experts * 2 * inner),
      out: memory.f32(args.out, count * topK * inner),
    };
    const aloneNs = STEP_NS * count * topK * inputs * 2 * inner;
    return { aloneNs, run: (share) => expertGate(bound, share) };
  },

  'expert-down': (memory, args) => {
    const { count, experts, topK, inputs, outputs } = args;
    const bound = {
      ...args,
      ...bindGroups(memory, args),
      input: memory.f32(args.input, count * topK * inputs),
      matrix: bindExperts(memory, args, experts * outputs),
      bias: args.bias && memory.f32(args.bias, experts * outputs),
      weights: memory.f32(args.weights, count * topK),
      out: memory.f32(args.out, count * outputs),
    };
    const aloneNs = STEP_NS * count * topK * inputs * outputs;
    return { aloneNs, run: (share) => expertDown(bound, share) };
  },

  'gate-mul': (memory, { count, width, activation, ...args }) => {
    const input = memory.f32(args.input, count * 2 * width);
    const out = memory.f32(args.out, count * width);
    const run = (share: Share) => gateMul(activation, input, out, count, width, share);
    return { aloneNs: EXP_NS * count * width, run };
  },

  'add-branch': (memory, { count, width, scale, epsilon, normOffset: offset, ...args }) => {
    const input = memory.f32(args.input, count * width);
    const norm = args.norm && { weight: memory.f32(args.norm, width), offset, epsilon };
    const out = memory.f32(args.out, count * width);
    const outScale = args.outScale && memory.f32(args.outScale, 1);
    const branch = { input, norm, scale, outScale, epilogue: args.epilogue, out };
    const run = (share: Share) => addBranch(branch, { count, width }, share);
    return { aloneNs: 4 * STEP_NS * count * width, run };
  },

  'norm-span': (memory, { count, stride, first, width, epsilon, ...args }) => {
    const lines = memory.f32(args.lines, count * stride);
    const norm = { weight: memory.f32(args.norm, width), offset: 0, epsilon };
    const run = (share: Share) => normSpan(lines, norm, { count, stride, first }, share);
    return { aloneNs: 4 * STEP_NS * count * width, run };
  },

  'scale-by-position': (memory, args) => {
    const { count, stride } = args;
    const lines = memory.f32(args.lines, count * stride);
    const positions = memory.i32(args.positions, count);
    return { aloneNs: 0, run: () => scaleByPosition(lines, positions, args) };
  },

  'sigmoid-gate': (memory, { elements, ...args }) => {
    const input = memory.f32(args.input, elements);
    const out = memory.f32(args.out, elements);
    return { aloneNs: EXP_NS * elements, run: (share) => sigmoidGate(input, out, share) };
  },

  'gate-span': (memory, { count, width, stride, ...args }) => {
    const out = memory.f32(args.out, count * width);
    const lines = memory.f32(args.lines, count * stride);
    const { activation, first } = args;
    const span = { activation, count, width, stride, first };
    return { aloneNs: EXP_NS * count * width, run: (share) => gateSpan(out, lines, span, share) };
  },

  'gate-lines': (memory, { count, inputs, width, ...args }) => {
    const input = memory.f32(args.input, count * inputs);
    const weight = memory.f32(args.weight, inputs);
    const out = memory.f32(args.out, count * width);
    const run = (share: Share) => gateLines(input, weight, out, { count, width }, share);
    return { aloneNs: STEP_NS * count * (inputs + width), run };
  },

  'finish-logits': (memory, { elements, scale, cap, ...args }) => {
    const logits = memory.f32(args.logits, elements);
    const aloneNs = (cap > 0 ? EXP_NS : STEP_NS) * elements;
    return { aloneNs, run: (share) => finishLogits(logits, scale, cap, share) };
  },

  'causal-conv': (memory, args) => {
    const { count, stride, channels } = args;
    const bound = {
      ...bindRows(memory, args),
      lines: memory.f32(args.lines, count * stride),
      weight: memory.f32(args.weight, channels * CONV_TAPS),
      out: memory.f32(args.out, count * channels),
      stride,
      channels,
    };
    return { aloneNs: EXP_NS * count * channels, run: (share) => causalConv(bound, share) };
  },

  'delta-rule': (memory, args) => {
    const { count, keyHeads, valueHeads, keyDim, valueDim } = args;
    const width = 2 * keyHeads * keyDim + valueHeads * valueDim;
    const bound = {
      ...bindRows(memory, args),
      mixed: memory.f32(args.mixed, count * width),
      gates: memory.f32(args.gates, count * 2 * valueHeads),
      decayLog: memory.f32(args.decayLog, valueHeads),
      stepBias: memory.f32(args.stepBias, valueHeads),
      out: memory.f32(args.out, count * valueHeads * valueDim),
      keyHeads,
      valueHeads,
      keyDim,
      valueDim,
    };
    const aloneNs = 4 * STEP_NS * count * valueHeads * keyDim * valueDim;
    return { aloneNs, run: (share) => deltaRule(bound, share) };
  },

  'gated-norm': (memory, { count, stride, first, heads, width, epsilon, ...args }) => {
    const lines = memory.f32(args.lines, count * stride);
    const norm = { weight: memory.f32(args.norm, width), offset: 0, epsilon };
    const out = memory.f32(args.out, count * heads * width);
    const shape = { count, stride, first, heads };
    return {
      aloneNs: EXP_NS * count * heads * width,
      run: (share) => gatedNorm(lines, norm, out, shape, share),
    };
  },

  copy: (memory, { bytes, ...args }) => {
    const input = memory.u8(args.input, bytes);
    const out = memory.u8(args.out, bytes);
    return { aloneNs: 0, run: () => out.set(input) };
  },

  'gather-pages': (memory, { out: to, ...args }) => {
    const { pages, partBytes } = args;
    const kv = memory.u8(args.kv, args.kv.bytes);
    const out = memory.u8(to, pages.length * partBytes);
    const run = (share: Share) => gatherPages(kv, out, args, share);
    return { aloneNs: COPY_BYTE_NS * out.length, run };
  },

  'scatter-pages': (memory, { input: from, ...args }) => {
    const { pages, partBytes } = args;
    const kv = memory.u8(args.kv, args.kv.bytes);
    const input = memory.u8(from, pages.length * partBytes);
    const run = (share: Share) => scatterPages(input, kv, args, share);
    return { aloneNs: COPY_BYTE_NS * input.length, run };
  },

  'all-reduce': (memory, { count, width, epilogue, lawNs = 0, ...args }) => {
    const elements = count * width;
    const inputs = args.inputs.map((input) => memory.f32(input, elements));
    const out = memory.f32(args.out, elements);
    const run = (share: Share) => {
      sumInputs(inputs, out, epilogue === 'add', share);
      takeTime(lawNs);
    };
    return { aloneNs: STEP_NS * elements * inputs.length, run };
  },

  'all-gather': (memory, { count, width, lawNs = 0, ...args }) => {
    const inputs = args.inputs.map((input) => memory.f32(input, count * width));
    const out = memory.f32(args.out, count * width * inputs.length);
    const run = (share: Share) => {
      gatherInputs(inputs, out, { count, width }, share);
      takeTime(lawNs);
    };
    return { aloneNs: 4 * COPY_BYTE_NS * out.length, run };
  },

  select: (memory, { count, width, ...args }) => {
    const input = memory.floats(args.input);
    const indices = memory.i32(args.indices, count);
    const out = memory.f32(args.out, count * width);
    return { aloneNs: 0, run: () => select(input, indices, out, width) };
  },

  pool: (memory, { count, width, normOffset: offset, ...args }) => {
    const input = memory.floats(args.input);
    const indices = memory.i32(args.indices, count);
    const norm = { weight: memory.f32(args.norm, width), offset };
    const out = memory.f32(args.out, count * width);
    return { aloneNs: 0, run: () => pool(input, indices, norm, out) };
  },

  'grammar-mask': (memory, args) => {
    const { count, vocab } = args;
    const arrays = {
      ...bindGrammars(memory, args, vocab),
      rows: memory.words(args.rows),
      lineRows: memory.i32(args.lineRows, count),
      masks: memory.i32(args.masks, count * maskWords(vocab)),
    };
    return {
      aloneNs: 10 * STEP_NS * count * vocab,
      run: (share) => maskLines(arrays, args, share),
    };
  },

  sample: (memory, args) => {
    const { count, vocab, ringSlots, ringLines } = args;
    const arrays = {
      rows: memory.words(args.rows),
      control: memory.words(args.control),
      lineRows: memory.i32(args.lineRows, count),
      logits: memory.f32(args.logits, count * vocab),
      counts: memory.words(args.counts),
      bias: memory.words(args.bias),
      masks: memory.i32(args.masks, count * maskWords(vocab)),
      sampled: memory.i32(args.sampled, count),
      logprobs: memory.i32(args.logprobs, ringSlots * ringLines * LOGPROB_WORDS),
    };
    // A line is never cut: one alone cannot be split.
    const aloneNs = count > 1 ? 2 * EXP_NS * count * vocab : 0;
    return { aloneNs, run: (share) => sample(arrays, args, share) };
  },

  advance: (memory, args) => {
    const arrays = bindAdvance(memory, args);
    return { aloneNs: 0, run: () => advance(arrays, args) };
  },

  accept: (memory, args) => {
    const arrays = {
      ...bindAdvance(memory, args),
      tokens: memory.i32(args.tokens, args.count),
      history: memory.words(args.history),
    };
    return { aloneNs: 0, run: () => accept(arrays, args) };
  },

  'prompt-logprobs': (memory, { count, vocab, ...args }) => {
    const logits = memory.f32(args.logits, count * vocab);
    const targets = memory.i32(args.targets, count);
    const out = memory.i32(args.out, count * LOGPROB_WORDS);
    const run = (share: Share) => promptLogprobs(logits, targets, out, vocab, share);
    return { aloneNs: EXP_NS * count * vocab, run };
  },

  'fill-uniform': (memory, { elements, type, mean, spread, seed, ...args }) => {
    const aloneNs = EXP_NS * elements;
    if (type === 'f32') {
      const out = memory.f32(args.out, elements);
      return { aloneNs, run: (share) => fillUniform(out, mean, spread, seed, share) };
    }
    if (type === 'bf16') {
      const out = memory.u16(args.out, elements);
      const run = (share: Share) => fillUniformRounded(out, bf16FromF32, mean, spread, seed, share);
      return { aloneNs, run };
    }
    const out = memory.u8(args.out, elements);
    const round = type === 'byte' ? bytesFromF32 : e4m3FromF32;
    const run = (share: Share) => fillUniformRounded(out, round, mean, spread, seed, share);
    return { aloneNs, run };
  },

  place: (memory, { input, inputOffsetBytes, out: target, ...args }) => {
    const bytes = inputOffsetBytes + args.count * storedElementBytes(args.from);
    const piece = memory.u8(input, bytes).subarray(inputOffsetBytes);
    const out = memory.u8(target, target.bytes);
    const shape = { ...args, inputOffsetBytes };
    const run = (share: Share) => place(piece, out, shape, share);
    return { aloneNs: STEP_NS * args.count, run };
  },

  'order-int4-codes': (memory, { order, inputs, outputs, ...args }) => {
    const words = (inputs * outputs) / 8;
    const input = unsigned(memory.i32(args.input, words));
    const out = unsigned(memory.i32(args.out, words));
    const sizes = { order, inputs, outputs };
    const run = (share: Share) => orderInt4Codes(input, out, sizes, share);
    return { aloneNs: STEP_NS * inputs * outputs, run };
  },

  'join-int4-scales': (memory, { scaleType, zeroOffset, order, outputs, groups, ...args }) => {
    const count = outputs * groups;
    const scales = memory.u16(args.scales, count);
    const zeros = args.zeros && unsigned(memory.i32(args.zeros, count / 8));
    const out = unsigned(memory.i32(args.out, count));
    const sizes = { scaleType, zeroOffset, order, outputs, groups };
    const run = (share: Share) => joinInt4Scales(scales, zeros, out, sizes, share);
    return { aloneNs: 4 * STEP_NS * count, run };
  },

  checksum: (memory, { bytes, ...args }) => {
    const input = memory.u8(args.input, bytes);
    const out = memory.i32(args.out, 2);
    return { aloneNs: 0, run: () => out.set(checksumOf(input)) };
  },

  'hash-pieces': (memory, { bytes, pieceBytes, ...args }) => {
    const pieces = pieceCount(bytes, pieceBytes);
    const input = memory.u8(args.input, bytes);
    const out = memory.u8(args.out, pieces * DIGEST_BYTES);
    const run = (share: Share) => hashPieces(input, pieceBytes, out, ...rangeOf(share, pieces));
    return { aloneNs: HASH_NS * bytes, run };
  },
};

function bindAdvance(
  memory: DeviceMemory,
  args: OpRefs<'advance'> | OpRefs<'accept'>,
): AdvanceArrays {
  const { count, vocab, ringSlots, ringLines } = args;
  return {
    rows: memory.words(args.rows),
    control: memory.words(args.control),
    counts: memory.words(args.counts),
    results: memory.i32(args.results, ringSlots * resultSlotWords(ringLines)),
    lineRows: memory.i32(args.lineRows, count),
    sampled: memory.i32(args.sampled, count),
    grammar: bindGrammars(memory, args, vocab),
  };
}

function bindGrammars(
  memory: DeviceMemory,
  args: OpRefs<'grammar-mask'> | OpRefs<'advance'> | OpRefs<'accept'>,
  vocab: number,
): GrammarArrays {
  return {
    grammarRows: memory.words(args.grammarRows),
    pool: unsigned(memory.words(args.grammarPool)),
    vocabulary: {
      spans: unsigned(memory.i32(args.tokenSpans, vocab)),
      heads: unsigned(memory.i32(args.tokenHeads, vocab)),
      bytes: unsigned(memory.words(args.tokenBytes)),
    },
  };
}

function unsigned(words: Int32Array): Uint32Array {
  return new Uint32Array(words.buffer, words.byteOffset, words.length);
}

function bindFp8(memory: DeviceMemory, args: OpRefs<'matmul'>): Fp8Weight {
  const { inputs, outputs, blockOutputs, blockInputs, scales } = args;
  if (scales === null) throw new RangeError('an FP8 weight needs scales');
  const blocks = Math.ceil(outputs / blockOutputs) * Math.ceil(inputs / blockInputs);
  return {
    codes: memory.u8(args.weight, outputs * inputs),
    scales: memory.f32(scales, blocks),
    blockOutputs,
    blockInputs,
  };
}

function bindInt4(memory: DeviceMemory, args: OpRefs<'matmul'>): Int4Weight {
  const { inputs, outputs, blockInputs, scales } = args;
  if (scales === null) throw new RangeError('a weight in int4 needs scales');
  if (inputs % blockInputs !== 0 || blockInputs % 2 !== 0) {
    throw new RangeError(`${inputs} inputs are not divided by groups of ${blockInputs}`);
  }
  return {
    codes: memory.u8(args.weight, packedBytes('int4', outputs * inputs, 4)),
    scales: unsigned(memory.i32(scales, outputs * (inputs / blockInputs))),
    blockInputs,
  };
}

function bindRows(
  memory: DeviceMemory,
  args: OpRefs<'causal-conv'> | OpRefs<'delta-rule'>,
): RowRuns {
  const { count, rowBytes, layerBytes, isTrial } = args;
  return {
    isTrial,
    states: memory.floats(args.states),
    rowStride: rowBytes / 4,
    layerStart: layerBytes / 4,
    tokenRows: memory.i32(args.tokenRows, count),
    positions: memory.i32(args.positions, count),
    count,
  };
}

function bindGroups(
  memory: DeviceMemory,
  args: Pick<OpRefs<'expert-gate'>, keyof ExpertGroups>,
): Groups {
  const { count, experts, allExperts, topK } = args;
  return {
    chosen: memory.i32(args.chosen, count * topK),
    starts: memory.i32(args.starts, experts + 1),
    order: memory.i32(args.order, count * topK),
    count,
    experts,
    allExperts,
    topK,
  };
}

function bindExperts(
  memory: DeviceMemory,
  args: Pick<OpRefs<'expert-gate'>, keyof ExpertMatrix | 'inputs'>,
  rows: number,
): ExpertWeights {
  const { format, inputs, blockOutputs, blockInputs } = args;
  const blocks = Math.ceil(rows / blockOutputs) * Math.ceil(inputs / blockInputs);
  const scalesOf = (scales: SliceRef | null) => {
    if (scales === null) throw new RangeError(`weights in ${format} need scales`);
    if (format === 'mxfp4') return memory.u8(scales, blocks);
    if (format === 'int4') return unsigned(memory.i32(scales, blocks));
    return memory.f32(scales, blocks);
  };
  const values =
    format === 'element'
      ? memory.f32(args.weight, rows * inputs)
      : memory.u8(args.weight, packedBytes(format, rows * inputs, 4));
  const scales = format === 'element' ? null : scalesOf(args.scales);
  return { format, values, scales, blockOutputs, blockInputs, inputs };
}

function scalesOf({ scales, format }: OpRefs<'head-linear'>): SliceRef {
  if (scales === null) throw new RangeError(`a weight in ${format} needs scales`);
  return scales;
}

function bindLines(
  memory: DeviceMemory,
  args: OpRefs<'write-latents'> | OpRefs<'attend-latents'>,
): PagedLines {
  const { count, pageElements, layerElement, pageTokens, pagesPerRow } = args;
  return {
    kv: memory.floats(args.kv),
    pageTable: memory.words(args.pageTable),
    tokenRows: memory.i32(args.tokenRows, count),
    positions: memory.i32(args.positions, count),
    pageElements,
    layerElement,
    pageTokens,
    pagesPerRow,
  };
}

function bindKv(memory: DeviceMemory, args: OpRefs<'attend'> | OpRefs<'rope-write-kv'>): PagedKv {
  const { count, pageElements, layerElement, kvHeads, headDim, pageTokens, pagesPerRow } = args;
  return {
    kv: args.kvFormat === 'element' ? memory.floats(args.kv) : memory.u8(args.kv, args.kv.bytes),
    pageTable: memory.words(args.pageTable),
    tokenRows: memory.i32(args.tokenRows, count),
    positions: memory.i32(args.positions, count),
    pageElements,
    layerElement,
    kvHeads,
    headDim,
    pageTokens,
    pagesPerRow,
  };
}
