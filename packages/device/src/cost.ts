import { bytesPerElement, type ElementType, type Slice } from './device.ts';
import { DIGEST_BYTES, hashTreeScratchBytes } from './hash-tree.ts';
import {
  type ExpertGroups,
  type ExpertMatrix,
  type OpArgs,
  type OpName,
  packedBytes,
  qkvWidth,
  storedBytes,
} from './ops.ts';
import { storedElementBytes } from './placement.ts';
import { RECORD_WORDS, RESULT_WORDS } from './row-layout.ts';

/** What an operation moves and computes, whatever device does it. */
export interface OpCost {
  /** Device memory read plus written, each tensor once. */
  readonly bytes: number;
  /** Multiplications and additions. */
  readonly operations: number;
}

/** Shows the i32 words of a slice as they are when the operation runs. */
export type Peek = (slice: Slice) => Int32Array;

/** What a batch's tokens look at. */
export interface Attended {
  /** Pairs of a token and a position that it attends to. */
  readonly pairs: number;
  /** Positions whose K and V are read: those that a run of tokens of one row shares count once. */
  readonly positions: number;
}

const WORD_BYTES = 4;
/** Of SHA-256 for one byte: 64 rounds of about 24 for each 64 bytes. */
const HASH_OPERATIONS = 24;

/**
 * The cost of one operation. Only those of attention and `delta-rule` depend on memory, which
 * `peek` shows.
 */
export function opCost<Name extends OpName>(
  name: Name,
  args: OpArgs[Name],
  element: ElementType,
  peek: Peek,
): OpCost {
  return COSTS[name](args, bytesPerElement(element), peek);
}

/** An attention of either kind. */
export type AttentionArgs = OpArgs['attention'] | OpArgs['latent-attention'];

/** The cost of an attention whose batch is known already: layers share it. */
export function attentionCost(
  args: AttentionArgs,
  element: ElementType,
  attended: Attended,
): OpCost {
  if ('rank' in args) return latentCost(args, element, attended);
  const { count, heads, kvHeads, headDim, kvFormat, lineKv } = args;
  // Lines of drafts are computed as if each was alone, and so read what they share again.
  const read = args.phase === 'verify' ? attended.pairs : attended.positions;
  // Each token's own k and v are written, too, where they are new.
  const written = lineKv === 'none' ? 0 : count;
  const kvElements = (read + written) * 2 * kvHeads * headDim;
  const activations = count * (heads * headDim + qkvWidth(args));
  const elementBytes = bytesPerElement(element);
  return {
    bytes: kvElements * storedBytes(kvFormat, element) + activations * elementBytes,
    operations: 4 * attended.pairs * heads * headDim,
  };
}

/** One vector for each token, for all heads. */
function latentCost(
  { count, heads, rank, rotaryDim, projectedStride }: OpArgs['latent-attention'],
  element: ElementType,
  { positions, pairs }: Attended,
): OpCost {
  const lines = positions + 2 * count;
  const ofHeads = count * heads * (2 * rank + 2 * rotaryDim + projectedStride);
  return {
    bytes: (lines * (rank + rotaryDim) + ofHeads) * bytesPerElement(element),
    operations: 2 * pairs * heads * (2 * rank + rotaryDim),
  };
}

/** What `count` tokens attend to; rows below 0 are padding, and `window` 0 is no window. */
export function attendedBy(
  tokenRows: Int32Array,
  positions: Int32Array,
  count: number,
  window: number,
): Attended {
  const reach = window > 0 ? window : Number.POSITIVE_INFINITY;
  let pairs = 0;
  let read = 0;
  let runRow = -1;
  let runEnd = 0;
  for (let i = 0; i < count; i++) {
    const row = tokenRows[i]!;
    if (row < 0) continue;
    const end = positions[i]! + 1;
    const length = Math.min(end, reach);
    pairs += length;
    // A run's next token reads what the one before read, and its own position.
    const shared = row === runRow && end > runEnd ? runEnd : 0;
    read += end - Math.max(end - length, shared);
    runRow = row;
    runEnd = end;
  }
  return { pairs, positions: read };
}

