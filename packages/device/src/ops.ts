import { bytesPerElement, type ElementType, type Slice } from './device.ts';

/** Operations in which all ranks of a device take part. */
export type CollectiveName = 'all-reduce' | 'all-gather';

export function isCollective(name: OpName): name is CollectiveName {
  return name === 'all-reduce' || name === 'all-gather';
}

/**
 * The operations the engine uses: one catalogue, implemented by the cpu device (TypeScript) and the
 * cuda device (.cu), priced by the model device, and checked against float64 by one contract suite.
 *
 * Shapes are row-major. `E` is the device's element type; weights, activations and KV are E unless
 * marked. A batch is flat: `count` tokens, token i of row `tokenRows[i]` at `positions[i]`; row -1
 * is padding, whose outputs are undefined but whose inputs must never crash an operation. A line is
 * one line of logits.
 */
export interface OpArgs {
  /** Applies a packed command (row-layout.ts) to the arrays it targets. */
  'apply-command': CommandTargets & {
    readonly command: Slice;
    readonly counts: Slice;
    readonly vocab: number;
    /** Upper bound of records, for the launch's size. */
    readonly maxRecords: number;
  };

  /**
   * For line i < count: r = decodeRows[i]; active rows give token, row, position; others row -1.
   */
  'begin-decode': {
    readonly rows: Slice;
    readonly decodeRows: Slice;
    readonly tokens: Slice;
    readonly tokenRows: Slice;
    readonly positions: Slice;
    readonly count: number;
  };

  /**
   * As `begin-decode`, with linesPerRow lines for each i < count, the first of them the row's own.
   * The others are drafts of what may follow, the next positions, or of row -1. With h the row's
   * history and p its POSITION: of all e < p for which the last n tokens up to e are the last n up
   * to p, lookupMin <= n <= lookupMax, that with the largest n and, among these, the largest e is
   * taken, and draft j is h[e + 1 + (j mod (p - e))]: what followed then, as often as it takes.
   * There is none where there is no such e, none for rows with NO_DRAFTS, and no more than
   * REMAINING - 1, since each brings a token.
   */
  draft: Histories & {
    readonly rows: Slice;
    readonly decodeRows: Slice;
    /** i32 [count * linesPerRow] each. */
    readonly tokens: Slice;
    readonly tokenRows: Slice;
    readonly positions: Slice;
    readonly count: number;
    /** 1 + MAX_DRAFTS at most. */
    readonly linesPerRow: number;
    /** 1 to MAX_LOOKUP. */
    readonly lookupMin: number;
    readonly lookupMax: number;
  };

  /** out[count, width] = scale * table[tokens[i]]. Token ids outside [0, vocab) read row 0. */
  embed: {
    readonly table: Slice;
    readonly tokens: Slice;
    readonly out: Slice;
    readonly scale: number;
    readonly count: number;
    readonly width: number;
    readonly vocab: number;
  };

  /** The first `bytes` of out become those of input, without leaving the device. */
  copy: { readonly input: Slice; readonly out: Slice; readonly bytes: number };

  /**
   * For each i, out[i] = the part of page pages[i] of kv: what lies apart is put side by side, so
   * that it crosses as one. A page outside kv is refused (`bad-argument`), and nothing is moved.
   */
  'gather-pages': PagedParts & { readonly out: Slice };

  /** The reverse: the part of page pages[i] of kv becomes input[i]; no page is named twice. */
  'scatter-pages': PagedParts & { readonly input: Slice };

  /**
   * product[count, outputs] = x * weight^T (+ bias), where x[count, inputs] is the input or, with a
   * norm, x = input / sqrt(mean(input^2) + epsilon) * (norm + normOffset) over each line. Then
   * `store`: out = product; `add`: out += product; `gate`, for gate and up stacked in one weight:
   * out[count, outputs / 2] = activation(product[:, :outputs / 2]) * product[:, outputs / 2:].
   */
  linear: Matrix & {
    readonly input: Slice;
    /** E [inputs] */
    readonly norm: Slice | null;
    readonly normOffset: NormOffset;
    readonly epsilon: number;
    /** Of a gate. */
    readonly activation: Activation;
    /** E [outputs] */
    readonly bias: Slice | null;
    readonly epilogue: 'store' | 'add' | 'gate';
    readonly out: Slice;
    /** f32 for logits, which are stored. */
    readonly outType: ElementType;
    readonly count: number;
    readonly inputs: number;
    readonly outputs: number;
    /** Undefined before and after; as large as linearWorkspace says. */
    readonly workspace: Slice;
  };

