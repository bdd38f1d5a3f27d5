import type { GateForm, OpArgs } from '@bridgekeeper/device';
import type { Quantization } from './quantization.ts';

/** The decoder architectures that this engine runs, by the name config.json gives them. */
export const ARCHITECTURES = [
  'LlamaForCausalLM',
  'MistralForCausalLM',
  'Mistral3ForConditionalGeneration',
  'Qwen2ForCausalLM',
  'Qwen3ForCausalLM',
  'Qwen3MoeForCausalLM',
  'GptOssForCausalLM',
  'Phi3ForCausalLM',
  'SmolLM3ForCausalLM',
] as const;
export type Architecture = (typeof ARCHITECTURES)[number];

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
    };

/** The element types a checkpoint may store its unquantized weights in. */
export type StoredType = 'bf16' | 'f16' | 'f32';

/** What follows attention in a layer. */
export type FeedForward =
  | {
      readonly kind: 'dense';
      /** Width between the gated and the down product. */
      readonly intermediateSize: number;
      readonly bias: boolean;
    }
  | ExpertsFeedForward;

/** A router sends each token to a few of many gated products. */
export interface ExpertsFeedForward {
  readonly kind: 'experts';
  readonly experts: number;
  readonly expertsPerToken: number;
  /** Of one expert. */
  readonly intermediateSize: number;
  readonly routerBias: boolean;
  /** What a token's weights add up over to one: the experts that it chose, or all. */
  readonly softmaxOver: OpArgs['route']['softmaxOver'];
  /** Of the experts. */
  readonly bias: boolean;
  readonly gate: GateForm;
  /**
   * How checkpoints have experts: each as modules of its own, or all of a layer stacked in one
   * MXFP4 tensor, in which gate and up alternate row by row.
   */
  readonly stored: 'modules' | 'mxfp4 stack';
}

/** What of a layer may differ from that of its neighbours. */
export interface LayerKind {
  /** Positions a token sees, itself included; 0 is all. */
  readonly window: number;
  /** Whether queries and keys are rotated by their positions. */
  readonly rotates: boolean;
  readonly feedForward: FeedForward;
}

/** One architecture with its numbers: all the engine knows of a model. Plain data. */
export interface ModelSpec {
  readonly architecture: Architecture;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** One for each layer. */
  readonly layerKinds: readonly LayerKind[];
  readonly vocabularySize: number;
  readonly rmsNormEpsilon: number;
  /** Positions the model was made for, stretched by linear and yarn scaling. */
  readonly maxPositions: number;
  readonly rope: { readonly theta: number; readonly scaling: RopeScaling };
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
  /** q, k and v are one module of the checkpoint, gate and up another (Phi-3). */
  readonly fusedModules: boolean;
  /** Each head of q and k is normalised before it is rotated (Qwen3). */
  readonly qkNorm: boolean;
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
