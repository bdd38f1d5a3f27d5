/** The keys of config.json that say how heads are rotated. */
export interface RopeConfig {
  readonly head_dim: number;
  readonly rope_theta?: number;
  /** Of all layers, or by type of layer. */
  readonly rope_parameters?: RopeParameters | Readonly<Record<string, RopeParameters>>;
  readonly partial_rotary_factor?: number;
  /** In dims, as MiniMax has it. */
  readonly rotary_dim?: number;
}

interface RopeParameters {
  readonly rope_type: 'default' | 'linear' | 'llama3' | 'yarn' | 'proportional';
  readonly rope_theta: number;
  readonly factor?: number;
  readonly original_max_position_embeddings?: number;
  readonly low_freq_factor?: number;
  readonly high_freq_factor?: number;
  readonly truncate?: boolean;
  readonly beta_fast?: number;
  readonly beta_slow?: number;
  readonly partial_rotary_factor?: number;
  readonly mscale?: number;
  readonly mscale_all_dim?: number;
  readonly llama_4_scaling_beta?: number;
}

/** Radians a position of each pair of dimensions, and what the rotated head is multiplied by. */
export interface ReferenceRope {
  readonly frequencies: readonly number[];
  readonly amplitude: number;
  /** What DeepSeek multiplies scores by, twice: YaRN's for all dims, 1 where there is none. */
  readonly magnitude: number;
  /** Queries are multiplied by 1 + beta ln(1 + floor(position / period)). */
  readonly growth: { readonly beta: number; readonly period: number };
}

/** Written from each scheme's own publication, and sharing nothing with the engine's. */
export function referenceRope(
  config: RopeConfig,
  layerType = '',
  headDim = config.head_dim,
): ReferenceRope {
  const all = config.rope_parameters as Readonly<Record<string, RopeParameters>> | undefined;
  const parameters = all?.[layerType] ?? (config.rope_parameters as RopeParameters | undefined);
  const part = parameters?.partial_rotary_factor ?? config.partial_rotary_factor ?? 1;
  const theta = parameters?.rope_theta ?? config.rope_theta!;
  if (parameters?.rope_type === 'proportional') return proportional(headDim, theta, part);
  const half = (config.rotary_dim ?? Math.floor(headDim * part)) / 2;
  const plain = Array.from({ length: half }, (_, i) => theta ** (-i / half));
  const growth = {
    beta: parameters?.llama_4_scaling_beta ?? 0,
    period: parameters?.original_max_position_embeddings ?? 1,
  };
  const whole = parameters?.mscale_all_dim ?? 0;
  const magnitude = 1 + 0.1 * whole * Math.log(parameters?.factor ?? 1);
  return { ...turnedBy(plain, theta, parameters), growth, magnitude };
}

/** Gemma 4's: of a whole head's waves the longer ones are left out, and their pairs stand still. */
function proportional(headDim: number, theta: number, part: number): ReferenceRope {
  const pairs = headDim / 2;
  const frequencies = Array.from({ length: pairs }, (_, i) =>
    i < Math.floor(part * pairs) ? theta ** (-i / pairs) : 0,
  );
  return { frequencies, amplitude: 1, growth: { beta: 0, period: 1 }, magnitude: 1 };
}

function turnedBy(
  plain: readonly number[],
  theta: number,
  parameters: RopeParameters | undefined,
): Omit<ReferenceRope, 'growth' | 'magnitude'> {
  const factor = parameters?.factor ?? 1;
  switch (parameters?.rope_type ?? 'default') {
    case 'default':
    case 'proportional':
      return { frequencies: plain, amplitude: 1 };
    case 'linear':
      return { frequencies: plain.map((frequency) => frequency / factor), amplitude: 1 };
    case 'llama3':
      return { frequencies: plain.map((each) => llama3(each, parameters!)), amplitude: 1 };
    case 'yarn': {
      const { mscale, mscale_all_dim: whole } = parameters!;
      const magnitude = (scale: number) => 1 + 0.1 * scale * Math.log(factor);
      const isRatio = mscale !== undefined && whole !== undefined;
      return {
        frequencies: yarn(plain, theta, parameters!),
        amplitude: isRatio ? magnitude(mscale) / magnitude(whole) : magnitude(1),
      };
    }
  }
}

/** As in Meta's release of Llama 3.1: long waves are stretched, short ones are not. */
function llama3(frequency: number, parameters: RopeParameters): number {
  const { low_freq_factor: low, high_freq_factor: high, factor } = parameters;
  const context = parameters.original_max_position_embeddings!;
  const wave = (2 * Math.PI) / frequency;
  if (wave < context / high!) return frequency;
  if (wave > context / low!) return frequency / factor!;
  const kept = (context / wave - low!) / (high! - low!);
  return frequency * (kept + (1 - kept) / factor!);
}

/** The parts by which arXiv 2309.00071 scales, in its authors' published form: 32 turns to 1. */
function yarn(plain: readonly number[], theta: number, parameters: RopeParameters): number[] {
  const context = parameters.original_max_position_embeddings!;
  const pairs = plain.length;
  /** Where in the list a wave fits `turns` times into the context. */
  const place = (turns: number) =>
    (pairs * Math.log(context / (2 * Math.PI * turns))) / Math.log(theta);
  const isWhole = parameters.truncate ?? true;
  const [fast, slow] = [place(parameters.beta_fast ?? 32), place(parameters.beta_slow ?? 1)];
  const first = Math.max(0, isWhole ? Math.floor(fast) : fast);
  const last = Math.min(2 * pairs - 1, isWhole ? Math.ceil(slow) : slow);
  return plain.map((frequency, i) => {
    const stretched = Math.max(0, Math.min(1, (i - first) / (last - first || 0.001)));
    return frequency * (1 - stretched + stretched / parameters.factor!);
  });
}
