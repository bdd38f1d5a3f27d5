import type { ElementType } from '../device.ts';
import { type CublasLt, LT } from './ffi/cublaslt.ts';
import { OutCell } from './ffi/native.ts';

/** What NVIDIA advises for Hopper. Enough for every algorithm that the heuristic proposes there. */
export const WORKSPACE_BYTES = 32 * 1024 * 1024;
/** All that slices promise. */
const ALIGNMENT_BYTES = 16;

export interface MatmulShape {
  readonly count: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly outType: ElementType;
  readonly hasBias: boolean;
}

export interface MatmulOperands {
  readonly input: bigint;
  readonly weight: bigint;
  readonly bias: bigint | null;
  readonly out: bigint;
  readonly workspace: bigint;
  readonly stream: bigint;
}

/** A shape's descriptors and the algorithm chosen for it. */
interface Plan {
  readonly description: bigint;
  readonly weight: bigint;
  readonly input: bigint;
  readonly out: bigint;
  /** The chosen cublasLtMatmulAlgo_t; null: the library has none for this shape. */
  readonly algorithm: Uint8Array | null;
}

/**
 * out = input * weight^T (+ bias), bf16 in, f32 accumulated. cuBLASLt thinks in columns: there
 * out^T is weight^T (transposed from [inputs, outputs]) times input^T, and a bias runs along its
 * rows.
 */
export class Matmul {
  readonly #lt: CublasLt;
  readonly #handle: bigint;
  readonly #preference: bigint;
  readonly #plans = new Map<string, Plan>();
  readonly #one = new Float32Array(new ArrayBuffer(4)).fill(1);
  readonly #zero = new Float32Array(new ArrayBuffer(4));

  constructor(lt: CublasLt) {
    this.#lt = lt;
    this.#handle = lt.create('cublasLtCreate');
    this.#preference = lt.create('cublasLtMatmulPreferenceCreate');
    const set = (attribute: number, bytes: Buffer) =>
      lt.call(
        'cublasLtMatmulPreferenceSetAttribute',
        this.#preference,
        attribute,
        bytes,
        bytes.length,
      );
    const workspace = Buffer.alloc(8);
    workspace.writeBigUInt64LE(BigInt(WORKSPACE_BYTES));
    set(LT.PREFERENCE_WORKSPACE_BYTES, workspace);
    for (let which = LT.PREFERENCE_ALIGNMENT_A; which <= LT.PREFERENCE_ALIGNMENT_D; which++) {
      set(which, int32(ALIGNMENT_BYTES));
    }
  }

  /** False when the library has no algorithm for the shape: then nothing was launched. */
  launch(shape: MatmulShape, operands: MatmulOperands): boolean {
    const lt = this.#lt;
    const plan = this.#planOf(shape);
    if (plan.algorithm === null) return false;
    if (operands.bias !== null) this.#setBias(plan.description, operands.bias);
    lt.call(
      'cublasLtMatmul',
      this.#handle,
      plan.description,
      this.#one,
      operands.weight,
      plan.weight,
      operands.input,
      plan.input,
      this.#zero,
      operands.out,
      plan.out,
      operands.out,
      plan.out,
      plan.algorithm,
      operands.workspace,
      WORKSPACE_BYTES,
      operands.stream,
    );
    return true;
  }

  #planOf(shape: MatmulShape): Plan {
    const { count, inputs, outputs, outType, hasBias } = shape;
    const key = `${count} ${inputs} ${outputs} ${outType} ${hasBias}`;
    let plan = this.#plans.get(key);
    if (plan === undefined) {
      plan = this.#makePlan(shape);
      this.#plans.set(key, plan);
    }
    return plan;
  }

  #makePlan(shape: MatmulShape): Plan {
    const lt = this.#lt;
    const { count, inputs, outputs, hasBias } = shape;
    const outType = shape.outType === 'f32' ? LT.TYPE_F32 : LT.TYPE_BF16;
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
    const out = layout(outType, outputs, count);
    const algorithm = this.#choose(description, weight, input, out);
    return { description, weight, input, out, algorithm };
  }

  #choose(description: bigint, weight: bigint, input: bigint, out: bigint): Uint8Array | null {
    const found = new OutCell();
    const result = new Uint8Array(LT.HEURISTIC_BYTES);
    const isSupported = this.#lt.isSupported(
      'cublasLtMatmulAlgoGetHeuristic',
      this.#handle,
      description,
      weight,
      input,
      out,
      out,
      this.#preference,
      1,
      result,
      found.bytes,
    );
    return isSupported && found.i32 > 0 ? result : null;
  }

  /** Where the bias lies is part of the description: it is set anew for every launch. */
  #setBias(description: bigint, bias: bigint): void {
    const address = Buffer.alloc(8);
    address.writeBigUInt64LE(bias);
    this.#describe(description, LT.DESC_BIAS_POINTER, address);
  }

  #describe(description: bigint, attribute: number, value: Buffer): void {
    const { length } = value;
    this.#lt.call('cublasLtMatmulDescSetAttribute', description, attribute, value, length);
  }

  close(): void {
    for (const plan of this.#plans.values()) {
      this.#lt.release('cublasLtMatmulDescDestroy', plan.description);
      for (const layout of [plan.weight, plan.input, plan.out]) {
        this.#lt.release('cublasLtMatrixLayoutDestroy', layout);
      }
    }
    this.#plans.clear();
    this.#lt.release('cublasLtMatmulPreferenceDestroy', this.#preference);
    this.#lt.release('cublasLtDestroy', this.#handle);
  }
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}