  /**
   * On qkv[count, (heads + n kvHeads) * headDim], n as lineKv has it: normalises each head of q and
   * k where norms are given (Qwen3), and of v with valueNorm, by its root mean square alone (Gemma
   * 4); rotates the first rotaryDim of q and k (halves of these, as Hugging Face's rotate_half) and
   * leaves the rest as it is, writes k and v of this layer to their pages. Then
   * out[count, heads * headDim] = softmax(q k^T * scale) v over positions j <= p of the token's
   * row, and p - j < window where window > 0. A head's sink is one more score, as it is, whose
   * weight no value gets. Leaves qkv undefined.
   */
  attention: KvGeometry & {
    readonly qkv: Slice;
    readonly lineKv: LineKv;
    readonly valueNorm: boolean;
    /** E [heads] */
    readonly sinks: Slice | null;
    /** E [headDim] */
    readonly queryNorm: Slice | null;
    readonly keyNorm: Slice | null;
    readonly normOffset: NormOffset;
    readonly epsilon: number;
    /**
     * f32 [maxPositions, headDim / 2, (cos, sin)]: of each pair that rotates, then (1, 0) for each
     * pair of the rest.
     */
    readonly rope: Slice;
    /** A multiple of 16, or headDim. */
    readonly rotaryDim: number;
    readonly out: Slice;
    readonly count: number;
    readonly heads: number;
    readonly scale: number;
    readonly window: number;
    /**
     * At most one token of each row (decode), or runs of consecutive positions of a row: short ones
     * behind long contexts (verify), or any.
     */
    readonly phase: 'decode' | 'verify' | 'prefill';
  };

  /**
   * A product of each head's own. Of a weight [heads * headRows, columns], W_h are rows
   * [firstRow, firstRow + rows) of head h's headRows; x are the first elements of head h of
   * input[count, heads, inputStride], and the product becomes the first ones of out[count, heads,
   * outStride]: x * W_h^T, `rows` of `columns`, or with isTransposed x * W_h, `columns` of `rows`.
   */
  'head-linear': Omit<Matrix, 'format'> & {
    readonly format: StorageFormat;
    readonly input: Slice;
    readonly out: Slice;
    readonly count: number;
    readonly heads: number;
    readonly headRows: number;
    readonly firstRow: number;
    readonly rows: number;
    readonly columns: number;
    readonly isTransposed: boolean;
    readonly inputStride: number;
    readonly outStride: number;
  };

  /**
   * Attention to one vector for each token, which is the key and the value of all heads (DeepSeek's
   * multi-head latent attention, with what makes keys and values of it multiplied into queries and
   * outputs). Of latents[count, rank + rotaryDim] the first `rank` over their root mean square,
   * times norm, and the rest, rotated in pairs of neighbours, become the token's line of its page.
   * The first `rank` of each of queries[count, heads, rank + rotaryDim] are given; the rest becomes
   * elements [turnedFrom, turnedFrom + rotaryDim) of projected[count, heads, projectedStride],
   * rotated. Then out[count, heads, rank] = softmax(query line^T * scale) line[:rank] over
   * positions j <= p of the token's row.
   */
  'latent-attention': PagedLines & {
    readonly projected: Slice;
    readonly projectedStride: number;
    readonly turnedFrom: number;
    readonly queries: Slice;
    readonly latents: Slice;
    /** E [rank] */
    readonly norm: Slice;
    readonly epsilon: number;
    /** f32 [maxPositions, rotaryDim / 2, (cos, sin)] */
    readonly rope: Slice;
    readonly out: Slice;
    readonly count: number;
    readonly heads: number;
    readonly rank: number;
    readonly rotaryDim: number;
    readonly scale: number;
  };

  /**
   * Sends each line to topK of the experts. normed = input over the root mean square of its line,
   * times norm + normOffset; logits = logitScale * (normed * router^T (+ routerBias)), in f32. A
   * line chooses the experts of the largest logits, largest first and the lowest id among equals
   * (NaN counts as minus infinity); a line of row -1 chooses none (-1). weights = weightScale times
   * the softmax over the logits of the chosen, or over all of them. By sigmoids, a line chooses the
   * largest sigmoid(logits) + choiceBias, and weights are weightScale times the sigmoids alone, or
   * these over the sum of the chosen. With choiceGroups above 1, experts are so many groups of
   * neighbours, and a line chooses among the experts of the keptGroups groups whose best two add up
   * to most. Then the lists of who is whose, as ExpertGroups has them: of a device that
   * has a part of the experts, with those chosen alone that it has. A line's weights are the same
   * on all.
   */
  route: ExpertGroups & {
    /** E [count, width] */
    readonly input: Slice;
    /** E [width] */
    readonly norm: Slice;
    readonly normOffset: NormOffset;
    readonly epsilon: number;
    /** E [count, width], written. */
    readonly normed: Slice;
    /** E [allExperts, width] */
    readonly router: Slice;
    /** E [allExperts] */
    readonly routerBias: Slice | null;
    /** f32 [allExperts], for sigmoids alone. */
    readonly choiceBias: Slice | null;
    /** A divisor of allExperts that leaves at least two to each; 1: there are no groups. */
    readonly choiceGroups: number;
    readonly keptGroups: number;
    readonly logitScale: number;
    /** f32 [allExperts]: what the weight of each is multiplied by, whatever the others weigh. */
    readonly expertScales: Slice | null;
    readonly weighing: Weighing;
    readonly weightScale: number;
    readonly tokenRows: Slice;
    /** f32 [count, topK], written. */
    readonly weights: Slice;
    readonly width: number;
    /**
     * Which of all experts the device has. On a device of several ranks there is one for each rank,
     * or one that counts for all of them.
     */
    readonly shares: readonly ExpertShare[];
    /** Undefined before and after; as large as routeWorkspace says. */
    readonly workspace: Slice;
  };

