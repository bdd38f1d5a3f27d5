import type { CodePointRange, Expression } from '../expression.ts';

/** Short ways to write expressions, with the simplest expression of the same meaning. */

export const NOTHING: Expression = { kind: 'text', text: '' };
/** What no text fulfils. */
export const IMPOSSIBLE: Expression = { kind: 'choice', options: [] };

export function text(value: string): Expression {
  return { kind: 'text', text: value };
}

export function character(...ranges: readonly CodePointRange[]): Expression {
  return { kind: 'character', ranges };
}

/** One of the characters of `members`. */
export function oneOf(members: string): Expression {
  return character(
    ...[...members].map((member): CodePointRange => [pointOf(member), pointOf(member)]),
  );
}

/** From one character to another. */
export function between(first: string, last: string): Expression {
  return character([pointOf(first), pointOf(last)]);
}

export function sequence(...parts: readonly Expression[]): Expression {
  const real = parts.flatMap((part) => (part.kind === 'sequence' ? part.parts : [part]));
  const some = real.filter((part) => part.kind !== 'text' || part.text !== '');
  const [only] = some;
  if (only === undefined) return NOTHING;
  if (some.some(isImpossible)) return IMPOSSIBLE;
  return some.length === 1 ? only : { kind: 'sequence', parts: some };
}

export function choice(...options: readonly Expression[]): Expression {
  const real = options.flatMap((option) => (option.kind === 'choice' ? option.options : [option]));
  const distinct = [...new Set(real)];
  const [only] = distinct;
  return only !== undefined && distinct.length === 1 ? only : { kind: 'choice', options: distinct };
}

/** `max` undefined: without end. */
export function repeat(body: Expression, min: number, max: number | undefined): Expression {
  if (max === 0 || (min === 0 && isImpossible(body))) return NOTHING;
  if (min === 1 && max === 1) return body;
  return { kind: 'repeat', body, min, max };
}

export function optional(body: Expression): Expression {
  return isImpossible(body) ? NOTHING : repeat(body, 0, 1);
}

export function isImpossible(expression: Expression): boolean {
  return expression.kind === 'choice' && expression.options.length === 0;
}

export function intersection(...parts: readonly Expression[]): Expression {
  const [only] = parts;
  return only !== undefined && parts.length === 1 ? only : { kind: 'intersection', parts };
}

export function difference(body: Expression, without: Expression): Expression {
  return isImpossible(without) ? body : { kind: 'difference', body, without };
}

function pointOf(value: string): number {
  return value.codePointAt(0) ?? 0;
}
