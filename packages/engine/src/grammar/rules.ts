import type { Spending } from './budget.ts';
import { GrammarError } from './errors.ts';
import type { Expression, Grammar } from './expression.ts';

/** What is known about a grammar's rules before it is compiled. */
export interface RuleFacts {
  /** Rules that break every cycle of rules, and large ones that are used more than once. */
  readonly callable: ReadonlySet<string>;
  /** Those of them without which rules would be followed without end. */
  readonly recurring: ReadonlySet<string>;
  bodyOf(name: string): Expression;
  /** Whether it admits the empty text. */
  isNullable(expression: Expression): boolean;
  /** About how many positions it takes, with what it calls counted as one. */
  sizeOf(expression: Expression): number;
}

/** Expressions within expressions, or rules within rules. */
const MAX_NESTING = 500;
/** Rules of fewer positions are written out wherever they are used. */
const SHARED_POSITIONS = 12;
const MAX_SIZE = 1e9;

function thinkingOf({ thinking }: Grammar): Expression[] {
  if (thinking === undefined) return [];
  const { begin, body, end } = thinking;
  return begin === undefined ? [body, end] : [begin, body, end];
}

/**
 * Throws GrammarError 'unknown-rule', 'left-recursion', 'too-large' (nesting), and 'unsupported'
 * for rules that recur within an intersection, a difference or thinking.
 */
export function examineRules(grammar: Grammar, spending: Spending): RuleFacts {
  const roots = [grammar.root];
  const thinking = thinkingOf(grammar);
  roots.push(...thinking);

  const bodyOf = (name: string): Expression => {
    const body = grammar.rules.get(name);
    if (body === undefined) {
      throw new GrammarError('unknown-rule', `no rule of the grammar is called ${quote(name)}`);
    }
    return body;
  };

  // Depth first through all that is reachable. A rule met again within itself breaks a cycle.
  const order: string[] = [];
  const uses = new Map<string, number>();
  const open = new Set<string>();
  const recurring = new Set<string>();
  const seen = new Set<Expression>();
  const openBodies = new Set<Expression>();
  const explore = (expression: Expression, depth: number): void => {
    if (depth > MAX_NESTING) {
      throw new GrammarError('too-large', `the grammar nests deeper than ${MAX_NESTING}`);
    }
    if (expression.kind === 'rule') {
      const { name } = expression;
      const before = uses.get(name) ?? 0;
      uses.set(name, before + 1);
      if (open.has(name)) recurring.add(name);
      if (before > 0) return;
      open.add(name);
      const body = bodyOf(name);
      if (openBodies.has(body)) recurring.add(name);
      explore(body, depth + 1);
      open.delete(name);
      order.push(name);
    } else if (!seen.has(expression)) {
      seen.add(expression);
      spending.spend(1);
      openBodies.add(expression);
      for (const child of childrenOf(expression)) explore(child, depth + 1);
      openBodies.delete(expression);
    }
  };
  for (const root of roots) explore(root, 0);

  const nullable = nullableRules(order, bodyOf, spending);
  const isNullable = memoized((expression): boolean =>
    isNullableWith(nullable, expression, isNullable),
  );

  refuseLeftRecursion(order, bodyOf, isNullable);
  for (const regular of [...seen].filter(isRegularOnly)) {
    refuseRecursion(regular, `within an ${regular.kind}`, bodyOf);
  }
  for (const part of thinking) refuseRecursion(part, 'within thinking', bodyOf);

  const callable = new Set(recurring);
  const sizeOf = memoized((expression): number => {
    if (expression.kind !== 'rule') return sizeWith(expression, sizeOf);
    return callable.has(expression.name) ? 1 : sizeOf(bodyOf(expression.name));
  });
  // Innermost first, so that what is called within a rule no longer counts as its size.
  for (const name of order) {
    if ((uses.get(name) ?? 0) > 1 && sizeOf(bodyOf(name)) >= SHARED_POSITIONS) callable.add(name);
  }
  return { callable, recurring, bodyOf, isNullable, sizeOf };
}

function childrenOf(expression: Expression): readonly Expression[] {
  switch (expression.kind) {
    case 'text':
    case 'character':
    case 'token':
    case 'free':
    case 'rule':
      return [];
    case 'sequence':
    case 'intersection':
      return expression.parts;
    case 'choice':
      return expression.options;
    case 'repeat':
      return [expression.body];
    case 'difference':
      return [expression.body, expression.without];
  }
}