  /**
   * The gated product of each line with each expert that it chose: out[count * topK, inner]. With
   * gate and up of an expert's product x * weight[expert]^T (+ bias[expert]), each at most `limit`
   * and up no less than -limit: out = gate * sigmoid(alpha * gate) * (up + shift). That is SwiGLU
   * for a limit of infinity, alpha 1 and shift 0.
   */
  'expert-gate': ExpertGroups &
    ExpertMatrix &
    GateForm & {
      /** E [count, inputs] */
      readonly input: Slice;
      /** E [experts, 2 inner] */
      readonly bias: Slice | null;
      readonly out: Slice;
      readonly inputs: number;
      readonly inner: number;
      /** Whether rows 2 i and 2 i + 1 of an expert are gate and up, or its halves are. */
      readonly isInterleaved: boolean;
    };

  /**
   * For each line the sum over the experts that it chose, in the order of its slots, of weights *
   * (x * weight[expert]^T (+ bias[expert])), with x = input[count * topK, inputs]:
   * out[count, outputs] = it (`store`), or out += it (`add`).
   */
  'expert-down': ExpertGroups &
    ExpertMatrix & {
      readonly input: Slice;
      /** E [experts, outputs] */
      readonly bias: Slice | null;
      /** f32 [count, topK] */
      readonly weights: Slice;
      readonly epilogue: 'store' | 'add';
      readonly out: Slice;
      readonly inputs: number;
      readonly outputs: number;
      /** Undefined before and after; as large as expertDownWorkspace says. */
      readonly workspace: Slice;
    };

  /**
   * out[count, width] += scale * x, or becomes that, where x is the input or, with a norm, the
   * input over the root mean square of its line, times norm + normOffset. With outScale what is
   * left in out is multiplied by it.
   */
  'add-branch': {
    readonly input: Slice;
    /** E [width] */
    readonly norm: Slice | null;
    readonly normOffset: NormOffset;
    readonly epsilon: number;
    readonly scale: number;
    /** E [1] */
    readonly outScale: Slice | null;
    readonly epilogue: 'add' | 'store';
    readonly out: Slice;
    readonly count: number;
    readonly width: number;
  };

  /**
   * Elements [first, first + width) of each line of lines[count, stride] become themselves over
   * their root mean square, times norm: heads that are normalised together.
   */
  'norm-span': {
    readonly lines: Slice;
    /** E [width] */
    readonly norm: Slice;
    readonly epsilon: number;
    readonly count: number;
    readonly stride: number;
    readonly first: number;
    readonly width: number;
  };

  /**
   * The first `width` elements of line i of lines[count, stride] are multiplied by
   * 1 + beta * ln(1 + floor(positions[i] / period)): Llama 4's scaling of queries.
   */
  'scale-by-position': {
    readonly lines: Slice;
    /** i32 [count] */
    readonly positions: Slice;
    readonly beta: number;
    readonly period: number;
    readonly count: number;
    readonly stride: number;
    readonly width: number;
  };

  /** out[i] *= sigmoid(input[i]). */
  'sigmoid-gate': { readonly input: Slice; readonly out: Slice; readonly elements: number };

  /**
   * out[count, width] becomes its activation, times elements [first, first + width) of each line of
   * lines[count, stride].
   */
  'gate-span': {
    readonly out: Slice;
    readonly lines: Slice;
    readonly activation: Activation;
    readonly count: number;
    readonly width: number;
    readonly stride: number;
    readonly first: number;
  };

  /** out[i, :width] *= sigmoid(input[i, :inputs] * weight), weight E [inputs]. */
  'gate-lines': {
    readonly input: Slice;
    readonly weight: Slice;
    readonly out: Slice;
    readonly count: number;
    readonly inputs: number;
    readonly width: number;
  };

  /** logits, f32: themselves times scale, and where cap > 0 cap * tanh(that / cap). */
  'finish-logits': {
    readonly logits: Slice;
    readonly scale: number;
    readonly cap: number;
    readonly elements: number;
  };

