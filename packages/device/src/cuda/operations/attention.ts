import { DeviceError } from '../../errors.ts';
import type { OpArgs } from '../../ops.ts';
import type { Launcher } from '../launch/launcher.ts';
import { launchDecodeAttention, launchVerifyAttention } from './attention-decode.ts';
import { launchPrefillAttention } from './attention-prefill.ts';

export function launchAttention(launcher: Launcher, args: OpArgs['attention']): void {
  const { heads, kvHeads, count, phase, lineKv } = args;
  if (heads % kvHeads !== 0) {
    throw new DeviceError('bad-argument', `${heads} heads cannot share ${kvHeads} KV heads evenly`);
  }
  if (args.kvFormat !== 'element' && !launcher.core.gpu.readsFp8) {
    const message = 'KV in FP8 needs a GPU of compute capability 8.9 (Ada) or newer';
    throw new DeviceError('unsupported', message);
  }
  if (count === 0) return;
  if (phase === 'prefill') launchPrefillAttention(launcher, args);
  else if (phase === 'verify' || lineKv === 'none') launchVerifyAttention(launcher, args);
  else launchDecodeAttention(launcher, args);
}