type CostRule<Name extends OpName> = (
  args: OpArgs[Name],
  elementBytes: number,
  peek: Peek,
) => OpCost;

const COSTS: { readonly [Name in OpName]: CostRule<Name> } = {
  'apply-command': ({ maxRecords }) => words(2 * maxRecords * RECORD_WORDS, 0),
  'begin-decode': ({ count }) => words(7 * count, 0),
  // Each row's history is read once, half of it on average.
  draft: ({ count, linesPerRow, historyTokens }) =>
    words(count * (4 + 3 * linesPerRow + historyTokens / 2), count * historyTokens),
  embed: ({ count, width }, elementBytes) => ({
    bytes: 2 * count * width * elementBytes + count * WORD_BYTES,
    operations: 0,
  }),
  copy: ({ bytes }) => ({ bytes: 2 * bytes, operations: 0 }),
  'gather-pages': ({ pages, partBytes }) => ({
    bytes: 2 * pages.length * partBytes,
    operations: 0,
  }),
  'scatter-pages': ({ pages, partBytes }) => ({
    bytes: 2 * pages.length * partBytes,
    operations: 0,
  }),
  linear: (args, elementBytes) => {
    const { count, inputs, outputs, epilogue, outType, bias, norm } = args;
    const written = epilogue === 'gate' ? outputs / 2 : outputs;
    const outBytes = written * (epilogue === 'add' ? 2 : 1) * bytesPerElement(outType);
    const vectors = (bias === null ? 0 : outputs) + (norm === null ? 0 : inputs);
    return {
      bytes:
        matrixBytes(args, elementBytes) +
        (vectors + count * inputs) * elementBytes +
        count * outBytes,
      operations: 2 * count * inputs * outputs,
    };
  },
  attention: (args, elementBytes, peek) => {
    const { tokenRows, positions, count, window } = args;
    const attended = attendedBy(peek(tokenRows), peek(positions), count, window);
    return attentionCost(args, elementBytes === 4 ? 'f32' : 'bf16', attended);
  },
  'head-linear': (args, elementBytes) => {
    const { count, heads, rows, columns } = args;
    const values = heads * rows * columns;
    const matrix = { ...args, inputs: columns, outputs: heads * rows };
    const lines = count * heads * (rows + columns) * elementBytes;
    return { bytes: matrixBytes(matrix, elementBytes) + lines, operations: 2 * count * values };
  },
  'latent-attention': (args, elementBytes, peek) => {
    const { tokenRows, positions, count } = args;
    const attended = attendedBy(peek(tokenRows), peek(positions), count, 0);
    return attentionCost(args, elementBytes === 4 ? 'f32' : 'bf16', attended);
  },
  route: ({ count, width, allExperts, topK }, elementBytes) => ({
    bytes:
      (allExperts * width + 2 * count * width) * elementBytes +
      count * (2 * allExperts + 3 * topK) * WORD_BYTES,
    operations: 2 * count * width * allExperts,
  }),
  'expert-gate': (args, elementBytes) => {
    const { count, topK, inputs, inner } = args;
    const lines = count * inputs + count * topK * inner;
    return {
      bytes: hitExpertBytes(args, 2 * inner, elementBytes) + lines * elementBytes,
      operations: 4 * ownAssignments(args) * inputs * inner,
    };
  },
  'expert-down': (args, elementBytes) => {
    const { count, topK, inputs, outputs, epilogue } = args;
    const lines = count * topK * inputs + (epilogue === 'add' ? 2 : 1) * count * outputs;
    return {
      bytes: hitExpertBytes(args, outputs, elementBytes) + lines * elementBytes,
      operations: 2 * ownAssignments(args) * inputs * outputs,
    };
  },
  'add-branch': ({ count, width }, elementBytes) => ({
    bytes: 3 * count * width * elementBytes,
    operations: 5 * count * width,
  }),
  'norm-span': ({ count, width }, elementBytes) => ({
    bytes: (2 * count + 1) * width * elementBytes,
    operations: 4 * count * width,
  }),
  'scale-by-position': ({ count, width }, elementBytes) => ({
    bytes: 2 * count * width * elementBytes + count * WORD_BYTES,
    operations: count * width,
  }),
  'sigmoid-gate': ({ elements }, elementBytes) => ({
    bytes: 3 * elements * elementBytes,
    operations: 4 * elements,
  }),
  'gate-span': ({ count, width }, elementBytes) => ({
    bytes: 3 * count * width * elementBytes,
    operations: 8 * count * width,
  }),
  'gate-lines': ({ count, inputs, width }, elementBytes) => ({
    bytes: ((count + 1) * inputs + 2 * count * width) * elementBytes,
    operations: count * (2 * inputs + width),
  }),
  'finish-logits': ({ elements }) => words(2 * elements, 4 * elements),
  // As many rows as lines have a state: of prompts there are fewer.
  'causal-conv': ({ count, channels, isTrial }, elementBytes) => ({
    bytes: ((isTrial ? 5 : 8) * count + 4) * channels * elementBytes,
    operations: 12 * count * channels,
  }),
  'delta-rule': (args, elementBytes, peek) => {
    const { count, keyHeads, valueHeads, keyDim, valueDim, tokenRows, isTrial } = args;
    const width = 2 * keyHeads * keyDim + 2 * valueHeads * valueDim + 2 * valueHeads;
    const state = valueHeads * keyDim * valueDim;
    const rows = new Set(peek(tokenRows).subarray(0, count)).size;
    return {
      bytes: count * width * elementBytes + (isTrial ? 1 : 2) * rows * state * WORD_BYTES,
      operations: 7 * count * state,
    };
  },
  'gated-norm': ({ count, heads, width }, elementBytes) => ({
    bytes: 3 * count * heads * width * elementBytes,
    operations: 8 * count * heads * width,
  }),
  // What each rank moves in its own memory; the way between them is priced apart.
  'all-reduce': ({ inputs, epilogue, count, width }, elementBytes) => ({
    bytes: (inputs.length + (epilogue === 'add' ? 2 : 1)) * count * width * elementBytes,
    operations: inputs.length * count * width,
  }),
  'all-gather': ({ inputs, count, width }) => words(2 * inputs.length * count * width, 0),
  select: ({ count, width }, elementBytes) => ({
    bytes: 2 * count * width * elementBytes,
    operations: 0,
  }),
  pool: ({ count, width }, elementBytes) => ({
    bytes: count * width * (elementBytes + WORD_BYTES) + width * elementBytes,
    operations: 4 * count * width,
  }),
  // Of each token its head, once for each row; few are stepped through.
  'grammar-mask': ({ count, vocab }) => words(count * vocab, 2 * count * vocab),
  sample: ({ count, vocab }) => words(count * vocab, count * vocab),
  advance: ({ count }) => words(count * (8 + RESULT_WORDS), 0),
  accept: ({ count }) => words(count * (10 + RESULT_WORDS), 0),
  'prompt-logprobs': ({ count, vocab }) => words(count * vocab, 2 * count * vocab),
  'fill-uniform': ({ elements, type }) => ({
    bytes: elements * (type === 'fp8-e4m3' || type === 'byte' ? 1 : bytesPerElement(type)),
    operations: 2 * elements,
  }),
  place: ({ from, to, count, columns, columnsFrom, columnsTo }) => {
    const placed = columns === 0 ? 0 : count * ((columnsTo - columnsFrom) / columns);
    const bytes = placed * (storedElementBytes(from) + storedElementBytes(to));
    return { bytes: Math.round(bytes), operations: 0 };
  },
  'order-int4-codes': ({ inputs, outputs }) => ({ bytes: inputs * outputs, operations: 0 }),
  'join-int4-scales': ({ outputs, groups, zeros }) => ({
    bytes: outputs * groups * (2 + (zeros === null ? 0 : 0.5) + WORD_BYTES),
    operations: 0,
  }),
  checksum: ({ bytes }) => ({ bytes: bytes + 2 * WORD_BYTES, operations: bytes }),
  'hash-tree': ({ bytes, leafBytes }) => ({
    bytes: bytes + 2 * hashTreeScratchBytes(bytes, leafBytes) + DIGEST_BYTES,
    operations: HASH_OPERATIONS * bytes,
  }),
};