  /**
   * A causal convolution along the tokens of each row, channel by channel, and silu of it:
   * out[i, c] = silu(sum over j < 4 of weight[c, j] * x(i - 3 + j)[c]), x(k) being the row's token
   * k places further. lines are [count, stride], of which the first `channels` elements are the
   * input, and out is [count, channels]. What is before a run of tokens is in states[row], E
   * [maxRows, 3, channels] from `layerBytes` on with `rowBytes` between rows, and zero before
   * position 0; the run's last three inputs are left there.
   */
  'causal-conv': RowStates & {
    readonly lines: Slice;
    /** E [channels, 4] */
    readonly weight: Slice;
    readonly out: Slice;
    readonly stride: number;
    readonly channels: number;
  };

  /**
   * The gated delta rule over the tokens of each row. Value head h of valueHeads uses key head
   * h / (valueHeads / keyHeads) of mixed[count, 2 keyHeads keyDim + valueHeads valueDim], which has
   * q, k and v, one after the other. q becomes q / sqrt(|q|^2 + 1e-6) / sqrt(keyDim), k likewise
   * without the last. With b and a of gates[count, (b, a), valueHeads]: beta = sigmoid(b),
   * decay = exp(-exp(decayLog) * softplus(a + stepBias)). With S, f32 [keyDim, valueDim] of the row
   * (zero before position 0): S *= decay; d = beta (v - S^T k); S += k d^T; out[i, h] = S^T q.
   */
  'delta-rule': RowStates & {
    readonly mixed: Slice;
    readonly gates: Slice;
    /** f32 [valueHeads] each. */
    readonly decayLog: Slice;
    readonly stepBias: Slice;
    readonly out: Slice;
    readonly keyHeads: number;
    readonly valueHeads: number;
    readonly keyDim: number;
    readonly valueDim: number;
  };

  /**
   * On out[count, heads * width]: each head over its root mean square, times norm and then
   * silu(lines[i, first + j]), where lines are [count, stride].
   */
  'gated-norm': {
    readonly lines: Slice;
    /** E [width] */
    readonly norm: Slice;
    readonly epsilon: number;
    readonly out: Slice;
    readonly count: number;
    readonly stride: number;
    readonly first: number;
    readonly heads: number;
    readonly width: number;
  };

  /**
   * The sum of the inputs, E [count, width] each, added in f32 in their order: out = it (`store`),
   * or out += it (`add`). On a device of several ranks each input stands for those of all of them,
   * in the order of the ranks, and every rank's out gets the same bits.
   */
  'all-reduce': ImposedTime & {
    readonly inputs: readonly Slice[];
    readonly out: Slice;
    readonly epilogue: 'store' | 'add';
    readonly count: number;
    readonly width: number;
  };

  /**
   * out, f32 [count, inputs * width] = the inputs, f32 [count, width] each, side by side. On a
   * device of several ranks each input stands for those of all of them, as for `all-reduce`.
   */
  'all-gather': ImposedTime & {
    readonly inputs: readonly Slice[];
    readonly out: Slice;
    readonly count: number;
    readonly width: number;
  };

  /** out[i] = input[indices[i]] over lines of `width`; index -1 leaves a line undefined. */
  select: {
    readonly input: Slice;
    readonly indices: Slice;
    readonly out: Slice;
    readonly count: number;
    readonly width: number;
  };

  /**
   * out[i], f32 [count, width] = v / max(|v|, 1e-12), v = input[indices[i]] * (norm + normOffset),
   * element by element: the line after a norm with these weights, at length 1. The norm's own
   * factor is gone with its length. An index outside the input leaves its line undefined.
   */
  pool: {
    readonly input: Slice;
    readonly indices: Slice;
    /** E [width] */
    readonly norm: Slice;
    readonly normOffset: NormOffset;
    readonly out: Slice;
    readonly count: number;
    readonly width: number;
  };

  /**
   * For each line whose row has ROW_FLAG.GRAMMAR: bit t of masks[line] says whether the row's
   * grammar admits token t next. It does when all the token's bytes can be stepped
   * (grammar-layout.ts); a stop id is admitted exactly where the text may end. None is for a row
   * whose place or grammar is not within the arrays. Lines of other rows are left as they are.
   */
  'grammar-mask': GrammarTables & {
    readonly rows: Slice;
    /** i32 [count]: the row of each line, -1 for none. */
    readonly lineRows: Slice;
    /** u32 [count, maskWords(vocab)] */
    readonly masks: Slice;
    readonly count: number;
    readonly vocab: number;
  };

