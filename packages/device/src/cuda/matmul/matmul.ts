import { type CublasLt, LT, OutCell } from '@bridgekeeper/native';
import type { ElementType } from '../../device.ts';

/** What NVIDIA advises for Hopper. Enough for every algorithm that the heuristic proposes there. */
export const WORKSPACE_BYTES = 32 * 1024 * 1024;
/** All that slices promise. */
const ALIGNMENT_BYTES = 16;
const INT_BYTES = 4;
/** Prefill meets a new count with almost every chunk: what was planned first is planned anew. */
const MAX_PLANS = 1024;
/** An algorithm serves for counts up to so many times larger or smaller. */
const NEAR = 2;

export interface MatmulShape {
  readonly count: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly outType: ElementType;
  readonly hasBias: boolean;
  /**
   * out += product, where out is bf16 and the library may round the product to bf16 before it adds;
   * otherwise out = product.
   */
  readonly accumulate: boolean;
}

export interface MatmulOperands {
  readonly input: bigint;
  readonly weight: bigint;
  readonly bias: bigint | null;
  readonly out: bigint;
  readonly workspace: bigint;
  readonly stream: bigint;
}

/** One product as it was launched. */
export interface MatmulLaunch {
  readonly shape: MatmulShape;
  readonly operands: MatmulOperands;
}

/** The opaque bytes of a cublasLtMatmulAlgo_t. They mean the same in every process of a version. */
export type MatmulAlgorithm = Buffer;

/** A shape's descriptors and the algorithm for it. */
interface Plan {
  readonly description: bigint;
  readonly weight: bigint;
  readonly input: bigint;
  readonly out: bigint;
  /** null: the library has none for this shape. */
  algorithm: MatmulAlgorithm | null;
  /** The heuristic's first proposal: nobody has timed it against others on this machine. */
  isGuess: boolean;
}

/** Names a shape. */
export function matmulKey(shape: MatmulShape): string {
  const { count, inputs, outputs, outType, hasBias, accumulate } = shape;
  const bias = hasBias ? ' bias' : '';
  return `${count} x ${inputs} x ${outputs} ${outType}${bias}${accumulate ? ' add' : ''}`;
}

/**
 * out = input * weight^T (+ bias), or out += that; bf16 in, f32 accumulated, the same bits at every
 * launch. cuBLASLt thinks in columns: there out^T is weight^T (transposed from [inputs, outputs])
 * times input^T, and a bias runs along its rows.
 */
export class Matmul {
  readonly #lt: CublasLt;
  readonly #handle: bigint;
  readonly #preference: bigint;
  /** Those of counts that were made ready for: they stay. */
  readonly #ready = new Map<string, Plan>();
  /** The counts among them, in ascending order, by what else names their shapes. */
  readonly #readyCounts = new Map<string, number[]>();
  #isMakingReady = false;
  /** All others, the oldest first. */
  readonly #plans = new Map<string, Plan>();
  /** What takes the place of the heuristic's first proposal. */
  readonly #chosen: Map<string, MatmulAlgorithm>;
  #observed: MatmulLaunch[] | null = null;
  readonly #one = new Float32Array(new ArrayBuffer(4)).fill(1);
  readonly #zero = new Float32Array(new ArrayBuffer(4));
  readonly #biasAddress = Buffer.alloc(8);

  /** `known` algorithms were timed earlier; those that the library no longer takes are ignored. */
  constructor(lt: CublasLt, known: ReadonlyMap<string, MatmulAlgorithm> = new Map()) {
    this.#lt = lt;
    this.#chosen = new Map(known);
    this.#handle = lt.create('cublasLtCreate');
    this.#preference = createPreference(lt);
  }