/** Experts that `count` lines hit at least once, where each chooses `topK` of them evenly. */
export function expectedExperts(experts: number, topK: number, count: number): number {
  return experts * (1 - (1 - topK / experts) ** count);
}

/** The largest of n draws of a standard normal, on average, from n = 1 (order statistics). */
const LARGEST_OF = [0, 0.5642, 0.8463, 1.0294, 1.163, 1.2672, 1.3522, 1.4236] as const;

/** Standard deviations by which the busiest of so many ranks has more than all on average. */
function lead(ranks: number): number {
  return LARGEST_OF[Math.round(ranks) - 1] ?? Math.sqrt(2 * Math.log(ranks));
}

/**
 * Experts of the rank whose experts are hit most, by `count` lines that choose evenly, where each
 * of `ranks` has `experts / ranks` of them whole: more than its part, since a step takes as long as
 * the rank with most to read.
 */
export function busiestExperts(
  experts: number,
  topK: number,
  count: number,
  ranks: number,
): number {
  if (ranks === 1) return expectedExperts(experts, topK, count);
  const own = experts / ranks;
  const hit = expectedExperts(experts, topK, count) / experts;
  const most = own * hit + lead(ranks) * Math.sqrt(own * hit * (1 - hit));
  return Math.min(most, own, count * topK);
}

