import { checkInt4 } from '../../int4.ts';
import type { OpArgs } from '../../ops.ts';
import type { Launcher } from '../launch/launcher.ts';

const WORD = 4;
/** Words of inputs and of outputs that a block of int4-order.cu orders. */
const WARP = 32;
const WARPS = 8;
const THREADS = WARP * WARPS;

/** Order and INT4_ROWS, INT4_GPTQ and INT4_AWQ of int4-order.cu. */
const ORDER = { rows: 0, gptq: 1, awq: 2 } as const;

export function launchOrderInt4Codes(launcher: Launcher, args: OpArgs['order-int4-codes']): void {
  checkInt4(args);
  const { order, inputs, outputs } = args;
  const words = inputs / 8;
  const bytes = words * outputs * WORD;
  const block = launcher.parameters
    .pointers(
      launcher.address('input of order-int4-codes', args.input, bytes),
      launcher.address('out of order-int4-codes', args.out, bytes),
    )
    .ints(words, outputs);
  const columns = order === 'awq' ? outputs / 8 : outputs;
  const grid = [Math.ceil(columns / WARPS), Math.ceil(words / WARP)] as const;
  const kernel = order === 'awq' ? 'order_int4_awq' : 'order_int4_gptq';
  launcher.launch(kernel, { grid, threads: THREADS }, block);
}

export function launchJoinInt4Scales(launcher: Launcher, args: OpArgs['join-int4-scales']): void {
  checkInt4(args);
  const { zeros, outputs, groups, order, scaleType, zeroOffset } = args;
  const count = outputs * groups;
  const block = launcher.parameters
    .pointers(
      launcher.address('scales of join-int4-scales', args.scales, count * 2),
      zeros === null ? 0n : launcher.address('zeros of join-int4-scales', zeros, count / 2),
      launcher.address('out of join-int4-scales', args.out, count * WORD),
    )
    .ints(outputs, groups, ORDER[order], scaleType === 'f16' ? 1 : 0, zeroOffset);
  const grid = [Math.ceil(groups / WARP), Math.ceil(outputs / WARPS)] as const;
  launcher.launch('join_int4_scales', { grid, threads: THREADS }, block);
}