  /**
   * False when the library has no algorithm for the shape: then nothing was launched. `algorithm`,
   * which must be a candidate or accepted, takes the place of the shape's own for this launch.
   */
  launch(shape: MatmulShape, operands: MatmulOperands, algorithm?: MatmulAlgorithm): boolean {
    const plan = this.#planOf(shape);
    const used = algorithm ?? plan.algorithm;
    if (used === null) return false;
    this.#observed?.push({ shape, operands });
    if (operands.bias !== null) this.#setBias(plan.description, operands.bias);
    this.#lt.call(
      'cublasLtMatmul',
      this.#handle,
      plan.description,
      this.#one,
      operands.weight,
      plan.weight,
      operands.input,
      plan.input,
      shape.accumulate ? this.#one : this.#zero,
      operands.out,
      plan.out,
      operands.out,
      plan.out,
      used,
      operands.workspace,
      WORKSPACE_BYTES,
      operands.stream,
    );
    return true;
  }

  /**
   * Runs `action`, whose products are those to expect: their algorithms are asked for, and serve
   * for counts near theirs as well. Asking for one takes milliseconds, and running one that never
   * ran loads kernels, for which the driver waits until the GPU is idle: 100 ms where a long prompt
   * is on its way (cuBLASLt 13.0 on an H200).
   */
  makeReady<T>(action: () => T): T {
    this.#isMakingReady = true;
    try {
      return action();
    } finally {
      this.#isMakingReady = false;
    }
  }

  /** Runs `action` and returns the products that it launched, in order. */
  observe(action: () => void): MatmulLaunch[] {
    const observed: MatmulLaunch[] = [];
    this.#observed = observed;
    try {
      action();
    } finally {
      this.#observed = null;
    }
    return observed;
  }

  /** What the heuristic proposes for a shape, best guess first: at most `limit` algorithms. */
  candidates(shape: MatmulShape, limit: number): MatmulAlgorithm[] {
    const plan = this.#makePlan(shape);
    try {
      return this.#propose(plan, limit);
    } finally {
      this.#release(plan);
    }
  }

  /** Whether the library takes an algorithm, wherever its bytes come from, for a shape. */
  accepts(shape: MatmulShape, algorithm: MatmulAlgorithm): boolean {
    return this.#isTaken(this.#planOf(shape), algorithm);
  }

  /** Whether launches of a shape use what the heuristic proposed first, untimed. */
  isGuess(shape: MatmulShape): boolean {
    return this.#planOf(shape).isGuess;
  }

  /** From now on launches of a shape use `algorithm`, which must be a candidate or accepted. */
  choose(shape: MatmulShape, algorithm: MatmulAlgorithm): void {
    this.#chosen.set(matmulKey(shape), algorithm);
    const plan = this.#planOf(shape);
    plan.algorithm = algorithm;
    plan.isGuess = false;
  }

  #isTaken({ description, weight, input, out }: Plan, algorithm: MatmulAlgorithm): boolean {
    if (algorithm.length !== LT.ALGORITHM_BYTES) return false;
    const result = Buffer.alloc(LT.RESULT_BYTES);
    const operands = [description, weight, input, out, out] as const;
    const isTaken = this.#lt.agrees(
      'cublasLtMatmulAlgoCheck',
      this.#handle,
      ...operands,
      algorithm,
      result,
    );
    return isTaken && isUsable(result) && this.#isRepeatable(algorithm);
  }

  #planOf(shape: MatmulShape): Plan {
    const key = matmulKey(shape);
    let plan = this.#ready.get(key);
    if (plan !== undefined) return plan;
    if (this.#isMakingReady) return this.#planAhead(shape, key);
    plan = this.#plans.get(key);
    if (plan !== undefined) return plan;
    if (this.#plans.size === MAX_PLANS) this.#forgetOldest();
    plan = this.#makePlan(shape);
    const near = this.#chosen.has(key) ? null : this.#nearestReady(shape);
    if (near !== null && this.#isTaken(plan, near)) {
      plan.algorithm = near;
      plan.isGuess = true;
    } else {
      this.#chooseFor(plan, this.#chosen.get(key));
    }
    this.#plans.set(key, plan);
    return plan;
  }

  #planAhead(shape: MatmulShape, key: string): Plan {
    const plan = this.#makePlan(shape);
    this.#chooseFor(plan, this.#chosen.get(key));
    this.#ready.set(key, plan);
    const counts = this.#readyCounts.get(matmulKey({ ...shape, count: 0 })) ?? [];
    counts.push(shape.count);
    counts.sort((a, b) => a - b);
    this.#readyCounts.set(matmulKey({ ...shape, count: 0 }), counts);
    return plan;
  }

  /** That of the next larger count that is ready, or of the next smaller; null: none is near. */
  #nearestReady(shape: MatmulShape): MatmulAlgorithm | null {
    const { count } = shape;
    const counts = this.#readyCounts.get(matmulKey({ ...shape, count: 0 })) ?? [];
    const near =
      counts.find((ready) => ready >= count && ready <= NEAR * count) ??
      counts.findLast((ready) => ready < count && ready >= count / NEAR);
    if (near === undefined) return null;
    return this.#ready.get(matmulKey({ ...shape, count: near }))!.algorithm;
  }

  #chooseFor(plan: Plan, known: MatmulAlgorithm | undefined): void {
    if (known !== undefined && this.#isTaken(plan, known)) {
      plan.algorithm = known;
      return;
    }
    plan.algorithm = this.#propose(plan, 1)[0] ?? null;
    plan.isGuess = plan.algorithm !== null;
  }

  #forgetOldest(): void {
    const [key, plan] = this.#plans.entries().next().value!;
    this.#plans.delete(key);
    this.#release(plan);
  }

  #makePlan({ count, inputs, outputs, outType, hasBias }: MatmulShape): Plan {
    const lt = this.#lt;
    const description = lt.create('cublasLtMatmulDescCreate', LT.COMPUTE_F32, LT.TYPE_F32);
    this.#describe(description, LT.DESC_TRANSPOSE_A, int32(LT.TRANSPOSE));
    if (hasBias) {
      this.#describe(description, LT.DESC_EPILOGUE, int32(LT.EPILOGUE_BIAS));
      this.#describe(description, LT.DESC_BIAS_TYPE, int32(LT.TYPE_BF16));
    }
    const layout = (type: number, rows: number, columns: number) =>
      lt.create('cublasLtMatrixLayoutCreate', type, rows, columns, rows);
    const weight = layout(LT.TYPE_BF16, inputs, outputs);
    const input = layout(LT.TYPE_BF16, inputs, count);
    const out = layout(outType === 'f32' ? LT.TYPE_F32 : LT.TYPE_BF16, outputs, count);
    return { description, weight, input, out, algorithm: null, isGuess: false };
  }

  #propose({ description, weight, input, out }: Plan, limit: number): MatmulAlgorithm[] {
    const found = new OutCell();
    const results = Buffer.alloc(limit * LT.RESULT_BYTES);
    const isSupported = this.#lt.isSupported(
      'cublasLtMatmulAlgoGetHeuristic',
      this.#handle,
      description,
      weight,
      input,
      out,
      out,
      this.#preference,
      limit,
      results,
      found.bytes,
    );
    return Array.from({ length: isSupported ? found.i32 : 0 }, (_, index) =>
      results.subarray(index * LT.RESULT_BYTES, (index + 1) * LT.RESULT_BYTES),
    )
      .filter(isUsable)
      .map((result) => result.subarray(0, LT.ALGORITHM_BYTES))
      .filter((algorithm) => this.#isRepeatable(algorithm));
  }

  /**
   * Parts of a sum that several blocks make are added in a fixed order, and in f32: not where they
   * are kept as, or added to, rounded outputs.
   */
  #isRepeatable(algorithm: MatmulAlgorithm): boolean {
    const { ALGORITHM_REDUCTION: attribute, REDUCTION_NONE, REDUCTION_COMPUTE_TYPE } = LT;
    const scheme = new OutCell();
    const length = new OutCell();
    this.#lt.call(
      'cublasLtMatmulAlgoConfigGetAttribute',
      algorithm,
      attribute,
      scheme.bytes,
      INT_BYTES,
      length.bytes,
    );
    return scheme.i32 === REDUCTION_NONE || scheme.i32 === REDUCTION_COMPUTE_TYPE;
  }

  /** Where the bias lies is part of the description: it is set anew for every launch. */
  #setBias(description: bigint, bias: bigint): void {
    this.#biasAddress.writeBigUInt64LE(bias);
    this.#describe(description, LT.DESC_BIAS_POINTER, this.#biasAddress);
  }

  #describe(description: bigint, attribute: number, value: Buffer): void {
    const { length } = value;
    this.#lt.call('cublasLtMatmulDescSetAttribute', description, attribute, value, length);
  }

  #release(plan: Plan): void {
    this.#lt.release('cublasLtMatmulDescDestroy', plan.description);
    for (const layout of [plan.weight, plan.input, plan.out]) {
      this.#lt.release('cublasLtMatrixLayoutDestroy', layout);
    }
  }

  close(): void {
    for (const plans of [this.#ready, this.#plans]) {
      for (const plan of plans.values()) this.#release(plan);
      plans.clear();
    }
    this.#lt.release('cublasLtMatmulPreferenceDestroy', this.#preference);
    this.#lt.release('cublasLtDestroy', this.#handle);
  }
}

