import { bytesPerElement } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { OpArgs } from '../ops.ts';
import type { Launcher } from './launcher.ts';
import { WORKSPACE_BYTES } from './matmul.ts';

const E = 2;
const WORD = 4;
const THREADS = 256;
/** Threads for a line of `width` elements, 8 to a thread. */
const lineThreads = (width: number) => Math.min(Math.max(Math.ceil(width / 8 / 32), 1) * 32, 512);
const WARP = 32;

export function launchEmbed(launcher: Launcher, args: OpArgs['embed']): void {
  const { count, width, vocab } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('table of embed', args.table, vocab * width * E),
      launcher.address('tokens of embed', args.tokens, count * WORD),
      launcher.address('out of embed', args.out, count * width * E),
    )
    .ints(width, vocab);
  launcher.launch('embed', { grid: [count], threads: lineThreads(width) }, block);
}

export function launchSelect(launcher: Launcher, args: OpArgs['select']): void {
  const { count, width } = args;
  const lines = Math.floor(args.input.bytes / (width * E));
  const block = launcher.parameters
    .pointers(
      launcher.address('input of select', args.input, 0),
      launcher.address('indices of select', args.indices, count * WORD),
      launcher.address('out of select', args.out, count * width * E),
    )
    .ints(width, lines);
  launcher.launch('select_lines', { grid: [count], threads: lineThreads(width) }, block);
}

export function launchRmsNorm(launcher: Launcher, args: OpArgs['rms-norm']): void {
  const { count, width, epsilon } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('input of rms-norm', args.input, count * width * E),
      launcher.address('weight of rms-norm', args.weight, width * E),
      launcher.address('out of rms-norm', args.out, count * width * E),
    )
    .ints(width)
    .floats(epsilon);
  launcher.launch('rms_norm', { grid: [count], threads: lineThreads(width) }, block);
}

export function launchAddRmsNorm(launcher: Launcher, args: OpArgs['add-rms-norm']): void {
  const { count, width, epsilon } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('residual of add-rms-norm', args.residual, count * width * E),
      launcher.address('input of add-rms-norm', args.input, count * width * E),
      launcher.address('weight of add-rms-norm', args.weight, width * E),
      launcher.address('out of add-rms-norm', args.out, count * width * E),
    )
    .ints(width)
    .floats(epsilon);
  launcher.launch('add_rms_norm', { grid: [count], threads: lineThreads(width) }, block);
}

export function launchSiluMul(launcher: Launcher, args: OpArgs['silu-mul']): void {
  const { count, width } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('input of silu-mul', args.input, count * 2 * width * E),
      launcher.address('out of silu-mul', args.out, count * width * E),
    )
    .ints(width);
  const parts = Math.max(Math.ceil(width / 8 / THREADS), 1);
  launcher.launch('silu_mul', { grid: [count, parts], threads: THREADS }, block);
}

export function launchMatmul(launcher: Launcher, args: OpArgs['matmul']): void {
  const { count, inputs, outputs, outType } = args;
  if (count === 0) return;
  const input = launcher.address('input of matmul', args.input, count * inputs * E);
  const weight = launcher.address('weight of matmul', args.weight, outputs * inputs * E);
  const outBytes = count * outputs * bytesPerElement(outType);
  const out = launcher.address('out of matmul', args.out, outBytes);
  const bias =
    args.bias === null ? null : launcher.address('bias of matmul', args.bias, outputs * E);
  const shape = { count, inputs, outputs, outType, hasBias: bias !== null };
  const workspace = launcher.scratch('matmul', WORKSPACE_BYTES);
  const { stream, core } = launcher;
  if (core.matmul.launch(shape, { input, weight, bias, out, workspace, stream })) return;
  const block = launcher.parameters
    .pointers(input, weight, bias ?? 0n, out)
    .ints(inputs, outputs, outType === 'f32' ? 1 : 0);
  const columns = Math.ceil(outputs / (THREADS / WARP));
  launcher.launch('matmul_any', { grid: [columns, count], threads: THREADS }, block);
}

export function launchFillUniform(launcher: Launcher, args: OpArgs['fill-uniform']): void {
  const { elements, type, mean, spread, seed } = args;
  if (!Number.isSafeInteger(elements) || elements < 0) {
    throw new DeviceError('bad-argument', `fill-uniform of ${elements} elements`);
  }
  const bytes = elements * bytesPerElement(type);
  const block = launcher.parameters
    .pointers(launcher.address('out of fill-uniform', args.out, bytes), BigInt(elements))
    .floats(mean, spread)
    .ints(seed, type === 'f32' ? 1 : 0);
  const blocks = Math.min(Math.ceil(elements / THREADS), launcher.core.multiprocessors * 16);
  launcher.launch('fill_uniform', { grid: [blocks], threads: THREADS }, block);
}
