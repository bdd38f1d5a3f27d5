import type { Profile } from '@bridgekeeper/bridge';
import {
  busiestAssignments,
  busiestExperts,
  expectedExperts,
  linksOf,
  type ReachedPoint,
  reachedFactor,
} from '@bridgekeeper/device';
import { type ModelSpec, type WeightTensor, weightTensors } from '@bridgekeeper/engine/models';
import { type Gpu, reachedOf, rooflineOf } from '../gpus/gpu.ts';
import type { Scenario } from './scenario.ts';

/** What bounds the kernels of a step, and for how long. They follow each other. */
export interface KernelTimes {
  memoryNs: number;
  computeNs: number;
  /** Kernels that are too small for either, and what each adds to start. */
  kernelNs: number;
  collectiveNs: number;
}

/** What one step computes. */
export interface StepWork {
  /** Tokens each row has, of the rows that decode. */
  readonly lengths: readonly number[];
  /** Chunks of prompts behind what was computed of them. */
  readonly chunks: readonly { readonly start: number; readonly length: number }[];
  /** Lines that get logits. */
  readonly lines: number;
}

/** Layers alike, and how many there are. */
interface LayerGroup {
  readonly count: number;
  readonly window: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly products: readonly Product[];
}

interface Product {
  readonly bytes: number;
  readonly parameters: number;
  /** Of its input and output together, a line. */
  readonly width: number;
  readonly experts: { readonly experts: number; readonly topK: number } | null;
}

const ELEMENT_BYTES = 2;
const SCALE_BYTES = 4;
/** A kernel's start, ramp and tail: `submission.graphNodeNs` of the reference profiles. */
const NODE_NS = 2_900;
/** Of an all-reduce between two H200, from 4 KiB to 64 KiB. */
const COLLECTIVE_NS = 12_000;
/** What a large all-reduce reaches of the links: 301 of 392 GB/s on two H200. */
const COLLECTIVE_PART = 0.77;

/** What of a scenario decides what its kernels take. */
export type PricedScenario = Pick<Scenario, 'model' | 'gpu' | 'law' | 'flags' | 'stepFactor'>;

/** Times of steps by the roofline, as the modelled GPU has them, in closed form. */
export class StepPricer {
  readonly #spec: ModelSpec;
  readonly #groups: readonly LayerGroup[];
  readonly #head: Product;
  readonly #roofline: ReturnType<typeof rooflineOf>;
  readonly #reached: readonly ReachedPoint[];
  readonly #slowdown: number;
  readonly #tensorParallel: number;
  readonly #expertParallel: boolean;
  readonly #kvBytes: number;
  readonly #collective: { readonly tollNs: number; readonly bytesPerSecond: number };
  readonly #extraKernelsNs: number;
  readonly #factor: number;

  /**
   * `extraKernels`: of each layer, beside products and attention. `reached`: what kernels take of
   * the roofline's time.
   */
  constructor(
    scenario: PricedScenario,
    extraKernels: number,
    reached: readonly ReachedPoint[] = reachedOf(scenario.gpu),
  ) {
    const { model, gpu, law, flags, stepFactor } = scenario;
    const { spec } = model;
    this.#spec = spec;
    this.#groups = groupLayers(spec);
    const head = weightTensors(spec).find(({ destination }) =>
      spec.tiedHead ? destination.role === 'embed' : destination.role === 'head',
    )!;
    this.#head = productOf(head, null);
    this.#roofline = rooflineOf(gpu);
    this.#reached = reached;
    this.#slowdown = law?.memoryBoundSlowdown ?? 1;
    this.#tensorParallel = flags.tensorParallel;
    this.#expertParallel = flags.expertParallel;
    this.#kvBytes = flags.kvFormat === 'element' ? ELEMENT_BYTES : 1;
    this.#collective = foreignCollective(gpu, law);
    this.#extraKernelsNs = extraKernels * (this.#roofline.kernelNs + NODE_NS) * spec.layers;
    this.#factor = stepFactor ?? 1;
  }

  price({ lengths, chunks, lines }: StepWork): KernelTimes {
    const times = { memoryNs: 0, computeNs: 0, kernelNs: 0, collectiveNs: 0 };
    const { heads, hiddenSize } = this.#spec;
    let tokens = lengths.length;
    for (const chunk of chunks) tokens += chunk.length;
    const factor = reachedFactor(this.#reached, tokens) * this.#factor;
    for (const group of this.#groups) {
      const { kvHeads, headDim } = group;
      const attended = attendedBy(lengths, chunks, group.window);
      const kv = (attended.positions + tokens) * 2 * kvHeads * headDim * this.#kvBytes;
      const activations = tokens * (2 * heads + 2 * kvHeads) * headDim * ELEMENT_BYTES;
      const pairs = 4 * attended.pairs * heads * headDim;
      this.#add(times, kv + activations, pairs, group.count, factor);
      for (const product of group.products)
        this.#product(times, product, tokens, group.count, factor);
    }
    this.#product(times, this.#head, lines, 1, factor);
    times.kernelNs += this.#extraKernelsNs * factor;
    if (this.#tensorParallel > 1) {
      const bytes = tokens * hiddenSize * ELEMENT_BYTES;
      const { tollNs, bytesPerSecond } = this.#collective;
      times.collectiveNs = 2 * this.#spec.layers * (tollNs + (bytes * 1e9) / bytesPerSecond);
    }
    return times;
  }

  #product(times: KernelTimes, product: Product, lines: number, count: number, factor: number) {
    const { bytes, parameters, width, experts } = product;
    const ranks = this.#expertParallel ? this.#tensorParallel : 1;
    const used = experts === null ? 1 : lineParts(experts, lines, ranks);
    const each = experts === null ? 1 : assignedPart(experts, lines, ranks);
    const moved = bytes * used + lines * width * ELEMENT_BYTES;
    this.#add(times, moved, 2 * parameters * each * lines, count, factor);
  }

