import { MXFP4_BLOCK } from '@bridgekeeper/device';
import { ModelError } from './errors.ts';
import { INT4_NAMES } from './quantization-int4.ts';
import { type Range, sliceScales } from './scales.ts';
import type { FeedForward, LayerKind, ModelSpec } from './spec.ts';
import type { WeightSource, WeightTensor } from './weights.ts';

/** How devices share a model by tensor parallelism. */
export interface Division {
  readonly of: number;
  /** Expert parallelism: each rank has some experts whole. Else it has a part of every one. */
  readonly wholeExperts: boolean;
}

/** One of these devices. */
export interface Rank extends Division {
  readonly index: number;
}

/**
 * What a rank computes, as a model of its own: its heads and its part of what is between two
 * products. Hidden states and tokens are everyone's. Throws ModelError `unsupported` where the
 * model cannot be divided so.
 */
export function rankSpec(spec: ModelSpec, division: Division): ModelSpec {
  if (division.of === 1) return spec;
  requireDivisible(spec);
  if (division.wholeExperts) requireExperts(spec);
  const first = { ...division, index: 0 };
  const kinds = new Map<FeedForward, FeedForward>();
  for (const { feedForward } of spec.layerKinds) {
    kinds.set(feedForward, feedForwardOfRank(feedForward, first));
  }
  return {
    ...spec,
    heads: lengthOf(headShare(spec.heads, first)),
    layerKinds: spec.layerKinds.map((kind) => {
      const kvHeads = lengthOf(kvShare(kind.kvHeads, first));
      return { ...kind, kvHeads, feedForward: kinds.get(kind.feedForward)! };
    }),
  };
}

function feedForwardOfRank(feedForward: FeedForward, first: Rank): FeedForward {
  if (feedForward.kind === 'experts' && first.wholeExperts) {
    const shares = Array.from({ length: first.of }, (_, index) =>
      expertShare(feedForward.experts, { ...first, index }),
    );
    return { ...feedForward, shares };
  }
  return { ...feedForward, intermediateSize: lengthOf(innerShare(feedForward, first)) };
}

function requireExperts({ architecture, layerKinds }: ModelSpec): void {
  if (layerKinds.some(({ feedForward }) => feedForward.kind === 'experts')) return;
  const message = `${architecture} has no experts: leave --enable-expert-parallel out`;
  throw new ModelError('unsupported', message);
}

/** Throws ModelError `unsupported` for what no rule below divides. */
function requireDivisible({
  architecture,
  deltaNet,
  latent,
  attentionGate,
  qkNorm,
  layerScale,
  layerKinds,
  quantization,
}: ModelSpec) {
  if (quantization?.method === 'int4') {
    const what = `weights in ${INT4_NAMES[quantization.order]}`;
    const message = `${what} are not divided among GPUs: take --tensor-parallel-size 1`;
    throw new ModelError('unsupported', message);
  }
  const hasShared = layerKinds.some(
    ({ feedForward }) => feedForward.kind === 'experts' && feedForward.shared !== null,
  );
  const hasMore = attentionGate || layerScale || hasShared;
  if (deltaNet === null && latent === null && qkNorm !== 'whole' && !hasMore) return;
  const message = `${architecture} is not divided among GPUs: take --tensor-parallel-size 1`;
  throw new ModelError('unsupported', message);
}

/** Whether each rank has logits of a part of the vocabulary; else each has them all. */
export function isHeadDivided({ vocabularySize }: ModelSpec, of: number): boolean {
  return of > 1 && vocabularySize % of === 0;
}

/**
 * What of `tensors`, which are those of the whole model, a rank holds: attention by heads, gated
 * layers and every expert by the width between their products, the head by vocabulary; norms,
 * routers and the table whole. Sums over ranks follow the output and down products, so their biases
 * belong to the first rank; others have a tensor without sources, which is zeros. A tied head is
 * one, too, whose rows are those of the table. With whole experts a rank has a range of them, their
 * biases included, and room behind it where another has one more. All ranks' tensors have the same
 * sizes. Throws ModelError `unsupported`.
 */
export function sliceForRank(
  tensors: readonly WeightTensor[],
  spec: ModelSpec,
  rank: Rank,
): WeightTensor[] {
  requireDivisible(spec);
  const sliced = tensors.map((tensor) => {
    const { role } = tensor.destination;
    const rules = rank.wholeExperts ? RULES_OF_WHOLE_EXPERTS : RULES;
    return (rules[role] ?? whole)(tensor, spec, rank);
  });
  if (!spec.tiedHead || !isHeadDivided(spec, rank.of)) return sliced;
  return [...sliced, tiedHead(spec, rank)];
}