function createPreference(lt: CublasLt): bigint {
  const preference = lt.create('cublasLtMatmulPreferenceCreate');
  const set = (attribute: number, value: Buffer) =>
    lt.call('cublasLtMatmulPreferenceSetAttribute', preference, attribute, value, value.length);
  const workspace = Buffer.alloc(8);
  workspace.writeBigUInt64LE(BigInt(WORKSPACE_BYTES));
  set(LT.PREFERENCE_WORKSPACE_BYTES, workspace);
  set(LT.PREFERENCE_REDUCTION_MASK, int32(LT.REDUCTION_NONE | LT.REDUCTION_COMPUTE_TYPE));
  for (let which = LT.PREFERENCE_ALIGNMENT_A; which <= LT.PREFERENCE_ALIGNMENT_D; which++) {
    set(which, int32(ALIGNMENT_BYTES));
  }
  return preference;
}

/** Whether a cublasLtMatmulHeuristicResult_t is of an algorithm that we can run. */
function isUsable(result: Buffer): boolean {
  const workspaceBytes = result.readBigUInt64LE(LT.RESULT_WORKSPACE_OFFSET);
  const state = result.readInt32LE(LT.RESULT_STATE_OFFSET);
  return state === 0 && workspaceBytes <= BigInt(WORKSPACE_BYTES);
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(INT_BYTES);
  bytes.writeInt32LE(value);
  return bytes;
}
