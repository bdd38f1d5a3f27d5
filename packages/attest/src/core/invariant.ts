/** Its own, not that of another package: a client needs nothing of ours but this one. */
class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

/** Throws `InvariantError` unless a promise of our own code holds; stays on in production. */
export function invariant(holds: boolean, promise: string): asserts holds {
  if (!holds) throw new InvariantError(promise);
}