/** Which rows of the table a rank's head is, where the head is tied. */
export function tiedHeadRows({ vocabularySize }: ModelSpec, rank: Rank): Range {
  return share(vocabularySize, rank, 'vocabulary');
}

function tiedHead(spec: ModelSpec, rank: Rank): WeightTensor {
  const shape = [lengthOf(tiedHeadRows(spec, rank)), spec.hiddenSize];
  return {
    destination: { role: 'head' },
    label: 'head',
    kind: 'matrix',
    format: 'element',
    shape,
    elements: shape[0]! * shape[1]!,
    sources: [],
    scales: null,
  };
}

type Rule = (tensor: WeightTensor, spec: ModelSpec, rank: Rank) => WeightTensor;

const whole: Rule = (tensor) => tensor;
const firstOnly: Rule = (tensor, _spec, { index }) =>
  index === 0 ? tensor : { ...tensor, sources: [] };

const byHeads: Rule = (tensor, spec, rank) => {
  const { heads } = spec;
  const { headDim, kvHeads } = kindOf(tensor, spec);
  const queries = scaled(headShare(heads, rank), headDim);
  const keys = shifted(scaled(kvShare(kvHeads, rank), headDim), heads * headDim);
  return withRows(tensor, [queries, keys, shifted(keys, kvHeads * headDim)]);
};

const bySinks: Rule = (tensor, spec, rank) => withRows(tensor, [headShare(spec.heads, rank)]);

const byGates: Rule = (tensor, spec, rank) => {
  const feedForward = feedForwardOf(tensor, spec);
  const inner = innerShare(feedForward, rank);
  const { intermediateSize: width } = feedForward;
  return withRows(tensor, [inner, shifted(inner, width)]);
};

const byExpertGates: Rule = (tensor, spec, rank) => {
  const feedForward = feedForwardOf(tensor, spec);
  const inner = innerShare(feedForward, rank);
  const { intermediateSize: width } = feedForward;
  if (feedForward.kind !== 'experts') return tensor;
  const isStack = feedForward.stored === 'mxfp4 stack';
  // Its bias is a line for each expert.
  if (isStack && tensor.kind === 'bias') return withColumns(tensor, scaled(inner, 2));
  const own = isStack ? [scaled(inner, 2)] : [inner, shifted(inner, width)];
  const experts = [...Array(feedForward.experts).keys()];
  const rows = experts.flatMap((expert) => own.map((range) => shifted(range, expert * 2 * width)));
  return withRows(tensor, rows);
};

const byAttended: Rule = (tensor, spec, rank) =>
  withColumns(tensor, scaled(headShare(spec.heads, rank), kindOf(tensor, spec).headDim));

const byInner: Rule = (tensor, spec, rank) => {
  const feedForward = feedForwardOf(tensor, spec);
  const [from, to] = innerShare(feedForward, rank);
  // Codes lie two to a byte, and a scale is of a block of them.
  const unit = feedForward.intermediateSize / tensor.shape[1]!;
  return withColumns(tensor, [from / unit, to / unit]);
};

const byVocabulary: Rule = (tensor, spec, rank) =>
  isHeadDivided(spec, rank.of)
    ? withRows(tensor, [share(spec.vocabularySize, rank, 'vocabulary')])
    : tensor;

const RULES: Readonly<Record<string, Rule>> = {
  qkv: byHeads,
  qkvBias: byHeads,
  sinks: bySinks,
  gateUp: byGates,
  gateUpBias: byGates,
  output: byAttended,
  down: byInner,
  outputBias: firstOnly,
  downBias: firstOnly,
  expertGateUp: byExpertGates,
  expertGateUpScales: byExpertGates,
  expertGateUpBias: byExpertGates,
  expertDown: byInner,
  expertDownScales: byInner,
  expertDownBias: firstOnly,
  head: byVocabulary,
};

const byExperts: Rule = (tensor, spec, rank) => {
  const feedForward = feedForwardOf(tensor, spec);
  if (feedForward.kind !== 'experts') return tensor;
  const { experts } = feedForward;
  const rows = tensor.shape[0]! / experts;
  const own = withRows(tensor, [scaled(expertShare(experts, rank), rows)]);
  return withRoom(own, Math.ceil(experts / rank.of) * rows);
};

const RULES_OF_WHOLE_EXPERTS: Readonly<Record<string, Rule>> = {
  ...RULES,
  expertGateUp: byExperts,
  expertGateUpScales: byExperts,
  expertGateUpBias: byExperts,
  expertDown: byExperts,
  expertDownScales: byExperts,
  expertDownBias: byExperts,
};

