import type { ArithmeticOperator, ComparisonOperator } from './operators.ts';
import type { Value } from './values.ts';

export interface CallArguments {
  readonly positional: readonly Expression[];
  readonly named: readonly (readonly [string, Expression])[];
  /** `*values` */
  readonly spread: Expression | undefined;
  /** `**values` */
  readonly namedSpread: Expression | undefined;
}

export interface SliceNode {
  readonly kind: 'slice';
  readonly start: Expression | undefined;
  readonly stop: Expression | undefined;
  readonly step: Expression | undefined;
}

export type Expression =
  | { readonly kind: 'constant'; readonly value: Value }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'tuple' | 'list'; readonly items: readonly Expression[] }
  | { readonly kind: 'dict'; readonly entries: readonly (readonly [Expression, Expression])[] }
  | { readonly kind: 'attribute'; readonly value: Expression; readonly name: string }
  | { readonly kind: 'item'; readonly value: Expression; readonly key: Expression | SliceNode }
  | { readonly kind: 'call'; readonly callee: Expression; readonly args: CallArguments }
  | Filtered
  | {
      readonly kind: 'test';
      readonly value: Expression;
      readonly name: string;
      readonly args: CallArguments;
    }
  | { readonly kind: 'not' | 'negative' | 'positive'; readonly value: Expression }
  | {
      readonly kind: 'arithmetic';
      readonly operator: ArithmeticOperator;
      readonly left: Expression;
      readonly right: Expression;
    }
  | { readonly kind: 'and' | 'or'; readonly left: Expression; readonly right: Expression }
  | {
      readonly kind: 'compare';
      readonly left: Expression;
      readonly rest: readonly (readonly [ComparisonOperator, Expression])[];
    }
  | { readonly kind: 'concatenate'; readonly items: readonly Expression[] }
  | {
      readonly kind: 'conditional';
      readonly test: Expression;
      readonly then: Expression;
      readonly otherwise: Expression | undefined;
    };

/** `value` is undefined for the innermost filter of a block: it takes the block's text. */
export interface Filtered {
  readonly kind: 'filter';
  readonly value: Expression | undefined;
  readonly name: string;
  readonly args: CallArguments;
}

/** What is assigned to: a name, an attribute of a namespace, or several. */
export type Target =
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'namespace'; readonly name: string; readonly attribute: string }
  | { readonly kind: 'tuple'; readonly items: readonly Target[] };

export type Body = readonly Statement[];

export interface Parameter {
  readonly name: string;
  readonly otherwise: Expression | undefined;
}

export interface MacroNode {
  readonly kind: 'macro';
  readonly name: string;
  readonly parameters: readonly Parameter[];
  readonly body: Body;
  /** Which of these the body names: a macro takes only arguments that it uses. */
  readonly uses: ReadonlySet<'caller' | 'kwargs' | 'varargs'>;
}

export interface ForNode {
  readonly kind: 'for';
  readonly target: Target;
  readonly iterable: Expression;
  readonly test: Expression | undefined;
  readonly isRecursive: boolean;
  readonly body: Body;
  readonly otherwise: Body;
}

export type Statement =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'print'; readonly value: Expression }
  | {
      readonly kind: 'if';
      readonly branches: readonly { readonly test: Expression; readonly body: Body }[];
      readonly otherwise: Body;
    }
  | ForNode
  | { readonly kind: 'set'; readonly target: Target; readonly value: Expression }
  | {
      readonly kind: 'set-block';
      readonly target: Target;
      readonly filter: Filtered | undefined;
      readonly body: Body;
    }
  | MacroNode
  | { readonly kind: 'call-block'; readonly call: Expression; readonly caller: MacroNode }
  | { readonly kind: 'filter-block'; readonly filter: Filtered; readonly body: Body }
  | {
      readonly kind: 'with';
      readonly targets: readonly (readonly [Target, Expression])[];
      readonly body: Body;
    }
  /** `{% block %}` and `{% generation %}`: text in a scope of its own. */
  | { readonly kind: 'block'; readonly isScoped: boolean; readonly body: Body }
  | { readonly kind: 'break' | 'continue' }
  /** What needs other templates or escaping: an error once it is reached. */
  | { readonly kind: 'refused'; readonly tag: string };
