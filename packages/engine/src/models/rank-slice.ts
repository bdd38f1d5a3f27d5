import { ModelError } from './errors.ts';
import type { ModelSpec } from './spec.ts';
import type { Selection, WeightSource, WeightTensor } from './weights.ts';

/** One of several devices that share a model by tensor parallelism. */
export interface Rank {
  readonly index: number;
  readonly of: number;
}

type Range = readonly [number, number];

/**
 * What of `tensors` a rank holds: attention by heads, the gated layer by its intermediate width,
 * the head by vocabulary; norms and the table whole. Sums over ranks follow the output and down
 * products, so their biases belong to rank 0 alone. Throws ModelError `unsupported` where the
 * model cannot be divided so.
 */
export function sliceForRank(
  tensors: readonly WeightTensor[],
  spec: ModelSpec,
  rank: Rank,
): WeightTensor[] {
  if (spec.layerKinds.some(({ feedForward }) => feedForward.kind === 'experts')) {
    throw new ModelError('unsupported', 'models with experts are not divided by rank');
  }
  if (spec.deltaNet !== null || spec.attentionGate || spec.qkNorm === 'whole') {
    throw new ModelError('unsupported', `${spec.architecture} is not divided by rank`);
  }
  if (spec.fusedModules) {
    throw new ModelError('unsupported', `${spec.architecture} is not divided by rank`);
  }
  return tensors.flatMap((tensor) => {
    if (tensor.scales !== null) {
      throw new ModelError('unsupported', `${tensor.label}: FP8 weights are not divided by rank`);
    }
    const rule = RULES[tensor.destination.role] ?? whole;
    const sliced = rule(tensor, spec, rank);
    return sliced === null ? [] : [sliced];
  });
}

type Rule = (tensor: WeightTensor, spec: ModelSpec, rank: Rank) => WeightTensor | null;

const whole: Rule = (tensor) => tensor;
const firstOnly: Rule = (tensor, _spec, { index }) => (index === 0 ? tensor : null);

const byHeads: Rule = (tensor, spec, rank) => {
  const { headDim, heads, kvHeads } = spec;
  const queries = scaled(share(heads, rank, 'heads'), headDim);
  const keys = scaled(kvShare(kvHeads, rank), headDim);
  return withRows(tensor, [queries, keys, keys]);
};

const byOutputs: Rule = (tensor, _spec, rank) =>
  withRows(
    tensor,
    tensor.sources.map(({ name, shape }) => share(shape[0]!, rank, name)),
  );

const byInputs: Rule = (tensor, spec, rank) => {
  const inputs = tensor.shape[1]!;
  const isAttention = tensor.destination.role === 'output';
  const unit = isAttention ? spec.headDim : 1;
  const columns = scaled(share(inputs / unit, rank, tensor.label), unit);
  return withColumns(tensor, columns);
};

const RULES: Readonly<Record<string, Rule>> = {
  qkv: byHeads,
  qkvBias: byHeads,
  gateUp: byOutputs,
  gateUpBias: byOutputs,
  output: byInputs,
  down: byInputs,
  outputBias: firstOnly,
  downBias: firstOnly,
  head: byOutputs,
};

function share(count: number, { index, of }: Rank, what: string): Range {
  if (count % of !== 0) {
    throw new ModelError('unsupported', `${what}: ${count} cannot be divided among ${of} ranks`);
  }
  return [(count / of) * index, (count / of) * (index + 1)];
}

/** With fewer KV heads than ranks, several ranks hold the same one. */
function kvShare(kvHeads: number, rank: Rank): Range {
  if (kvHeads % rank.of === 0) return share(kvHeads, rank, 'KV heads');
  if (rank.of % kvHeads !== 0) return share(kvHeads, rank, 'KV heads');
  const head = Math.floor((rank.index * kvHeads) / rank.of);
  return [head, head + 1];
}

const scaled = ([from, to]: Range, unit: number): Range => [from * unit, to * unit];

function withRows(tensor: WeightTensor, rows: readonly Range[]): WeightTensor {
  return rebuilt(
    tensor,
    tensor.sources.map((source, i) => ({ rows: rows[i]!, columns: [0, columnsOf(source)] })),
  );
}

function withColumns(tensor: WeightTensor, columns: Range): WeightTensor {
  return rebuilt(
    tensor,
    tensor.sources.map(({ shape }) => ({ rows: [0, shape[0]!], columns })),
  );
}

function columnsOf({ shape }: WeightSource): number {
  return shape.slice(1).reduce((total, size) => total * size, 1);
}

function rebuilt(tensor: WeightTensor, selections: readonly Selection[]): WeightTensor {
  let elements = 0;
  let rows = 0;
  let columns = 0;
  const sources = tensor.sources.map((source, i) => {
    const selection = selections[i]!;
    const elementOffset = elements;
    rows += selection.rows[1] - selection.rows[0];
    columns = selection.columns[1] - selection.columns[0];
    elements += (selection.rows[1] - selection.rows[0]) * columns;
    return { ...source, elementOffset, selection };
  });
  const shape = tensor.shape.length === 1 ? [rows] : [rows, columns];
  return { ...tensor, sources, shape, elements };
}
