import { invariant } from '@bridgekeeper/bridge/threads';
import type { MatmulShape } from '../kernels/matmul.ts';
import { rangeOf, type Share } from '../kernels/share.ts';
import { matmulModule, OUTPUT_BLOCK } from './matmul-module.ts';
import { type WasmMemory, wasm } from './wasm.ts';
import { WASM_PAGE_BYTES, WASM_PAGES_MAX } from './wasm-writer.ts';

/** Lines that go through the weights together: as many again would not be faster. */
const LINES_MAX = 16;
/** Behind a buffer's bytes each thread has room for input lines, and as much for their outputs. */
const INPUT_ROOM_BYTES = 2 * WASM_PAGE_BYTES;
const SCRATCH_BYTES = 2 * INPUT_ROOM_BYTES;
/** The module reads whole vectors, so up to this much behind the last weight. */
const OVERREAD_BYTES = 16;

/** Inputs that a weight may have here: one line of them must fit the scratch room. */
export const SIMD_INPUTS_MAX = INPUT_ROOM_BYTES / 4;

type MatmulFunction = (
  inputAddress: number,
  weightAddress: number,
  outAddress: number,
  lines: number,
  inputs: number,
  outputs: number,
) => void;

let compiled: object | null | undefined;

/** The module, compiled once in each thread that needs it; null where it cannot run. */
function compiledModule(): object | null {
  if (compiled === undefined) {
    const bytes = matmulModule();
    compiled = wasm?.validate(bytes) ? new wasm.Module(bytes) : null;
  }
  return compiled;
}

function scratchStart(bufferBytes: number): number {
  return Math.ceil((bufferBytes + OVERREAD_BYTES) / WASM_PAGE_BYTES) * WASM_PAGE_BYTES;
}

/**
 * Memory for a buffer of `bytes` whose weights `threads` threads can multiply by where they are:
 * WebAssembly reaches nothing but its own memory. null where there is none to be had: no SIMD, too
 * large for 32-bit addresses, or no room in the address space, of which each such memory reserves
 * 10 GiB (but uses only what it holds).
 */
export function allocateForSimd(bytes: number, threads: number): WasmMemory | null {
  const pages = (scratchStart(bytes) + threads * SCRATCH_BYTES) / WASM_PAGE_BYTES;
  if (wasm === undefined || compiledModule() === null || pages > WASM_PAGES_MAX) return null;
  try {
    return new wasm.Memory({ shared: true, initial: pages, maximum: pages });
  } catch {
    return null;
  }
}

/**
 * Multiplies by weights that lie in one buffer of `allocateForSimd`, in the thread that made this.
 */
export class SimdMatmul {
  readonly #bufferBytes: number;
  readonly #memory: WasmMemory;
  readonly #matmul: MatmulFunction;

  constructor(memory: WasmMemory, bufferBytes: number) {
    const module = compiledModule();
    invariant(
      wasm !== undefined && module !== null,
      'memory for SIMD comes from threads that have SIMD',
    );
    const instance = new wasm.Instance(module, { host: { memory } });
    this.#bufferBytes = bufferBytes;
    this.#memory = memory;
    this.#matmul = instance.exports.matmul as MatmulFunction;
  }

  /**
   * As kernels/matmul.ts, with the weight as its byte offset in the buffer. `inputs` is at most
   * SIMD_INPUTS_MAX.
   */
  run(
    input: Float32Array,
    weightOffsetBytes: number,
    bias: Float32Array | null,
    out: Float32Array,
    { count, inputs, outputs }: MatmulShape,
    share: Share,
  ): void {
    const [from, to] = rangeOf(share, outputs, OUTPUT_BLOCK);
    const stride = Math.ceil(inputs / 4) * 4;
    const block = Math.min(count, LINES_MAX, Math.floor(SIMD_INPUTS_MAX / stride));
    const width = Math.floor(SIMD_INPUTS_MAX / block / OUTPUT_BLOCK) * OUTPUT_BLOCK;
    const inputAddress = scratchStart(this.#bufferBytes) + share.part * SCRATCH_BYTES;
    const outAddress = inputAddress + INPUT_ROOM_BYTES;
    const buffer = this.#memory.buffer;
    const lineRoom = new Float32Array(buffer, inputAddress, block * stride);
    const outRoom = new Float32Array(buffer, outAddress, block * width);
    for (let line = 0; line < count; line += block) {
      const lines = Math.min(block, count - line);
      for (let n = 0; n < lines; n++) {
        const start = (line + n) * inputs;
        lineRoom.set(input.subarray(start, start + inputs), n * stride);
      }
      for (let column = from; column < to; column += width) {
        const columns = Math.min(width, to - column);
        const weightAddress = weightOffsetBytes + column * inputs * 4;
        this.#matmul(inputAddress, weightAddress, outAddress, lines, inputs, columns);
        for (let n = 0; n < lines; n++) {
          const sums = outRoom.subarray(n * columns, (n + 1) * columns);
          if (bias !== null) for (let i = 0; i < columns; i++) sums[i]! += bias[column + i]!;
          out.set(sums, (line + n) * outputs + column);
        }
      }
    }
  }
}
