import { asItIs, NativeError, type Translate } from './errors.ts';
import {
  type BoundFunctions,
  type NativeArgument,
  OutCell,
  openNativeLibrary,
  type Signatures,
} from './library.ts';

export const CUBLASLT_SIGNATURES = {
  cublasLtGetVersion: [],
  cublasLtCreate: ['pointer'],
  cublasLtDestroy: ['u64'],
  cublasLtMatmulDescCreate: ['pointer', 'i32', 'i32'],
  cublasLtMatmulDescDestroy: ['u64'],
  cublasLtMatmulDescSetAttribute: ['u64', 'i32', 'pointer', 'u64'],
  cublasLtMatrixLayoutCreate: ['pointer', 'i32', 'u64', 'u64', 'i64'],
  cublasLtMatrixLayoutDestroy: ['u64'],
  cublasLtMatmulPreferenceCreate: ['pointer'],
  cublasLtMatmulPreferenceDestroy: ['u64'],
  cublasLtMatmulPreferenceSetAttribute: ['u64', 'i32', 'pointer', 'u64'],
  cublasLtMatmulAlgoGetHeuristic: [
    ...(['u64', 'u64', 'u64', 'u64', 'u64', 'u64'] as const),
    ...(['u64', 'i32', 'pointer', 'pointer'] as const),
  ],
  cublasLtMatmulAlgoCheck: [
    ...(['u64', 'u64', 'u64', 'u64', 'u64', 'u64', 'pointer', 'pointer'] as const),
  ],
  cublasLtMatmulAlgoConfigGetAttribute: ['pointer', 'i32', 'pointer', 'u64', 'pointer'],
  cublasLtMatmul: [
    ...(['u64', 'u64', 'pointer', 'u64', 'u64', 'u64', 'u64', 'pointer'] as const),
    ...(['u64', 'u64', 'u64', 'u64', 'pointer', 'u64', 'u64', 'u64'] as const),
  ],
} as const satisfies Signatures;
export type CublasLtFunction = keyof typeof CUBLASLT_SIGNATURES;

/** Constants of cublasLt.h, cublas_api.h and library_types.h. */
export const LT = {
  TYPE_F32: 0,
  TYPE_BF16: 14,
  COMPUTE_F32: 68,
  DESC_TRANSPOSE_A: 3,
  DESC_EPILOGUE: 7,
  DESC_BIAS_POINTER: 8,
  DESC_BIAS_TYPE: 26,
  TRANSPOSE: 1,
  EPILOGUE_BIAS: 4,
  PREFERENCE_WORKSPACE_BYTES: 1,
  PREFERENCE_REDUCTION_MASK: 3,
  PREFERENCE_ALIGNMENT_A: 5,
  PREFERENCE_ALIGNMENT_D: 8,
  ALGORITHM_REDUCTION: 3,
  /** What partial sums are, and where: there are none; in the workspace, in the compute type. */
  REDUCTION_NONE: 0,
  REDUCTION_COMPUTE_TYPE: 2,
  /** sizeof(cublasLtMatmulAlgo_t) */
  ALGORITHM_BYTES: 64,
  /** sizeof(cublasLtMatmulHeuristicResult_t), and where its parts lie after the algorithm. */
  RESULT_BYTES: 96,
  RESULT_WORKSPACE_OFFSET: 64,
  RESULT_STATE_OFFSET: 72,
  NOT_SUPPORTED: 15,
} as const;

/** cublasStatus_t of cublas_api.h. */
const STATUS_NAMES: ReadonlyMap<number, string> = new Map([
  [1, 'not initialized'],
  [3, 'allocation failed'],
  [7, 'invalid value'],
  [8, 'architecture mismatch'],
  [11, 'mapping error'],
  [13, 'execution failed'],
  [14, 'internal error'],
]);

/** cuBLASLt, every status checked. */
export class CublasLt {
  readonly path: string;
  /** 10000 * major + 100 * minor + patch: what an algorithm's bytes mean depends on it. */
  readonly version: number;
  readonly #functions: BoundFunctions<typeof CUBLASLT_SIGNATURES>;
  readonly #translate: Translate;
  readonly #makeCurrent: () => void;

  /**
   * Throws, as all methods do, what `translate` makes of a NativeError. `makeCurrent` is called
   * before the library, which acts on the thread's current context.
   */
  constructor(path: string, translate = asItIs, makeCurrent = () => {}) {
    this.#translate = translate;
    this.#makeCurrent = makeCurrent;
    try {
      this.#functions = openNativeLibrary(path).bind(CUBLASLT_SIGNATURES);
    } catch (cause) {
      const message = `${path} is no usable cuBLASLt: ${String(cause)}`;
      throw translate(new NativeError('library-missing', message, { cause }));
    }
    this.path = path;
    this.version = this.#functions.cublasLtGetVersion();
  }

  call(name: CublasLtFunction, ...args: NativeArgument[]): void {
    if (!this.isSupported(name, ...args)) {
      const message = `${name} does not support these arguments`;
      throw this.#translate(new NativeError('unsupported', message));
    }
  }

  /** The same, but answers whether the library supports what it was asked for. */
  isSupported(name: CublasLtFunction, ...args: NativeArgument[]): boolean {
    this.#makeCurrent();
    const status = this.#functions[name](...args);
    if (status === LT.NOT_SUPPORTED) return false;
    if (status === 0) return true;
    const meaning = STATUS_NAMES.get(status) ?? 'unknown status';
    const message = `${name} returned ${status} (${meaning})`;
    throw this.#translate(new NativeError('call-failed', message, { status }));
  }

  /** The same for a question whose no comes as whatever status. */
  agrees(name: CublasLtFunction, ...args: NativeArgument[]): boolean {
    this.#makeCurrent();
    return this.#functions[name](...args) === 0;
  }

  /** Calls for the sake of release: what fails then has nothing left to undo. */
  release(name: CublasLtFunction, ...args: NativeArgument[]): void {
    this.#makeCurrent();
    this.#functions[name](...args);
  }

  /** Calls a function that creates a handle and writes it through its first parameter. */
  create(name: CublasLtFunction, ...args: NativeArgument[]): bigint {
    const cell = new OutCell();
    this.call(name, cell.bytes, ...args);
    return cell.pointer;
  }
}