  /**
   * For each line with row >= 0, samples a token from logits (f32 [count, vocab]) into sampled[i].
   * Where the row has ROW_FLAG.GRAMMAR, the logits of tokens whose bit in masks[line] is 0 count
   * as minus infinity. Order: logit bias, which may be minus infinity and where ROW_FLAG.ALLOWED
   * is set is that of every token without one; min-tokens mask, repetition, presence and frequency
   * penalties; temperature; min-p; top-k; top-p; then inverse CDF in order of token id with the
   * uniform number of sampleUniform(seed, generated), where line i of the linesPerRow lines of a
   * row counts as many tokens more as generated. Greedy takes the lowest best id. Filters
   * keep every token tied with the last one kept. NaN counts as minus infinity; where nothing else
   * is left, the token is NO_TOKEN, and its logprobs are not written. Logits are not modified
   * before logprobs are taken. Logprob lines are written for rows with ROW_FLAG.LOGPROBS, into
   * slot CONTROL.STEP % ringSlots of `logprobs` (ringSlots x ringLines x LOGPROB_WORDS).
   */
  sample: SampleTargets & {
    /** A divisor of count. */
    readonly linesPerRow: number;
    readonly logits: Slice;
    readonly counts: Slice;
    readonly bias: Slice;
    /** As `grammar-mask` has left them. */
    readonly masks: Slice;
    readonly sampled: Slice;
    readonly logprobs: Slice;
    readonly vocab: number;
  };

  /**
   * After sampling, for each line with row >= 0: TOKEN, POSITION + 1, GENERATED + 1, REMAINING - 1,
   * counts; ACTIVE is 1 until a stop id, the end of REMAINING or NO_TOKEN; a result line in slot
   * CONTROL.STEP % ringSlots of `results` (ringSlots x resultSlotWords(ringLines)). Then
   * CONTROL.STEP + 1. With ROW_FLAG.GRAMMAR the row also ends, as by a stop id, with the token that
   * completes its text, and by an error with one that its grammar does not admit; else its place in
   * the grammar moves on (grammar-step.ts).
   */
  advance: SampleTargets &
    GrammarTables & {
      readonly sampled: Slice;
      readonly counts: Slice;
      readonly results: Slice;
      readonly vocab: number;
    };

  /**
   * As `advance`, with linesPerRow lines for each row, the first of them its own. A further one of
   * the row counts where all before it did, none of which has ended the row, and where the token
   * drafted for it (`tokens`) is the one sampled from the line before; then the row moves on by
   * what was sampled from it as well. Of others the result is FINISH.REJECTED with NO_TOKEN, and
   * their lineRows become -1. Each sampled token goes into the row's history, at its position.
   */
  accept: SampleTargets &
    GrammarTables &
    Histories & {
      /** A divisor of count. */
      readonly linesPerRow: number;
      readonly tokens: Slice;
      readonly sampled: Slice;
      readonly counts: Slice;
      readonly results: Slice;
      readonly vocab: number;
    };

  /**
   * One logprob line (LOGPROB_WORDS, MAX_TOP_LOGPROBS alternatives) for token targets[i] of logits
   * line i.
   */
  'prompt-logprobs': {
    readonly logits: Slice;
    readonly targets: Slice;
    readonly out: Slice;
    readonly count: number;
    readonly vocab: number;
  };

  /**
   * out[i] = mean + spread * (2 u - 1), u = hashUniform(seed, i), rounded to `type`; to bytes
   * downwards, where it must be within 0 and 255. Weights of `--load-format dummy`.
   */
  'fill-uniform': {
    readonly out: Slice;
    readonly elements: number;
    readonly type: ElementType | 'fp8-e4m3' | 'byte';
    readonly mean: number;
    readonly spread: number;
    readonly seed: number;
  };

  /**
   * Elements of a tensor as a checkpoint stores it become elements of the tensor as the device
   * holds it. The piece holds elements [first, first + count) of the stored [rows, columns]. Of
   * each row, columns [columnsFrom, columnsTo) are placed and the others skipped. Stored row
   * q * rowGroups + k becomes row k * (rows / rowGroups) + q, which parts what is interleaved (gate
   * and up). Rounds to nearest even where bits are lost, bit for bit as f32FromF16, bf16FromF32 and
   * f32FromBf16; NaN stays NaN.
   */
  place: {
    readonly input: Slice;
    /** Where in input the piece starts: any multiple of the stored element's size. */
    readonly inputOffsetBytes: number;
    readonly from: StoredElement;
    /** bytes become bytes, and numbers numbers. */
    readonly to: 'bytes' | ElementType;
    /** The whole tensor: [rows, columnsTo - columnsFrom], or the transpose of that. */
    readonly out: Slice;
    readonly first: number;
    readonly count: number;
    readonly rows: number;
    readonly columns: number;
    readonly columnsFrom: number;
    readonly columnsTo: number;
    /** A divisor of rows: 1 leaves them in their order. */
    readonly rowGroups: number;
    readonly isTransposed: boolean;
  };

