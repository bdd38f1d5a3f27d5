/**
 * Speculation by n-gram: what followed the last tokens of a row when they occurred before is
 * drafted as what follows now.
 */
export interface NgramOptions {
  /** Tokens drafted for a row and step: 1 to MAX_DRAFTS. */
  readonly drafts: number;
  /** By how many tokens a place is found: 1 to MAX_LOOKUP. */
  readonly lookupMin: number;
  readonly lookupMax: number;
  /** Every step that can have drafts has them, whether that pays or not: for measurements. */
  readonly always?: true | undefined;
  /**
   * Of a simulation, whose texts are made up: the chance that a draft is right when all before it
   * were. Absent: it is learnt from the text.
   */
  readonly chance?: number | undefined;
}
