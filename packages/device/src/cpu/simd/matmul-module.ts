import {
  type Code,
  FunctionWriter,
  f32,
  f32x4,
  i32,
  i32x4,
  type Local,
  repeat,
  v128,
  when,
  writeModule,
} from './wasm-writer.ts';

/**
 * Outputs that are worked on together, for as many lines as there are, so that their weights stay
 * in the cache.
 */
export const OUTPUT_BLOCK = 8;
const LINE_BLOCK = 4;
/**
 * Outputs that four lines have in registers at once: 4 x 2 sums, 4 inputs and a weight, of 16
 * registers.
 */
const LINE_BLOCK_OUTPUTS = 2;
/** Steps of four products between two looks at the loop's end. */
const UNROLL = 2;
const STEP_BYTES = 16;

/**
 * The names of the exported function's parameters, in order: byte addresses, then numbers of
 * things.
 */
const PARAMETERS = ['input', 'weight', 'out', 'lines', 'inputs', 'outputs'] as const;
type Parameters = Readonly<Record<(typeof PARAMETERS)[number], Local>>;

/**
 * The module with one function, `matmul`: out[lines, outputs] = input[lines, inputs] *
 * weight[outputs, inputs]^T. Input lines start at multiples of 16 bytes; there must be 12 readable
 * bytes behind the last weight.
 *
 * Every sum has four lanes. Lane j adds the products of k = j, j + 4, j + 8, ... in order; the
 * lanes are added at the end, as (0 + 1) + (2 + 3). That holds in blocks of any size, so results do
 * not depend on the lines beside one.
 */
export function matmulModule(): Uint8Array<ArrayBuffer> {
  const f = new FunctionWriter('matmul');
  const params = Object.fromEntries(PARAMETERS.map((name) => [name, f.param('i32')]));
  const writer = new MatmulWriter(f, params as unknown as Parameters);
  writer.write();
  return writeModule([f]);
}

class MatmulWriter {
  readonly #f: FunctionWriter;
  readonly #p: Parameters;
  /** Bytes from one line to the next. */
  readonly #inputStride: Local;
  readonly #weightStride: Local;
  readonly #outStride: Local;
  /** Ones in the lanes of the last step that hold inputs. */
  readonly #mask: Local;
  readonly #line: Local;
  readonly #lineOut: Local;
  readonly #linesLeft: Local;
  readonly #k: Local;
  readonly #inputPointers: readonly Local[];
  readonly #weightPointers: readonly Local[];
  readonly #inputLanes: readonly Local[];
  readonly #weightLanes: Local;
  readonly #sums: readonly Local[];

  constructor(f: FunctionWriter, parameters: Parameters) {
    const several = (count: number, type: 'i32' | 'v128') =>
      Array.from({ length: count }, () => f.variable(type));
    this.#f = f;
    this.#p = parameters;
    this.#inputStride = f.variable('i32');
    this.#weightStride = f.variable('i32');
    this.#outStride = f.variable('i32');
    this.#mask = f.variable('v128');
    this.#line = f.variable('i32');
    this.#lineOut = f.variable('i32');
    this.#linesLeft = f.variable('i32');
    this.#k = f.variable('i32');
    this.#inputPointers = several(LINE_BLOCK, 'i32');
    this.#weightPointers = several(OUTPUT_BLOCK, 'i32');
    this.#inputLanes = several(LINE_BLOCK, 'v128');
    this.#weightLanes = f.variable('v128');
    this.#sums = several(OUTPUT_BLOCK, 'v128');
  }

