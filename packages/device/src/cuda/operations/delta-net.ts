import { DeviceError } from '../../errors.ts';
import type { OpArgs, RowStates } from '../../ops.ts';
import type { Launcher } from '../launch/launcher.ts';
import type { ParameterBlock } from '../launch/parameters.ts';
import { lineThreads } from './linear-operations.ts';

const E = 2;
const WORD = 4;
const THREADS = 128;
/** As delta-net.cu has them. */
const TAPS = 4;
const COLUMNS = 32;
const RULE_THREADS = 128;
const MAX_KEY_DIM = 256;

/** Appends struct Rows of delta-net.cu, where a layer's state of a row takes `bytes`. */
function rowsParameters(
  launcher: Launcher,
  block: ParameterBlock,
  { states, rowBytes, layerBytes, tokenRows, positions, count, isTrial }: RowStates,
  bytes: number,
): ParameterBlock {
  if (layerBytes + bytes > rowBytes) {
    const what = `a state of ${bytes} bytes from byte ${layerBytes} on`;
    throw new DeviceError('bad-argument', `${what} is not within the ${rowBytes} bytes of a row`);
  }
  const address = launcher.address('states of rows', states, 0);
  return block
    .pointers(address)
    .longs(rowBytes, layerBytes)
    .pointers(
      launcher.address('tokenRows of states', tokenRows, count * WORD),
      launcher.address('positions of states', positions, count * WORD),
    )
    .ints(count, Math.floor(states.bytes / rowBytes), isTrial ? 1 : 0, 0);
}

export function launchCausalConv(launcher: Launcher, args: OpArgs['causal-conv']): void {
  const { count, stride, channels } = args;
  const start = launcher.parameters.pointers(
    launcher.address('lines of causal-conv', args.lines, count * stride * E),
    launcher.address('weight of causal-conv', args.weight, channels * TAPS * E),
    launcher.address('out of causal-conv', args.out, count * channels * E),
  );
  const stateBytes = (TAPS - 1) * channels * E;
  const block = rowsParameters(launcher, start, args, stateBytes).ints(stride, channels);
  const grid = [Math.ceil(channels / THREADS), count] as const;
  launcher.launch('causal_conv', { grid, threads: THREADS }, block);
}

export function launchDeltaRule(launcher: Launcher, args: OpArgs['delta-rule']): void {
  const { count, keyHeads, valueHeads, keyDim, valueDim } = args;
  if (keyDim % 32 !== 0 || keyDim < 32 || keyDim > MAX_KEY_DIM) {
    const message = `keys of ${keyDim}: this device takes multiples of 32 up to ${MAX_KEY_DIM}`;
    throw new DeviceError('unsupported', message);
  }
  if (valueHeads % keyHeads !== 0) {
    const message = `${valueHeads} value heads cannot share ${keyHeads} key heads evenly`;
    throw new DeviceError('bad-argument', message);
  }
  const width = 2 * keyHeads * keyDim + valueHeads * valueDim;
  const start = launcher.parameters.pointers(
    launcher.address('mixed of delta-rule', args.mixed, count * width * E),
    launcher.address('gates of delta-rule', args.gates, count * 2 * valueHeads * E),
    launcher.address('decayLog of delta-rule', args.decayLog, valueHeads * WORD),
    launcher.address('stepBias of delta-rule', args.stepBias, valueHeads * WORD),
    launcher.address('out of delta-rule', args.out, count * valueHeads * valueDim * E),
  );
  const stateBytes = valueHeads * keyDim * valueDim * WORD;
  const block = rowsParameters(launcher, start, args, stateBytes);
  block.ints(keyHeads, valueHeads, valueDim);
  const grid = [Math.ceil(valueDim / COLUMNS), valueHeads, count] as const;
  launcher.launch('delta_rule', { grid, threads: RULE_THREADS }, block, { KEY_DIM: keyDim });
}

export function launchGatedNorm(launcher: Launcher, args: OpArgs['gated-norm']): void {
  const { count, stride, first, heads, width, epsilon } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('lines of gated-norm', args.lines, count * stride * E),
      launcher.address('norm of gated-norm', args.norm, width * E),
      launcher.address('out of gated-norm', args.out, count * heads * width * E),
    )
    .ints(stride, first, heads, width)
    .floats(epsilon);
  const threads = lineThreads(width * 4);
  launcher.launch('gated_norm', { grid: [heads, count], threads }, block);
}