  /**
   * out, the codes of an `int4` Matrix [outputs, inputs] = input, which holds the same codes in
   * another order. Both sizes are multiples of 8, and input and out apart from each other.
   */
  'order-int4-codes': {
    readonly input: Slice;
    readonly out: Slice;
    readonly order: Exclude<Int4Order, 'rows'>;
    readonly inputs: number;
    readonly outputs: number;
  };

  /**
   * out, u32 [outputs, groups]: the scales of an `int4` Matrix, of a checkpoint's scales and zero
   * points as they lie by `order`. A zero point is what is stored plus zeroOffset, or 8 where there
   * are none. outputs is a multiple of 8, and out apart from the others.
   */
  'join-int4-scales': {
    readonly scales: Slice;
    readonly scaleType: 'bf16' | 'f16';
    readonly zeros: Slice | null;
    readonly zeroOffset: 0 | 1;
    readonly order: Int4Order;
    readonly out: Slice;
    readonly outputs: number;
    readonly groups: number;
  };

  /**
   * out, u32 [2] = checksumOf the first `bytes` of input, which finds errors, not intent: with
   * words w[i], the last one padded with zeros, out[0] is the sum of w[i] * (2 i + 1) and out[1]
   * that of mix32(w[i] ^ i * 0x9e3779b9), all modulo 2^32.
   */
  checksum: { readonly input: Slice; readonly bytes: number; readonly out: Slice };

  /**
   * out, 32 bytes = hashTreeOf the first `bytes` of input: the root of a tree of SHA-256 over
   * leaves of `leafBytes`, a multiple of 64.
   */
  'hash-tree': {
    readonly input: Slice;
    readonly bytes: number;
    readonly leafBytes: number;
    /** Undefined before and after; as large as hashTreeScratchBytes says. */
    readonly scratch: Slice;
    readonly out: Slice;
  };
}

/** Of operations that a law makes slower, wherever they are launched or captured. */
export interface ImposedTime {
  /** So much longer the operation takes than by itself; absent: no longer. */
  readonly lawNs?: number;
}

/** What is added to the weights of a norm: 1 where checkpoints have their distance from one. */
export type NormOffset = 0 | 1;

/** What a gate does to its first half; gelu in the form with tanh. */
export type Activation = 'silu' | 'gelu-tanh';

/** What a line's experts weigh: see `route`. */
export type Weighing = 'softmax-chosen' | 'softmax-all' | 'sigmoid' | 'sigmoid-normalised';

/**
 * What rows keep from token to token. Tokens of a row are consecutive, in one run or in one line;
 * lines of row -1 are padding. A row's state is at states + row * rowBytes + layerBytes.
 */
export interface RowStates {
  readonly states: Slice;
  readonly rowBytes: number;
  readonly layerBytes: number;
  readonly tokenRows: Slice;
  readonly positions: Slice;
  readonly count: number;
  /** Whether states stay as they were: some of the tokens may turn out to be none of the row's. */
  readonly isTrial: boolean;
}

/** The same part of several pages. All sizes are multiples of 16. */
export interface PagedParts {
  readonly kv: Slice;
  readonly pageBytes: number;
  /** Bytes [fromBytes, fromBytes + partBytes) of each page. */
  readonly fromBytes: number;
  readonly partBytes: number;
  /** By their numbers. The host knows them, so they need no crossing of their own. */
  readonly pages: readonly number[];
}

/**
 * How a checkpoint packs 4-bit codes of [outputs, inputs] into words of 32 bits, the first in the
 * lowest bits, and what lies beside them. `rows` (compressed-tensors): codes [outputs, inputs / 8],
 * as they are on the device; scales [outputs, groups]; zeros [outputs / 8, groups], 8 outputs to a
 * word. `gptq`: codes [inputs / 8, outputs], 8 inputs to a word; scales [groups, outputs]; zeros
 * [groups, outputs / 8]. `awq`: codes [inputs, outputs / 8] and zeros [groups, outputs / 8], both
 * with outputs 0, 2, 4, 6, 1, 3, 5, 7 of 8 in a word; scales [groups, outputs].
 */
export type Int4Order = 'rows' | 'gptq' | 'awq';

/** What a checkpoint's elements are: numbers, or single bytes that are only moved. */
export type StoredElement = 'bytes' | 'bf16' | 'f16' | 'f32';

export type OpName = keyof OpArgs;

/**
 * How numbers at rest are stored: as the device's own element type, or as FP8 (E4M3, saturating).
 * What is computed with them is never narrower than the element type.
 */
export type StorageFormat = 'element' | 'fp8-e4m3';

