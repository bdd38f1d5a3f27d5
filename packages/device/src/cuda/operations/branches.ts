import type { OpArgs } from '../../ops.ts';
import type { Launcher } from '../launch/launcher.ts';
import { lineThreads } from './linear-operations.ts';

const E = 2;
const WORD = 4;
const THREADS = 256;

export function launchAddBranch(launcher: Launcher, args: OpArgs['add-branch']): void {
  const { count, width, norm, outScale, epsilon, normOffset, scale, epilogue } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('input of add-branch', args.input, count * width * E),
      norm === null ? 0n : launcher.address('norm of add-branch', norm, width * E),
      outScale === null ? 0n : launcher.address('outScale of add-branch', outScale, E),
      launcher.address('out of add-branch', args.out, count * width * E),
    )
    .ints(width)
    .floats(epsilon, normOffset, scale)
    .ints(epilogue === 'add' ? 1 : 0);
  launcher.launch('add_branch', { grid: [count], threads: lineThreads(width) }, block);
}

export function launchNormSpan(launcher: Launcher, args: OpArgs['norm-span']): void {
  const { count, stride, first, width, epsilon } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('lines of norm-span', args.lines, count * stride * E),
      launcher.address('norm of norm-span', args.norm, width * E),
    )
    .ints(stride, first, width)
    .floats(epsilon);
  launcher.launch('norm_span', { grid: [count], threads: lineThreads(width) }, block);
}

export function launchScaleByPosition(launcher: Launcher, args: OpArgs['scale-by-position']): void {
  const { count, stride, width, period, beta } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('lines of scale-by-position', args.lines, count * stride * E),
      launcher.address('positions of scale-by-position', args.positions, count * WORD),
    )
    .ints(stride, width, period)
    .floats(beta);
  launcher.launch('scale_by_position', { grid: [count], threads: lineThreads(width) }, block);
}

export function launchSigmoidGate(launcher: Launcher, args: OpArgs['sigmoid-gate']): void {
  const { elements } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('input of sigmoid-gate', args.input, elements * E),
      launcher.address('out of sigmoid-gate', args.out, elements * E),
    )
    .ints(elements);
  const grid = [Math.ceil(elements / THREADS)] as const;
  launcher.launch('sigmoid_gate', { grid, threads: THREADS }, block);
}

export function launchGateLines(launcher: Launcher, args: OpArgs['gate-lines']): void {
  const { count, inputs, width } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('input of gate-lines', args.input, count * inputs * E),
      launcher.address('weight of gate-lines', args.weight, inputs * E),
      launcher.address('out of gate-lines', args.out, count * width * E),
    )
    .ints(inputs, width);
  launcher.launch('gate_lines', { grid: [count], threads: lineThreads(inputs) }, block);
}

export function launchGateSpan(launcher: Launcher, args: OpArgs['gate-span']): void {
  const { count, width, stride, first, activation } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('out of gate-span', args.out, count * width * E),
      launcher.address('lines of gate-span', args.lines, count * stride * E),
    )
    .ints(width, stride, first, activation === 'gelu-tanh' ? 1 : 0);
  launcher.launch('gate_span', { grid: [count], threads: lineThreads(width) }, block);
}

/** So many blocks for each multiprocessor keep memory busy. */
const BLOCKS = 16;

export function launchFinishLogits(launcher: Launcher, args: OpArgs['finish-logits']): void {
  const { elements, scale, cap } = args;
  const logits = launcher.address('logits of finish-logits', args.logits, elements * WORD);
  const block = launcher.parameters.pointers(logits).longs(elements).floats(scale, cap);
  const most = launcher.core.gpu.multiprocessors * BLOCKS;
  const grid = [Math.min(Math.ceil(elements / THREADS), most)] as const;
  launcher.launch('finish_logits', { grid, threads: THREADS }, block);
}