/** Names come from clients and are shown to them; not without bounds. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 60 ? `${name.slice(0, 60)}...` : name);
}

function isRegularOnly(expression: Expression): boolean {
  return expression.kind === 'intersection' || expression.kind === 'difference';
}

/** By identity: expressions are shared, and a tree of what is shared can be huge. */
function memoized<T>(compute: (expression: Expression) => T): (expression: Expression) => T {
  const known = new Map<Expression, T>();
  return (expression) => {
    const found = known.get(expression);
    if (found !== undefined) return found;
    const value = compute(expression);
    known.set(expression, value);
    return value;
  };
}

function nullableRules(
  order: readonly string[],
  bodyOf: (name: string) => Expression,
  spending: Spending,
): ReadonlySet<string> {
  const nullable = new Set<string>();
  for (let before = -1; before < nullable.size; ) {
    before = nullable.size;
    const isNullable = memoized((of): boolean => isNullableWith(nullable, of, isNullable));
    for (const name of order) if (isNullable(bodyOf(name))) nullable.add(name);
    spending.spend(order.length);
  }
  return nullable;
}

function isNullableWith(
  rules: ReadonlySet<string>,
  expression: Expression,
  isNullable: (expression: Expression) => boolean,
): boolean {
  switch (expression.kind) {
    case 'text':
      return expression.text === '';
    case 'character':
    case 'token':
      return false;
    case 'free':
      return true;
    case 'sequence':
    case 'intersection':
      return expression.parts.every(isNullable);
    case 'choice':
      return expression.options.some(isNullable);
    case 'repeat':
      return expression.min === 0 || isNullable(expression.body);
    case 'rule':
      return rules.has(expression.name);
    case 'difference':
      return isNullable(expression.body) && !isNullable(expression.without);
  }
}

function refuseLeftRecursion(
  order: readonly string[],
  bodyOf: (name: string) => Expression,
  isNullable: (expression: Expression) => boolean,
): void {
  const firsts = new Map(order.map((name) => [name, firstRules(bodyOf(name), isNullable)]));
  const done = new Set<string>();
  const open = new Set<string>();
  const visit = (name: string): void => {
    if (open.has(name)) {
      const cycle = [...open].slice([...open].indexOf(name));
      throw new GrammarError(
        'left-recursion',
        `rule ${cycle.map(quote).join(', which can begin with ')} can begin with itself: ` +
          'write it as a repeat, or with the recursion at its end',
      );
    }
    if (done.has(name)) return;
    open.add(name);
    for (const first of firsts.get(name) ?? []) visit(first);
    open.delete(name);
    done.add(name);
  };
  for (const name of order) visit(name);
}

/** The rules with which a text of the expression can begin. */
function firstRules(
  root: Expression,
  isNullable: (expression: Expression) => boolean,
): ReadonlySet<string> {
  const rules = new Set<string>();
  const seen = new Set<Expression>();
  const visit = (expression: Expression): void => {
    if (seen.has(expression)) return;
    seen.add(expression);
    if (expression.kind === 'rule') rules.add(expression.name);
    if (expression.kind === 'sequence') {
      for (const part of expression.parts) {
        visit(part);
        if (!isNullable(part)) break;
      }
    } else {
      for (const child of childrenOf(expression)) visit(child);
    }
  };
  visit(root);
  return rules;
}

function refuseRecursion(
  root: Expression,
  where: string,
  bodyOf: (name: string) => Expression,
): void {
  const open = new Set<string>();
  const done = new Set<Expression>();
  const visit = (expression: Expression): void => {
    if (expression.kind !== 'rule') {
      if (done.has(expression)) return;
      for (const child of childrenOf(expression)) visit(child);
      done.add(expression);
      return;
    }
    const { name } = expression;
    if (open.has(name)) {
      throw new GrammarError('unsupported', `rule ${quote(name)} recurs ${where}`);
    }
    open.add(name);
    visit(bodyOf(name));
    open.delete(name);
  };
  visit(root);
}

function sizeWith(expression: Expression, sizeOf: (expression: Expression) => number): number {
  const all = (parts: readonly Expression[]) =>
    Math.min(
      MAX_SIZE,
      parts.reduce((sum, part) => sum + sizeOf(part), 0),
    );
  switch (expression.kind) {
    case 'text':
      return expression.text.length;
    case 'character':
      return 1 + Math.floor(expression.ranges.length / 4);
    case 'token':
    case 'rule':
      return 4;
    case 'free':
      return 12 + all(expression.tags);
    case 'sequence':
    case 'intersection':
      return all(expression.parts);
    case 'choice':
      return all(expression.options);
    case 'repeat': {
      const copies = Math.max(1, expression.max ?? expression.min);
      return Math.min(MAX_SIZE, copies * sizeOf(expression.body));
    }
    case 'difference':
      return all([expression.body, expression.without]);
  }
}