/** Bytes of one number at rest. */
export function storedBytes(format: StorageFormat, element: ElementType): number {
  return format === 'element' ? bytesPerElement(element) : 1;
}

/**
 * How the weights of a product are stored: as other numbers, or as integers of 4 bits, which stay
 * packed: two codes to a byte, the earlier in its low half. blockOutputs is then 1, and a group of
 * blockInputs inputs, which divides them all, has a word with its scale and its zero point: a
 * value is (code - zero) * scale (int4.ts).
 */
export type MatrixFormat = StorageFormat | 'int4';

/** A weight [outputs, inputs], row-major. */
export interface Matrix {
  readonly weight: Slice;
  readonly format: MatrixFormat;
  /**
   * f32 [ceil(outputs / blockOutputs), ceil(inputs / blockInputs)]: what the values of each block
   * are multiplied by; of `int4` u32 (int4.ts). null for elements.
   */
  readonly scales: Slice | null;
  readonly blockOutputs: number;
  readonly blockInputs: number;
}

/** A matrix of the device's own elements. */
export function elementMatrix(weight: Slice): Matrix {
  return { weight, format: 'element', scales: null, blockOutputs: 1, blockInputs: 1 };
}

/**
 * How the weights of experts are stored: as other weights, or as MXFP4 (OCP Microscaling Formats),
 * which stays packed, too: 4-bit codes (E2M1), two to a byte, the earlier in its low half, with a
 * scale of 8 bits (E8M0, a power of two) for each 32 inputs. Scales above 128, which no weights
 * have, make NaN of their block.
 */
export type ExpertFormat = MatrixFormat | 'mxfp4';

/** Inputs that share a scale of MXFP4. */
export const MXFP4_BLOCK = 32;

/** The weights of all experts, [experts * outputs, inputs]: one stacked on the other. */
export interface ExpertMatrix extends Omit<Matrix, 'format'> {
  readonly format: ExpertFormat;
}

/** Of all experts in their order, the first that a device has and the first behind its own. */
export type ExpertShare = readonly [from: number, to: number];

/** Which assignments (line * topK + slot) are whose. */
export interface ExpertGroups {
  /**
   * i32 [count, topK]: an expert for each slot of a line, as one of the device's own from 0 on;
   * none where it is no expert's number.
   */
  readonly chosen: Slice;
  /** i32 [experts + 1]: where in `order` the assignments of an expert begin. */
  readonly starts: Slice;
  /** i32 [count * topK]: assignments by expert, and ascending within one. */
  readonly order: Slice;
  readonly count: number;
  /** That the device has room for; it may have fewer. */
  readonly experts: number;
  /** That lines choose among: more, where each of several devices has a part of them. */
  readonly allExperts: number;
  readonly topK: number;
}

/** The gated product's activation: gelu in the form with tanh, or x sigmoid(alpha x). */
export interface GateForm {
  readonly limit: number;
  readonly alpha: number | 'gelu-tanh';
  readonly shift: number;
}

/** Bytes of a matrix's codes or elements. */
export function packedBytes(format: ExpertFormat, values: number, elementBytes: number): number {
  if (format === 'mxfp4' || format === 'int4') return values / 2;
  return values * (format === 'element' ? elementBytes : 1);
}

const alignBytes = (bytes: number) => Math.ceil(bytes / 256) * 256;

/** Where the workspace of `route` holds what, in bytes from its start. */
export function routeWorkspace(
  { count, width, allExperts }: Pick<OpArgs['route'], 'count' | 'width' | 'allExperts'>,
  elementBytes: number,
): { readonly linear: number; readonly bytes: number } {
  const sizes = { count, inputs: width, outputs: allExperts, epilogue: 'store' } as const;
  const product = linearWorkspace({ ...sizes, format: 'element', hasNorm: true }, elementBytes);
  const linear = alignBytes(count * allExperts * 4);
  return { linear, bytes: linear + product.bytes };
}

/** Bytes of f32 for the outputs of each assignment. */
export function expertDownWorkspace({
  count,
  topK,
  outputs,
}: Pick<OpArgs['expert-down'], 'count' | 'topK' | 'outputs'>): number {
  return alignBytes(count * topK * outputs * 4);
}

/** The sizes of one linear operation. */
export type LinearSizes = Pick<
  OpArgs['linear'],
  'count' | 'inputs' | 'outputs' | 'epilogue' | 'format'
> & { readonly hasNorm: boolean };

/** Where a linear operation's workspace holds what, in bytes from its start. */
export interface LinearWorkspace {
  /** The normalised input. */
  readonly normed: number;
  /** The product that is not the output. */
  readonly product: number;
  /** A packed weight as elements. */
  readonly widened: number;
  readonly bytes: number;
}

