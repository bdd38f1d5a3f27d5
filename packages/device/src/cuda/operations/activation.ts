import type { OpArgs } from '../../ops.ts';
import type { KernelDefines } from '../kernels/kernel-source.ts';

/** Where a gate is not silu, what kernels that gate are compiled for, too. */
export function activationDefine({ epilogue, activation }: OpArgs['linear']): KernelDefines {
  return epilogue === 'gate' && activation === 'gelu-tanh' ? { GELU: 1 } : {};
}