/** The same with room for so many rows, which nothing is read to and nobody reads. */
function withRoom(tensor: WeightTensor, rows: number): WeightTensor {
  const { shape, scales } = tensor;
  if (shape[0] === rows) return tensor;
  const elements = (tensor.elements / shape[0]!) * rows;
  const room = { ...tensor, shape: [rows, ...shape.slice(1)], elements };
  if (scales === null) return room;
  const { part, blockOutputs } = scales;
  const wanted = Math.ceil(rows / blockOutputs);
  const last = part!.rows.at(-1)!;
  const repeated = new Array<number>(wanted - scales.rows).fill(last);
  const own = { ...part!, rows: [...part!.rows, ...repeated] };
  return { ...room, scales: { ...scales, rows: wanted, part: own } };
}

/** A contiguous range; where they cannot be shared out evenly, the first ranks have one more. */
function expertShare(experts: number, { index, of }: Rank): Range {
  if (experts < of) {
    const message = `${experts} experts cannot be shared out to ${of} ranks: take no more ranks`;
    throw new ModelError('unsupported', message);
  }
  const [each, more] = [Math.floor(experts / of), experts % of];
  const from = index * each + Math.min(index, more);
  return [from, from + each + (index < more ? 1 : 0)];
}

function kindOf({ destination }: WeightTensor, { layerKinds }: ModelSpec): LayerKind {
  return layerKinds['layer' in destination ? destination.layer : 0]!;
}

const feedForwardOf = (tensor: WeightTensor, spec: ModelSpec) => kindOf(tensor, spec).feedForward;

function share(count: number, { index, of }: Rank, what: string, orElse = ''): Range {
  if (count % of !== 0) {
    throw new ModelError(
      'unsupported',
      `${count} ${what} cannot be divided among ${of} ranks: take a number that divides ` +
        `them${orElse}`,
    );
  }
  return [(count / of) * index, (count / of) * (index + 1)];
}

const headShare = (heads: number, rank: Rank) => share(heads, rank, 'attention heads');

/** With fewer KV heads than ranks, several ranks hold the same one. */
function kvShare(kvHeads: number, rank: Rank): Range {
  if (rank.of % kvHeads !== 0 || rank.of <= kvHeads) return share(kvHeads, rank, 'KV heads');
  const head = Math.floor((rank.index * kvHeads) / rank.of);
  return [head, head + 1];
}

/** Of the width between the gated product and the one back. */
function innerShare(feedForward: FeedForward, rank: Rank): Range {
  const { intermediateSize: width } = feedForward;
  const orElse = feedForward.kind === 'experts' ? ', or --enable-expert-parallel' : '';
  if (feedForward.kind !== 'experts' || feedForward.stored !== 'mxfp4 stack') {
    return share(width, rank, 'columns between gate and down', orElse);
  }
  const what = `blocks of ${MXFP4_BLOCK} MXFP4 codes`;
  const blocks = share(width / MXFP4_BLOCK, rank, what, orElse);
  return scaled(blocks, MXFP4_BLOCK);
}

const lengthOf = ([from, to]: Range) => to - from;
const scaled = ([from, to]: Range, unit: number): Range => [from * unit, to * unit];
const shifted = ([from, to]: Range, by: number): Range => [from + by, to + by];

/** Ranges of the stacked rows, one behind the other. */
function withRows(tensor: WeightTensor, rows: readonly Range[]): WeightTensor {
  return selected(tensor, rows, [0, tensor.shape[1] ?? 1]);
}

function withColumns(tensor: WeightTensor, columns: Range): WeightTensor {
  return selected(tensor, [[0, tensor.shape[0]!]], columns);
}

function selected(tensor: WeightTensor, ranges: readonly Range[], columns: Range): WeightTensor {
  const stored = tensor.shape[1] ?? 1;
  const sources: WeightSource[] = [];
  const width = lengthOf(columns);
  let rows = 0;
  for (const [from, to] of ranges) {
    let first = 0;
    for (const source of tensor.sources) {
      // What a stack has in more dimensions is rows of the tensor here.
      const count = source.shape.reduce((total, size) => total * size, 1) / stored;
      const own: Range = [Math.max(from - first, 0), Math.min(to - first, count)];
      first += count;
      if (own[0] >= own[1]) continue;
      const shape = source.shape.length === 1 ? source.shape : [count, stored];
      const selection = { rows: own, columns };
      sources.push({ ...source, shape, elementOffset: rows * width, selection });
      rows += lengthOf(own);
    }
  }
  const { scales } = tensor;
  return {
    ...tensor,
    sources,
    shape: tensor.shape.length === 1 ? [rows] : [rows, width],
    elements: rows * width,
    scales: scales === null ? null : sliceScales(scales, ranges, columns, tensor.label),
  };
}
