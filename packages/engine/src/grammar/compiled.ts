/** A grammar as devices step it (`grammar-layout.ts` of the device package). Crosses threads. */
export interface CompiledGrammar {
  /** Names its words: equal digests, equal words. */
  readonly digest: string;
  /** In shared memory, so that it crosses threads without being copied. Nobody changes them. */
  readonly words: Uint32Array;
}
