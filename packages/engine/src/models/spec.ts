import type {
  Activation,
  ExpertShare,
  GateForm,
  LineKv,
  NormOffset,
  Weighing,
} from '@bridgekeeper/device';
import type { Quantization } from './quantization.ts';

/** How the rotary frequencies are stretched beyond the length the model was trained on. */
export type RopeScaling =
  | { readonly type: 'none' }
  | { readonly type: 'linear'; readonly factor: number }
  | {
      /** Llama 3.1: long waves divided by `factor`, short ones kept, a smooth passage between. */
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalMaxPositions: number;
    }
  | {
      /** arXiv 2309.00071. */
      readonly type: 'yarn';
      readonly factor: number;
      readonly originalMaxPositions: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      /** Multiplies cos and sin: given, or derived from the factor and the mscales. */
      readonly attentionFactor: number;
      /** Whether the ramp's ends are rounded to whole dimensions. */
      readonly truncate: boolean;
    }
  | {
      /**
       * Gemma 4: of a whole head's frequencies, divided by `factor`, the first `turning` are there;
       * the other pairs do not turn.
       */
      readonly type: 'proportional';
      readonly factor: number;
      readonly turning: number;
    };

/** How queries and keys are turned by their positions. */
export interface Rope {
  readonly theta: number;
  readonly scaling: RopeScaling;
  /** Dims of a head that turn, the first ones. */
  readonly rotaryDim: number;
}

/** The element types a checkpoint may store its unquantized weights in. */
export type StoredType = 'bf16' | 'f16' | 'f32';

/** What follows attention in a layer. */
export type FeedForward = DenseFeedForward | ExpertsFeedForward;

export interface DenseFeedForward {
  readonly kind: 'dense';
  /** Width between the gated and the down product. */
  readonly intermediateSize: number;
  readonly bias: boolean;
  readonly activation: Activation;
}

/** A router sends each token to a few of many gated products. */
export interface ExpertsFeedForward {
  readonly kind: 'experts';
  readonly experts: number;
  readonly expertsPerToken: number;
  /** Of one expert. */
  readonly intermediateSize: number;
  readonly routerBias: boolean;
  readonly weighing: Weighing;
  /** What all weights are multiplied by. */
  readonly weightScale: number;
  /** Each expert has a number by which it is chosen more often, and does not weigh more. */
  readonly choiceBias: boolean;
  /** Groups of experts, and how many of them a token chooses from (DeepSeek V3); null: none. */
  readonly groups: { readonly count: number; readonly kept: number } | null;
  /** Of the experts. */
  readonly bias: boolean;
  readonly gate: GateForm;
  /**
   * How checkpoints have experts: each as modules of its own, with MiniMax's names for them, all of
   * a layer stacked in one tensor, beside the layer's other modules or within their block, or in
   * one of MXFP4, in which gate and up alternate row by row.
   */
  readonly stored: 'modules' | 'sparse block' | 'stack' | 'stack of layer' | 'mxfp4 stack';
  /** An expert that every token is sent to. */
  readonly shared: SharedExpert | null;
  /**
   * A branch that all tokens go through, beside that of the experts; their sum is normed as one.
   * Experts and their router see the residual stream by norms of their own (Gemma 4).
   */
  readonly beside: DenseFeedForward | null;
  /**
   * Of a rank's model, where each rank has some experts whole: which of them every rank has, the
   * first one no fewer than any other. Absent: all have every expert, or a part of each.
   */
  readonly shares?: readonly ExpertShare[];
}

/** How many experts a device has room for. */
export function heldExperts({ experts, shares }: ExpertsFeedForward): number {
  if (shares === undefined) return experts;
  const [from, to] = shares[0]!;
  return to - from;
}

export interface SharedExpert {
  readonly intermediateSize: number;
  /** What checkpoints call it. */
  readonly name: 'shared_experts' | 'shared_expert';
  /** Whether a line's own sigmoid says how much it counts. */
  readonly isGated: boolean;
}

/** A layer without attention: a state of constant size for each row (arXiv 2412.06464). */
export interface DeltaNet {
  readonly keyHeads: number;
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  /** Whether checkpoints have projections whole, or key head by key head in two modules. */
  readonly stored: 'flat' | 'by key head';
}

/**
 * Attention of which all that is kept of a token is one small vector and one key that turns, of all
 * heads (multi-head latent attention, arXiv 2405.04434).
 */
export interface LatentAttention {
  /** Of the vector that queries are made from; null: from the layer's input itself. */
  readonly queryRank: number | null;
  /** Of the vector that keys and values are made from. */
  readonly kvRank: number;
  /** Dims of the key that turns. */
  readonly rotaryDim: number;
  /** Dims of each head's key beside these, and of its value. */
  readonly keyDim: number;
  readonly valueDim: number;
}