/** A device that fuses steps needs less of the workspace, or none. */
export function linearWorkspace(sizes: LinearSizes, elementBytes: number): LinearWorkspace {
  const { count, inputs, outputs, epilogue, format, hasNorm } = sizes;
  const align = (elements: number) => Math.ceil((elements * elementBytes) / 256) * 256;
  const product = hasNorm ? align(count * inputs) : 0;
  const widened = product + (epilogue === 'store' ? 0 : align(count * outputs));
  const bytes = widened + (format === 'element' ? 0 : align(outputs * inputs));
  return { normed: 0, product, widened, bytes };
}

/** The i32 arrays that commands write. A command's TARGET indexes them in this order. */
export interface CommandTargets {
  /** [maxRows, ROW_WORDS] */
  readonly rows: Slice;
  /** [maxRows, pagesPerRow] */
  readonly pageTable: Slice;
  /** [maxRows, MAX_BIAS, (token id, bias bits)] */
  readonly bias: Slice;
  /** [maxRows]: the rows of the decode batch, -1 past its end. */
  readonly decodeRows: Slice;
  /** [maxBatchTokens] each: the prefill batch. */
  readonly tokens: Slice;
  readonly tokenRows: Slice;
  readonly positions: Slice;
  /** [maxRows]: the prefill tokens whose logits are sampled, and their rows. */
  readonly select: Slice;
  readonly selectRows: Slice;
  /**
   * [maxRows]: the prefill tokens whose prompt logprobs are wanted, and the tokens that came next.
   */
  readonly promptSelect: Slice;
  readonly promptTargets: Slice;
  /** [CONTROL_WORDS] */
  readonly control: Slice;
  /** [maxRows, GRAMMAR_ROW_WORDS] */
  readonly grammarRows: Slice;
  /** [maxRows, historyTokens] (see `Histories`), or of no use where nothing is drafted. */
  readonly history: Slice;
  /** As `pageTable`, of layers whose pages are kept for a window; or of no use. */
  readonly windowTable: Slice;
}

/** The tokens of each row, prompt and output, at their positions. */
export interface Histories {
  /** i32 [maxRows, historyTokens] */
  readonly history: Slice;
  readonly historyTokens: number;
}

/** Grammars, where rows are in them, and the vocabulary's bytes: see grammar-layout.ts. */
export interface GrammarTables {
  /** i32 [maxRows, GRAMMAR_ROW_WORDS] */
  readonly grammarRows: Slice;
  /** u32: compiled grammars. */
  readonly grammarPool: Slice;
  /** u32 [vocab] each. */
  readonly tokenSpans: Slice;
  readonly tokenHeads: Slice;
  /** u32: the tokens' bytes. */
  readonly tokenBytes: Slice;
}

/**
 * What a line of qkv has for each KV head behind its queries: a key and a value; a key that is its
 * value as well, which takes it before norms and rotation; or nothing, where the pages have both
 * from an earlier layer.
 */
export type LineKv = 'keys and values' | 'keys' | 'none';

/** Vectors that it is for each KV head. */
export const LINE_KV_PARTS: Readonly<Record<LineKv, 0 | 1 | 2>> = {
  'keys and values': 2,
  keys: 1,
  none: 0,
};

/** Elements of a line of qkv. */
export function qkvWidth(
  args: Pick<OpArgs['attention'], 'heads' | 'kvHeads' | 'headDim' | 'lineKv'>,
): number {
  return (args.heads + LINE_KV_PARTS[args.lineKv] * args.kvHeads) * args.headDim;
}

/**
 * KV pages. A page has, for each layer with keys and values of its own, [(k, v), kvHeads,
 * pageTokens, headDim], one behind the other: it is contiguous over all layers, so that a spill or
 * a restore of it is one crossing. Position p of row r is in page
 * pageTable[r * pagesPerRow + p / pageTokens]. Where layers have a window, entries of pages that
 * end before a line's window are not read for it: they may be of anything.
 */
export interface KvGeometry extends PagedLines {
  readonly kvFormat: StorageFormat;
  readonly kvHeads: number;
  readonly headDim: number;
}

/**
 * What pages of all kinds have in common. Those of `latent-attention` have, for each layer,
 * E [pageTokens, rank + rotaryDim].
 */
export interface PagedLines {
  readonly kv: Slice;
  readonly pageTable: Slice;
  readonly tokenRows: Slice;
  readonly positions: Slice;
  /** Of a page, over all layers. */
  readonly pageElements: number;
  /** Where in a page this layer's keys begin. */
  readonly layerElement: number;
  readonly pageTokens: number;
  readonly pagesPerRow: number;
}

interface SampleTargets {
  readonly rows: Slice;
  readonly control: Slice;
  /** i32 [count]: the row of each line, -1 for none. */
  readonly lineRows: Slice;
  readonly count: number;
  readonly ringSlots: number;
  readonly ringLines: number;
}
