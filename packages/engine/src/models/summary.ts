import type { StorageFormat } from '@bridgekeeper/device';
import { INT4_NAMES } from './quantization-int4.ts';
import type { ExpertsFeedForward, LayerKind, ModelSpec } from './spec.ts';
import { type WeightTensor, weightTensors } from './weights.ts';

/** Parameters of a model: a tied head counts once, and a scale is none. */
export interface ParameterCounts {
  readonly total: number;
  /**
   * Those that a token is multiplied with: of experts the ones it is sent to; not a table of
   * embeddings, of which it reads a line, unless that is the head as well.
   */
  readonly active: number;
}

export function countParameters(spec: ModelSpec): ParameterCounts {
  let total = 0;
  let active = 0;
  for (const tensor of weightTensors(spec)) {
    const parameters = parametersOf(tensor);
    total += parameters;
    active += parameters * activePart(spec, tensor);
  }
  return { total, active };
}

function parametersOf({ kind, format, elements }: WeightTensor): number {
  if (kind === 'scales') return 0;
  return format === 'mxfp4' ? 2 * elements : elements;
}

function activePart({ layerKinds, tiedHead }: ModelSpec, { destination }: WeightTensor): number {
  if (destination.role === 'embed') return tiedHead ? 1 : 0;
  if (destination.role === 'perLayerTable') return 0;
  if (!('layer' in destination) || !/^expert(?:GateUp|Down)/.test(destination.role)) return 1;
  const { feedForward } = layerKinds[destination.layer]!;
  return feedForward.kind === 'dense' ? 1 : feedForward.expertsPerToken / feedForward.experts;
}

/** What is said of a model before it is loaded. */
export interface ModelSizes {
  readonly weightBytes: number;
  readonly kvBytesPerToken: number;
  /** Of layers that keep the KV of so many tokens alone; null or absent: none do. */
  readonly window?: { readonly tokens: number; readonly kvBytesPerToken: number } | null;
  readonly kvFormat: StorageFormat;
  /** Of constant size, whatever the row's length; 0: all that a row keeps is KV. */
  readonly stateBytesPerRow: number;
}

/** What the model is, in two lines for the log. */
export function describeModelSpec(spec: ModelSpec, sizes: ModelSizes): readonly string[] {
  const { total, active } = countParameters(spec);
  const hasExperts = spec.layerKinds.some(({ feedForward }) => feedForward.kind === 'experts');
  const parameters = hasExperts
    ? `${billions(total)}, ${billions(active)} active`
    : billions(total);
  const { weightBytes, kvBytesPerToken, kvFormat, stateBytesPerRow } = sizes;
  const state =
    stateBytesPerRow === 0 ? '' : `; state ${(stateBytesPerRow / 2 ** 20).toFixed(2)} MiB a row`;
  const kv = kvFormat === 'element' ? '' : ` in ${kvFormat}`;
  const windows =
    sizes.window == null
      ? ''
      : `, and ${kib(sizes.window.kvBytesPerToken)} for each of the last ${sizes.window.tokens}`;
  return [
    `${spec.architecture}: ${layersByKind(spec.layerKinds)}`,
    `${parameters} parameters, ${(weightBytes / 2 ** 30).toFixed(2)} GiB at rest` +
      `${int4Words(spec)}; ` +
      `KV ${kib(kvBytesPerToken)} for each token${windows}${kv}${state}`,
  ];
}

const kib = (bytes: number) => `${(bytes / 1024).toFixed(1)} KiB`;

/** How linear layers in 4 bits are. */
function int4Words({ quantization }: ModelSpec): string {
  if (quantization?.method !== 'int4') return '';
  const { order, group } = quantization;
  const groups = group === null ? 'a group for each row' : `groups of ${group}`;
  return ` (${INT4_NAMES[order]}, ${groups})`;
}

const billions = (count: number) => `${(count / 1e9).toFixed(2)} billion`;

function layersByKind(kinds: readonly LayerKind[]): string {
  const counts = new Map<string, number>();
  for (const kind of kinds) {
    const words = wordsOf(kind);
    counts.set(words, (counts.get(words) ?? 0) + 1);
  }
  return [...counts].map(([words, count]) => `${count} layers of ${words}`).join(', ');
}

function wordsOf({ mixer, window, rope, feedForward }: LayerKind): string {
  const after = feedForward.kind === 'dense' ? 'a dense product' : ofExperts(feedForward);
  if (mixer === 'delta-net') return `a gated delta net and ${after}`;
  if (mixer === 'latent-attention') return `latent attention and ${after}`;
  const reach = window === 0 ? 'full attention' : `attention to ${window} tokens`;
  const attention = rope === null ? `${reach} without positions` : reach;
  return `${attention} and ${after}`;
}

function ofExperts(kind: ExpertsFeedForward): string {
  const { experts, expertsPerToken, stored, shared, beside, groups } = kind;
  const format = stored === 'mxfp4 stack' ? ' in MXFP4' : '';
  const more = shared === null ? '' : ' beside a shared one';
  const dense = beside === null ? '' : ' beside a dense product';
  const ofGroups = groups === null ? '' : ` of ${groups.kept} of ${groups.count} groups`;
  return `${expertsPerToken} of ${experts} experts${ofGroups}${format}${more}${dense}`;
}