/** Heads of a layer's keys and values, and where these are from. */
export interface LayerHeads {
  readonly kvHeads: number;
  /** Dims of a head, of queries as well. */
  readonly headDim: number;
  /** What its product gives for each KV head. */
  readonly lineKv: LineKv;
  /** The layer whose keys and values it attends to: itself; where it has none, an earlier one. */
  readonly kvLayer: number;
}

/** What each layer takes in of a token beside the residual stream (Gemma 4's small models). */
export interface PerLayerInputs {
  /** Of one layer's. */
  readonly width: number;
  /** Of their table. */
  readonly vocabularySize: number;
}

/** What a layer has in the place of attention, or of latent attention. */
export type Mixer = 'attention' | 'latent-attention' | 'delta-net';

/** What of a layer may differ from that of its neighbours. */
export interface LayerKind extends LayerHeads {
  readonly mixer: Mixer;
  /** Positions a token sees, itself included; 0 is all. */
  readonly window: number;
  /** Which of the model's ropes turns queries and keys; null: none does. */
  readonly rope: number | null;
  readonly feedForward: FeedForward;
}

/** Elements of keys and values that a token has in a layer. */
export function keyValueElements({ mixer, kvHeads, headDim }: LayerKind): number {
  // One vector, which is key and value.
  if (mixer === 'latent-attention') return headDim;
  return mixer === 'attention' ? 2 * kvHeads * headDim : 0;
}

/** Multiplications and additions of a token's heads with one position that it attends to. */
export function pairOperations(
  { heads, latent }: ModelSpec,
  { mixer, headDim }: LayerKind,
): number {
  const valueDim = mixer === 'latent-attention' ? latent!.kvRank : headDim;
  return mixer === 'delta-net' ? 0 : 2 * heads * (headDim + valueDim);
}

/** One architecture with its numbers: all the engine knows of a model. Plain data. */
export interface ModelSpec {
  /** By the name that config.json gives it. */
  readonly architecture: string;
  readonly hiddenSize: number;
  readonly layers: number;
  /** Of queries. */
  readonly heads: number;
  /** One for each layer. */
  readonly layerKinds: readonly LayerKind[];
  readonly vocabularySize: number;
  readonly rmsNormEpsilon: number;
  readonly normOffset: NormOffset;
  /** Whether a layer's two branches are normalised before their products, and after them. */
  readonly norms: { readonly before: boolean; readonly after: boolean };
  /** Positions the model was made for, stretched by linear and yarn scaling. */
  readonly maxPositions: number;
  readonly ropes: readonly Rope[];
  readonly embeddingScale: number;
  /** Of scores. */
  readonly attentionScale: number;
  /** Of what branches add. */
  readonly residualScale: number;
  /** Of logits, and what they are kept below by cap * tanh(x / cap); 0 is no cap. */
  readonly logits: { readonly scale: number; readonly cap: number };
  /** Queries grow by 1 + beta ln(1 + floor(position / period)) (Llama 4); null: they do not. */
  readonly queryScaling: { readonly beta: number; readonly period: number } | null;
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
  /** q, k and v are one module of the checkpoint, gate and up another (Phi-3). */
  readonly fusedModules: boolean;
  /** What of q and k is normalised before it is rotated: each head (Qwen3), or all together. */
  readonly qkNorm: 'none' | 'heads' | 'whole';
  /** Each head's value is divided by its root mean square (Gemma 4). */
  readonly valueNorm: boolean;
  /** What a layer leaves is multiplied by a number of its own (Gemma 4). */
  readonly layerScale: boolean;
  readonly perLayer: PerLayerInputs | null;
  /** Attention's output is multiplied by sigmoids that the query's module has beside its heads. */
  readonly attentionGate: boolean;
  /** Of layers of that kind; null: there are none. */
  readonly deltaNet: DeltaNet | null;
  /** Likewise. */
  readonly latent: LatentAttention | null;
  /** Each head has one more score, without a value, beside those of positions (gpt-oss). */
  readonly attentionSinks: boolean;
  /** The output head is the embedding table. */
  readonly tiedHead: boolean;
  /** Ids that end generation, from config.json and generation_config.json. */
  readonly eosTokenIds: readonly number[];
  readonly bosTokenId: number | undefined;
  /** What config.json says of the file; the checkpoint's own headers decide. */
  readonly storedType: StoredType | undefined;
  /** What of the checkpoint is stored as FP8. */
  readonly quantization: Quantization | null;
}
