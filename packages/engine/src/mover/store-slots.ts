import type { PartSize, SlotCounts } from './part-places.ts';

/** What contexts are expected to be like. */
export interface UsualContexts {
  readonly pageTokens: number;
  /** Of one of middling length. */
  readonly contextTokens: number;
  /** Pages that a whole window takes; 0: the model has no pool of windows. */
  readonly windowPages: number;
}

/** Prefixes that end closer to each other are computed about as soon as a state is brought. */
const STATE_TOKENS = 256;
/** Of a store's bytes at most, as of the device's: without pages of contexts states are no use. */
const STATE_SHARE = 1 / 4;

/**
 * How the bytes of a store are divided, for host memory and disk alike and by the rules that the
 * device's are divided by: for each context of middling length there is one window, so that it can
 * be gone on from at its end, and for each `STATE_TOKENS` one state, as long as states take no more
 * than their share.
 */
export function slotsOf(
  storeBytes: number,
  parts: readonly PartSize[],
  usual: UsualContexts,
): SlotCounts {
  const bytesOf = (name: PartSize['part']) => parts.find(({ part }) => part === name)?.bytes ?? 0;
  const { pageTokens, contextTokens, windowPages } = usual;
  const contextPages = Math.ceil(contextTokens / pageTokens);
  // For each page of contexts, of which never more than one of each is the part.
  const windows = bytesOf('window') === 0 ? 0 : Math.min(1, windowPages / contextPages);
  const whole = bytesOf('context') + windows * bytesOf('window');
  const stateBytes = Math.min(
    Math.min(1, pageTokens / STATE_TOKENS) * bytesOf('state'),
    (whole * STATE_SHARE) / (1 - STATE_SHARE),
  );
  const context = Math.floor(storeBytes / (whole + stateBytes));
  const slots = { context, window: 0, state: 0 };
  if (bytesOf('window') > 0) slots.window = Math.floor(context * windows);
  if (bytesOf('state') > 0) slots.state = Math.floor((context * stateBytes) / bytesOf('state'));
  return Object.fromEntries(parts.map(({ part }) => [part, slots[part]]));
}
