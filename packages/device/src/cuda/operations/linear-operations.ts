import { bytesPerElement } from '../../device.ts';
import { DeviceError } from '../../errors.ts';
import { linearWorkspace, type OpArgs, packedBytes } from '../../ops.ts';
import type { Launcher } from '../launch/launcher.ts';
import { WORKSPACE_BYTES } from '../matmul/matmul.ts';
import { canBeSkinny, launchSkinny } from './linear-skinny.ts';
import { canStream, launchStreamed } from './linear-stream.ts';

const E = 2;
const THREADS = 256;
const WARP = 32;

/** Where the parts of one linear operation lie; 0 for those that it does not have. */
export interface LinearOperands {
  readonly input: bigint;
  readonly norm: bigint;
  readonly weight: bigint;
  readonly scales: bigint;
  readonly bias: bigint;
  readonly out: bigint;
  readonly normed: bigint;
  readonly product: bigint;
  readonly widened: bigint;
}

/** product = norm(input) * weight^T (+ bias), then what the epilogue says. */
export function launchLinear(launcher: Launcher, args: OpArgs['linear']): void {
  if (args.count === 0) return;
  const operands = operandsOf(launcher, args);
  const { gpu } = launcher.core;
  if (canStream(args, gpu)) launchStreamed(launcher, args, operands);
  else if (gpu.hasWarpgroupProducts && canBeSkinny(args))
    launchOverTensorCores(launcher, args, operands);
  else launchOverLibrary(launcher, args, operands);
}

function operandsOf(launcher: Launcher, args: OpArgs['linear']): LinearOperands {
  const { count, inputs, outputs, epilogue, outType, format, norm, bias, scales } = args;
  if (epilogue === 'gate' && outputs % 2 !== 0) {
    throw new DeviceError('bad-argument', `a gate over ${outputs} outputs: they must be even`);
  }
  if ((format === 'element') !== (scales === null)) {
    throw new DeviceError(
      'bad-argument',
      `${format} weights ${scales ? 'with' : 'without'} scales`,
    );
  }
  if (format === 'int4' && (inputs % args.blockInputs !== 0 || args.blockInputs % 8 !== 0)) {
    const message = `${inputs} inputs in groups of ${args.blockInputs}: they must divide them`;
    throw new DeviceError('bad-argument', `${message} and be multiples of 8`);
  }
  const address = launcher.address.bind(launcher);
  const width = epilogue === 'gate' ? outputs / 2 : outputs;
  const sizes = { count, inputs, outputs, epilogue, format, hasNorm: norm !== null };
  const places = linearWorkspace(sizes, E);
  const workspace = address('workspace of linear', args.workspace, places.bytes);
  const weightBytes = packedBytes(format, outputs * inputs, E);
  const blocks = Math.ceil(outputs / args.blockOutputs) * Math.ceil(inputs / args.blockInputs) * 4;
  return {
    input: address('input of linear', args.input, count * inputs * E),
    norm: norm === null ? 0n : address('norm of linear', norm, inputs * E),
    weight: address('weight of linear', args.weight, weightBytes),
    scales: scales === null ? 0n : address('scales of linear', scales, blocks),
    bias: bias === null ? 0n : address('bias of linear', bias, outputs * E),
    out: address('out of linear', args.out, count * width * bytesPerElement(outType)),
    normed: workspace + BigInt(places.normed),
    product: workspace + BigInt(places.product),
    widened: workspace + BigInt(places.widened),
  };
}

/** The norm first, then packed weights as they are. */
function launchOverTensorCores(
  launcher: Launcher,
  args: OpArgs['linear'],
  at: LinearOperands,
): void {
  launchSkinny(launcher, args, { ...at, input: normalised(launcher, args, at) });
}

/** The input's norm, by a kernel of its own; the input itself where there is none. */
function normalised(launcher: Launcher, args: OpArgs['linear'], at: LinearOperands): bigint {
  const { count, inputs, epsilon, normOffset, norm } = args;
  if (norm === null) return at.input;
  const block = launcher.parameters.pointers(at.input, at.norm, at.normed);
  const shape = { grid: [count], threads: lineThreads(inputs) } as const;
  launcher.launch('rms_norm', shape, block.ints(inputs).floats(epsilon, normOffset));
  return at.normed;
}

/**
 * Norm and gate as kernels of their own around cuBLASLt's product, which adds by itself; packed
 * weights are widened first.
 */
function launchOverLibrary(launcher: Launcher, args: OpArgs['linear'], at: LinearOperands): void {
  const { count, outputs, epilogue } = args;
  const input = normalised(launcher, args, at);
  const weight = widened(launcher, args, at);
  const out = epilogue === 'gate' ? at.product : at.out;
  launchProduct(launcher, args, { ...at, input, weight, out });
  if (epilogue !== 'gate') return;
  const width = outputs / 2;
  const parts = Math.max(Math.ceil(width / 8 / THREADS), 1);
  const isGelu = args.activation === 'gelu-tanh' ? 1 : 0;
  const block = launcher.parameters.pointers(out, at.out).ints(width, isGelu);
  launcher.launch('gate_mul', { grid: [count, parts], threads: THREADS }, block);
}

function widened(launcher: Launcher, args: OpArgs['linear'], at: LinearOperands): bigint {
  const { format, inputs, outputs, blockInputs, blockOutputs } = args;
  if (format === 'element') return at.weight;
  const threads = Math.min(Math.max(Math.ceil(inputs / 1024), 1), 8) * WARP;
  const shape = { grid: [outputs], threads } as const;
  if (format === 'int4') {
    const pointers = launcher.parameters.pointers(at.weight, at.scales, at.widened);
    launcher.launch('widen_int4', shape, pointers.ints(inputs, blockInputs));
    return at.widened;
  }
  if (!launcher.core.gpu.readsFp8 || inputs % 8 !== 0) {
    const message = `FP8 weights of ${inputs} inputs on this GPU: it needs compute capability 8.9`;
    throw new DeviceError('unsupported', `${message} and inputs in multiples of 8`);
  }
  const block = launcher.parameters
    .pointers(at.weight, at.scales, at.widened)
    .ints(inputs, blockInputs, blockOutputs);
  launcher.launch('widen_fp8', shape, block);
  return at.widened;
}

function launchProduct(
  launcher: Launcher,
  { count, inputs, outputs, outType, epilogue }: OpArgs['linear'],
  { input, weight, bias, out }: LinearOperands,
): void {
  const accumulate = epilogue === 'add';
  const shape = { count, inputs, outputs, outType, hasBias: bias !== 0n, accumulate };
  const workspace = launcher.scratch('matmul', WORKSPACE_BYTES);
  const { stream } = launcher;
  const operands = { input, weight, bias: bias === 0n ? null : bias, out, workspace, stream };
  if (launcher.product(shape, operands)) return;
  const block = launcher.parameters
    .pointers(input, weight, bias, out)
    .ints(inputs, outputs, outType === 'f32' ? 1 : 0, accumulate ? 1 : 0);
  const columns = Math.ceil(outputs / (THREADS / WARP));
  launcher.launch('matmul_any', { grid: [columns, count], threads: THREADS }, block);
}

/** Threads for a line of `width` elements, 8 to a thread. */
export function lineThreads(width: number): number {
  return Math.min(Math.max(Math.ceil(width / 8 / WARP), 1) * WARP, 512);
}
