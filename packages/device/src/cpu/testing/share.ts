import type { Share } from '../kernels/share.ts';

/** Everything, for one worker alone. */
export const WHOLE: Share = { part: 0, parts: 1 };