/** Assignments to the rank that gets most of them; likewise. */
export function busiestAssignments(
  experts: number,
  topK: number,
  count: number,
  ranks: number,
): number {
  const mean = (count * topK) / ranks;
  const most = mean + lead(ranks) * Math.sqrt(mean);
  return Math.min(most, count * Math.min(topK, experts / ranks));
}

/** Of the weights [outputs, inputs] of one expert and their scales. */
export function expertMatrixBytes(
  args: Omit<ExpertMatrix, 'weight' | 'scales'> & { readonly inputs: number },
  outputs: number,
  elementBytes: number,
): number {
  const { format, inputs, blockInputs, blockOutputs } = args;
  if (format !== 'mxfp4') return matrixBytes({ ...args, format, outputs }, elementBytes);
  const scales = Math.ceil(outputs / blockOutputs) * Math.ceil(inputs / blockInputs);
  return packedBytes(format, inputs * outputs, elementBytes) + scales;
}

/** Of the experts that the lines are expected to hit. */
function hitExpertBytes(
  args: ExpertGroups & ExpertMatrix & { readonly inputs: number },
  outputs: number,
  elementBytes: number,
): number {
  const { experts, allExperts, topK, count } = args;
  const hit = busiestExperts(allExperts, topK, count, allExperts / experts);
  return hit * expertMatrixBytes(args, outputs, elementBytes);
}

/** Of assignments that are spread evenly over all experts, those to the busiest device's own. */
function ownAssignments({ count, topK, experts, allExperts }: ExpertGroups): number {
  return busiestAssignments(allExperts, topK, count, allExperts / experts);
}

/** Bytes of a weight and its scales. */
export function matrixBytes(
  args: Pick<OpArgs['linear'], 'format' | 'inputs' | 'outputs' | 'blockInputs' | 'blockOutputs'>,
  elementBytes: number,
): number {
  const { format, inputs, outputs, blockInputs, blockOutputs } = args;
  if (format === 'element') return inputs * outputs * elementBytes;
  const scales = Math.ceil(outputs / blockOutputs) * Math.ceil(inputs / blockInputs);
  return packedBytes(format, inputs * outputs, elementBytes) + scales * WORD_BYTES;
}

function words(count: number, operations: number): OpCost {
  return { bytes: count * WORD_BYTES, operations };
}