  write(): void {
    const { inputs, outputs } = this.#p;
    const wholeSteps = i32.and(i32.add(inputs.get, i32.const(3)), i32.const(-4));
    this.#f.add(
      this.#inputStride.set(i32.shl(wholeSteps, i32.const(2))),
      this.#weightStride.set(i32.shl(inputs.get, i32.const(2))),
      this.#outStride.set(i32.shl(outputs.get, i32.const(2))),
      this.#mask.set(i32x4.gtU(i32x4.splat(i32.and(inputs.get, i32.const(3))), laneNumbers())),
      this.#overOutputs(OUTPUT_BLOCK),
      this.#overOutputs(1),
    );
  }

  /**
   * While `width` outputs or more are left: computes as many of all lines, and goes on to the next.
   */
  #overOutputs(width: number): Code {
    const { input, weight, out, lines, outputs } = this.#p;
    return whileLeft(outputs, width, [
      ...this.#line.set(input.get),
      ...this.#lineOut.set(out.get),
      ...this.#linesLeft.set(lines.get),
      ...(width === OUTPUT_BLOCK ? this.#overLines(LINE_BLOCK, LINE_BLOCK_OUTPUTS, width) : []),
      ...this.#overLines(1, width, width),
      ...advance(weight, i32.mul(this.#weightStride.get, i32.const(width))),
      ...advance(out, i32.const(4 * width)),
    ]);
  }

  /** While `lines` lines or more are left: computes `width` outputs of them, `outputs` at once. */
  #overLines(lines: number, outputs: number, width: number): Code {
    const blocks: Code[] = [];
    for (let first = 0; first < width; first += outputs) {
      blocks.push(this.#block(lines, first, outputs));
    }
    return whileLeft(this.#linesLeft, lines, [
      ...blocks.flat(),
      ...advance(this.#line, i32.mul(this.#inputStride.get, i32.const(lines))),
      ...advance(this.#lineOut, i32.mul(this.#outStride.get, i32.const(lines))),
    ]);
  }

  /** Outputs [first, first + outputs) of `lines` lines. */
  #block(lines: number, first: number, outputs: number): Code {
    const { inputs } = this.#p;
    const inputPointers = this.#inputPointers.slice(0, lines);
    const weightPointers = this.#weightPointers.slice(0, outputs);
    const pointers = [...inputPointers, ...weightPointers];
    const steps = (count: number) => [
      ...Array.from({ length: count }, (_, n) => this.#step(lines, outputs, n * STEP_BYTES)).flat(),
      ...pointers.flatMap((pointer) => advance(pointer, i32.const(count * STEP_BYTES))),
    ];
    const isRagged = i32.and(inputs.get, i32.const(3));
    return [
      ...this.#sums.slice(0, lines * outputs).flatMap((sum) => sum.set(v128.zero)),
      ...pointersFrom(inputPointers, this.#line.get, this.#inputStride),
      ...pointersFrom(
        weightPointers,
        i32.add(this.#p.weight.get, i32.mul(this.#weightStride.get, i32.const(first))),
        this.#weightStride,
      ),
      ...this.#k.set(inputs.get),
      ...whileLeft(this.#k, 4 * UNROLL, steps(UNROLL)),
      ...whileLeft(this.#k, 4, steps(1)),
      ...when(isRagged, this.#step(lines, outputs, 0, this.#mask)),
      ...this.#storeSums(lines, first, outputs),
    ];
  }

  /** Adds four products to each sum; those outside `mask` count as 0. */
  #step(lines: number, outputs: number, offsetBytes: number, mask?: Local): Code {
    const code: Code[] = this.#inputLanes
      .slice(0, lines)
      .map((lanes, line) => lanes.set(v128.load(this.#inputPointers[line]!.get, offsetBytes)));
    for (let output = 0; output < outputs; output++) {
      code.push(this.#weightLanes.set(v128.load(this.#weightPointers[output]!.get, offsetBytes)));
      for (let line = 0; line < lines; line++) {
        const sum = this.#sums[line * outputs + output]!;
        const product = f32x4.mul(this.#inputLanes[line]!.get, this.#weightLanes.get);
        code.push(sum.set(f32x4.add(sum.get, mask ? v128.and(product, mask.get) : product)));
      }
    }
    return code.flat();
  }

  #storeSums(lines: number, first: number, outputs: number): Code {
    const code: Code[] = [];
    for (let line = 0; line < lines; line++) {
      const row = i32.add(this.#lineOut.get, i32.mul(this.#outStride.get, i32.const(line)));
      for (let output = 0; output < outputs; output++) {
        const lane = (n: number) => f32x4.extractLane(n, this.#sums[line * outputs + output]!.get);
        const total = f32.add(f32.add(lane(0), lane(1)), f32.add(lane(2), lane(3)));
        code.push(f32.store(row, 4 * (first + output), total));
      }
    }
    return code.flat();
  }
}

function advance(pointer: Local, bytes: Code): Code {
  return pointer.set(i32.add(pointer.get, bytes));
}

/** Pointers that start at `first`, `stride` bytes from one to the next. */
function pointersFrom(pointers: readonly Local[], first: Code, stride: Local): Code {
  return pointers.flatMap((pointer, index) =>
    pointer.set(index === 0 ? first : i32.add(pointers[index - 1]!.get, stride.get)),
  );
}

/** Runs `body` while `count` is at least `size`, and takes `size` off it each time. */
function whileLeft(count: Local, size: number, body: Code): Code {
  const isEnough = i32.geU(count.get, i32.const(size));
  const less = count.set(i32.sub(count.get, i32.const(size)));
  return when(isEnough, repeat([...body, ...less], isEnough));
}

/** The vector 0, 1, 2, 3. */
function laneNumbers(): Code {
  let lanes: Code = v128.zero;
  for (const n of [1, 2, 3]) lanes = i32x4.replaceLane(n, lanes, i32.const(n));
  return lanes;
}
