/** One call on a register, as its caller saw it. Times are of one clock. */
export interface RegisterCall {
  readonly kind: 'write' | 'read';
  /** What was written, or what was read. */
  readonly value: string;
  readonly invokedMs: number;
  /** Null: no answer came. A write may have happened then, at any time after, or never. */
  readonly returnedMs: number | null;
}

/**
 * Whether calls on one register, which had `initial`, can be put into one order that agrees with
 * what they answered and with which of them were over before others began (Wing and Gong's search,
 * with what was tried remembered). Histories are to be short: a few hundred calls, few at a time.
 */
export function isLinearizable(initial: string, calls: readonly RegisterCall[]): boolean {
  const all = calls
    .filter(({ kind, returnedMs }) => kind === 'write' || returnedMs !== null)
    .map((call) => ({ ...call, endMs: call.returnedMs ?? Number.POSITIVE_INFINITY }))
    .toSorted((one, other) => one.invokedMs - other.invokedMs);
  const done = new Set<number>();
  const tried = new Set<string>();
  const search = (value: string): boolean => {
    const left = all.flatMap((call, index) => (done.has(index) ? [] : [{ call, index }]));
    const firstEndMs = Math.min(...left.map(({ call }) => call.endMs));
    // Those without an answer need not have happened.
    if (firstEndMs === Number.POSITIVE_INFINITY) return true;
    const key = `${value} ${left.map(({ index }) => index).join()}`;
    if (tried.has(key)) return false;
    tried.add(key);
    for (const { call, index } of left) {
      // It began after another was over that is not in order yet.
      if (call.invokedMs > firstEndMs) break;
      if (call.kind === 'read' && call.value !== value) continue;
      done.add(index);
      if (search(call.kind === 'write' ? call.value : value)) return true;
      done.delete(index);
    }
    return false;
  };
  return search(initial);
}
