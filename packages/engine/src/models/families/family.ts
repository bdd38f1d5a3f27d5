import type { ConfigReader } from '../config-reader.ts';
import type {
  DeltaNet,
  FeedForward,
  LatentAttention,
  LayerHeads,
  Mixer,
  ModelSpec,
  Rope,
} from '../spec.ts';

/** What a family says of its models where config.json has the keys that all have in common. */
export interface Traits
  extends Pick<
    ModelSpec,
    | 'normOffset'
    | 'norms'
    | 'embeddingScale'
    | 'residualScale'
    | 'logits'
    | 'queryScaling'
    | 'qkvBias'
    | 'outputBias'
    | 'fusedModules'
    | 'qkNorm'
    | 'valueNorm'
    | 'layerScale'
    | 'perLayer'
    | 'attentionSinks'
    | 'attentionGate'
  > {
  /** Of scores; undefined: one over the root of a head's dims. */
  readonly attentionScale: number | undefined;
  readonly deltaNet: DeltaNet | null;
  readonly latent: LatentAttention | null;
  /** Of each layer; undefined: all are attention. */
  readonly mixers: readonly Mixer[] | undefined;
  /** Of each layer; undefined: all have those that config.json gives, and project them. */
  readonly layerHeads: readonly LayerHeads[] | undefined;
  /** Of each layer; undefined: none has one. */
  readonly windows: readonly number[] | undefined;
  /** Of each layer, which of the ropes; undefined: the only one. */
  readonly ropeOf: readonly (number | null)[] | undefined;
  /** Of each layer. */
  readonly feedForwards: readonly FeedForward[];
}

/**
 * A family of models: how their config.json is read beyond what all have in common. A newcomer made
 * of known parts is one of these, in a file of its own, in the list of `index.ts`, and a line of
 * architectures.test.ts.
 */
export interface Family {
  /** The class that config.json names. */
  readonly architecture: string;
  /** What config.json calls it where it does not name the class. */
  readonly modelType: string;
  /** Keys of config.json that only this family and some others have a use for. */
  readonly keys: readonly string[];
  /** The key under which config.json has the text model, where that is a part. */
  readonly textKey?: string;
  /** When config.json gives none; undefined is hidden size over heads. */
  readonly defaultHeadDim?: number;
  /** Where other keys say it; absent: `head_dim` does. */
  readonly headDim?: (config: ConfigReader) => number;
  /** When config.json says nothing of it; absent: false. */
  readonly defaultTiedHead?: boolean;
  /** The part of a head that rotates when config.json does not say; absent: all. */
  readonly defaultRotaryFactor?: number;
  /** Absent: one for all layers, as `rope_parameters` or `rope_scaling` have it. */
  readonly ropes?: (config: ConfigReader, headDim: number) => Ropes;
  /** What a gate may be called, and under which key; absent: silu. */
  readonly gate?: { readonly key: string; readonly name: string };
  readonly read: (config: ConfigReader, layers: number) => OwnTraits;
}

export interface Ropes {
  readonly ropes: readonly Rope[];
  readonly maxPositions: number;
}

type OwnTraits = Partial<Traits> & Pick<Traits, 'feedForwards'>;

/** What is so where a family does not say otherwise. */
export const PLAIN: Omit<Traits, 'feedForwards'> = {
  normOffset: 0,
  norms: { before: true, after: false },
  embeddingScale: 1,
  attentionScale: undefined,
  residualScale: 1,
  logits: { scale: 1, cap: 0 },
  queryScaling: null,
  qkvBias: false,
  outputBias: false,
  fusedModules: false,
  qkNorm: 'none',
  valueNorm: false,
  layerScale: false,
  perLayer: null,
  attentionSinks: false,
  attentionGate: false,
  deltaNet: null,
  latent: null,
  mixers: undefined,
  layerHeads: undefined,
  windows: undefined,
  ropeOf: undefined,
};

export function alike<Value>(layers: number, value: Value): readonly Value[] {
  return new Array<Value>(layers).fill(value);
}

export const attentionBias = (config: ConfigReader) => config.boolean('attention_bias', false);

/** A gated product in every layer. */
export function dense(config: ConfigReader, layers: number, bias = false): readonly FeedForward[] {
  return alike(layers, denseOf(config, bias));
}

export function denseOf(config: ConfigReader, bias = false): FeedForward {
  const intermediateSize = config.integer('intermediate_size', 1);
  return { kind: 'dense', intermediateSize, bias, activation: 'silu' };
}

/** None is what is left out. */
export function windowIfGiven(config: ConfigReader, layers: number): readonly number[] {
  const isGiven = config.get('sliding_window') !== undefined;
  return alike(layers, isGiven ? config.integer('sliding_window', 1) : 0);
}