  #add(times: KernelTimes, bytes: number, operations: number, count: number, factor: number): void {
    const { copyBytesPerSecond, bf16FlopsPerSecond, kernelNs } = this.#roofline;
    const ranks = this.#tensorParallel;
    const bytesNs = ((bytes / ranks) * 1e9 * this.#slowdown) / copyBytesPerSecond;
    const operationsNs = ((operations / ranks) * 1e9) / bf16FlopsPerSecond;
    const scale = count * factor;
    if (bytesNs >= operationsNs && bytesNs >= kernelNs) times.memoryNs += bytesNs * scale;
    else if (operationsNs >= kernelNs) times.computeNs += operationsNs * scale;
    else times.kernelNs += kernelNs * scale;
    times.kernelNs += NODE_NS * scale;
  }
}

/**
 * NCCL's time, with what the law adds. A law whose links were measured adds what our kernels take
 * on them beyond what they do on plain ones.
 */
function foreignCollective({ fabricBytesPerSecond, hostBytesPerSecond }: Gpu, law: Profile | null) {
  const links = fabricBytesPerSecond?.value ?? hostBytesPerSecond.value;
  const reached = links * COLLECTIVE_PART;
  if (law?.links !== undefined) {
    const { gpus, pushed, pulled } = law.links;
    const addedNs = pushed.tollNs - linksOf({}, gpus).pushed.tollNs;
    const measured = pulled.bandwidth.at(-1)!.bytesPerSecond;
    return {
      tollNs: COLLECTIVE_NS + Math.max(0, addedNs),
      bytesPerSecond: Math.min(reached, measured),
    };
  }
  const { tollNs, rateFactor } = law?.collectives ?? { tollNs: 0, rateFactor: 1 };
  return { tollNs: COLLECTIVE_NS + tollNs, bytesPerSecond: reached * rateFactor };
}

export function totalNs({ memoryNs, computeNs, kernelNs, collectiveNs }: KernelTimes): number {
  return Math.round(memoryNs + computeNs + kernelNs + collectiveNs);
}

/**
 * The part of all experts' bytes that so many lines read; of whole experts on several ranks, as if
 * all of these had as much to read as the busiest.
 */
function lineParts(
  { experts, topK }: NonNullable<Product['experts']>,
  lines: number,
  ranks: number,
): number {
  if (ranks === 1) return expectedExperts(experts, topK, lines) / experts;
  return (busiestExperts(experts, topK, lines, ranks) * ranks) / experts;
}

/** The part of all experts' parameters that a line meets, on average; likewise. */
function assignedPart(
  { experts, topK }: NonNullable<Product['experts']>,
  lines: number,
  ranks: number,
): number {
  if (ranks === 1 || lines === 0) return topK / experts;
  return (busiestAssignments(experts, topK, lines, ranks) * ranks) / (lines * experts);
}

function attendedBy(lengths: StepWork['lengths'], chunks: StepWork['chunks'], window: number) {
  const reach = window > 0 ? window : Number.POSITIVE_INFINITY;
  let positions = 0;
  for (const length of lengths) positions += Math.min(length, reach);
  let pairs = positions;
  for (const { start, length } of chunks) {
    positions += Math.min(start + length, length + reach);
    const all = length * start + (length * (length + 1)) / 2;
    pairs += Math.min(all, length * reach);
  }
  return { positions, pairs };
}

function groupLayers(spec: ModelSpec): LayerGroup[] {
  const byLayer = new Map<number, WeightTensor[]>();
  for (const tensor of weightTensors(spec)) {
    const { destination } = tensor;
    if (!('layer' in destination) || tensor.kind !== 'matrix') continue;
    const known = byLayer.get(destination.layer) ?? [];
    known.push(tensor);
    byLayer.set(destination.layer, known);
  }
  const groups = new Map<string, LayerGroup & { count: number }>();
  for (const [layer, { window, kvHeads, headDim, feedForward }] of spec.layerKinds.entries()) {
    const experts =
      feedForward.kind === 'dense'
        ? null
        : { experts: feedForward.experts, topK: feedForward.expertsPerToken };
    const products = (byLayer.get(layer) ?? []).map((tensor) =>
      productOf(tensor, tensor.destination.role.startsWith('expert') ? experts : null),
    );
    const key = JSON.stringify([window, kvHeads, headDim, products]);
    const group = groups.get(key) ?? { count: 0, window, kvHeads, headDim, products };
    group.count += 1;
    groups.set(key, group);
  }
  return [...groups.values()];
}

function productOf(tensor: WeightTensor, experts: Product['experts']): Product {
  const { format, elements, scales, shape } = tensor;
  const isPacked = format === 'mxfp4';
  // A scale, a byte, for each 32 codes of four bits.
  const packedScales = isPacked ? elements / 16 : 0;
  const scaleBytes = scales === null ? 0 : scales.rows * scales.columns * SCALE_BYTES;
  const parameters = isPacked ? 2 * elements : elements;
  const bytesEach = format === 'element' ? ELEMENT_BYTES : format === 'int4' ? 0.5 : 1;
  const inputs = shape.at(-1)! * (isPacked ? 2 : 1);
  const width =
    experts === null
      ? inputs + parameters / inputs
      : (inputs + parameters / inputs / experts.experts) * experts.topK;
  return {
    bytes: elements * bytesEach + scaleBytes + packedScales,
    parameters,
    width,
    experts,
  };
}
