/**
 * What a text may look like, before it is made into tables that a device steps through: the one
 * language that JSON schemas, regular expressions, grammars, choices and formats of tool calls are
 * translated to. Over characters and control tokens; `compile.ts` lowers it to bytes.
 */
export type Expression =
  /** Exactly this text. */
  | { readonly kind: 'text'; readonly text: string }
  /** One character in one of the ranges of code points, both ends included. */
  | { readonly kind: 'character'; readonly ranges: readonly CodePointRange[] }
  | { readonly kind: 'sequence'; readonly parts: readonly Expression[] }
  | { readonly kind: 'choice'; readonly options: readonly Expression[] }
  /** `max` undefined: without end. */
  | {
      readonly kind: 'repeat';
      readonly body: Expression;
      readonly min: number;
      readonly max: number | undefined;
    }
  /** A rule of the grammar, by name; rules may refer to each other and to themselves. */
  | { readonly kind: 'rule'; readonly name: string }
  /** A control token, which is no text: only this id, whatever its string. */
  | { readonly kind: 'token'; readonly id: number }
  /** What every one of `parts` admits. The parts refer to no rules that recur. */
  | { readonly kind: 'intersection'; readonly parts: readonly Expression[] }
  /** What `body` admits and `without` does not. Neither refers to rules that recur. */
  | { readonly kind: 'difference'; readonly body: Expression; readonly without: Expression }
  /** Any text, also none, in which none of the tags occurs. Other control tokens may. */
  | { readonly kind: 'free'; readonly tags: readonly Tag[] };

export type CodePointRange = readonly [first: number, last: number];

/** What ends free text: a text, or a control token. */
export type Tag = Extract<Expression, { kind: 'text' | 'token' }>;

/** A whole grammar: what one answer may be, from its first token to its end. */
export interface Grammar {
  readonly root: Expression;
  readonly rules: ReadonlyMap<string, Expression>;
  /**
   * What comes before `root`: `begin`, which counts for nothing and is never broken off; `body`,
   * whose tokens count against the request's thinking budget; and then `end`, to which the row is
   * forced when the budget is used up.
   */
  readonly thinking?: {
    readonly begin?: Expression | undefined;
    readonly body: Expression;
    readonly end: Expression;
  };
}
