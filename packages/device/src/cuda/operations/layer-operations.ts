import { DeviceError } from '../../errors.ts';
import type { OpArgs } from '../../ops.ts';
import type { Launcher } from '../launch/launcher.ts';
import { lineThreads } from './linear-operations.ts';

const E = 2;
const WORD = 4;
const THREADS = 256;

export function launchEmbed(launcher: Launcher, args: OpArgs['embed']): void {
  const { count, width, vocab, scale } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('table of embed', args.table, vocab * width * E),
      launcher.address('tokens of embed', args.tokens, count * WORD),
      launcher.address('out of embed', args.out, count * width * E),
    )
    .ints(width, vocab)
    .floats(scale);
  launcher.launch('embed', { grid: [count], threads: lineThreads(width) }, block);
}

export function launchCopy(launcher: Launcher, { input, out, bytes }: OpArgs['copy']): void {
  const from = launcher.address('input of copy', input, bytes);
  const to = launcher.address('out of copy', out, bytes);
  if (bytes === 0) return;
  launcher.copy(to, from, bytes);
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

export function launchPool(launcher: Launcher, args: OpArgs['pool']): void {
  const { count, width } = args;
  const lines = Math.floor(args.input.bytes / (width * E));
  const block = launcher.parameters
    .pointers(
      launcher.address('input of pool', args.input, 0),
      launcher.address('indices of pool', args.indices, count * WORD),
      launcher.address('norm of pool', args.norm, width * E),
      launcher.address('out of pool', args.out, count * width * WORD),
    )
    .ints(width, lines)
    .floats(args.normOffset);
  launcher.launch('pool_lines', { grid: [count], threads: THREADS }, block);
}

/** enum FillType of layers.cu, and the bytes of an element. */
const FILL_TYPE = {
  bf16: { code: 0, bytes: 2 },
  f32: { code: 1, bytes: 4 },
  'fp8-e4m3': { code: 2, bytes: 1 },
  bytes: { code: 3, bytes: 1 },
} as const;

export function launchFillUniform(launcher: Launcher, args: OpArgs['fill-uniform']): void {
  const { elements, type, mean, spread, seed } = args;
  if (!Number.isSafeInteger(elements) || elements < 0) {
    throw new DeviceError('bad-argument', `fill-uniform of ${elements} elements`);
  }
  const fill = FILL_TYPE[type];
  const bytes = elements * fill.bytes;
  const block = launcher.parameters
    .pointers(launcher.address('out of fill-uniform', args.out, bytes), BigInt(elements))
    .floats(mean, spread)
    .ints(seed, fill.code);
  const blocks = Math.min(Math.ceil(elements / THREADS), launcher.core.gpu.multiprocessors * 16);
  launcher.launch('fill_uniform', { grid: [blocks], threads: THREADS }, block);
}
