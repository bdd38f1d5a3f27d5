import type { Expression, Grammar } from '../expression.ts';

/** Merging rules can make others equal; what takes more rounds than this is rare. */
const MAX_ROUNDS = 6;

/**
 * The same grammar with one rule where several say the same: schemas repeat themselves, and what is
 * one rule is compiled once, and told apart from nothing.
 */
export function mergeEqualRules({ root, rules }: Grammar): Grammar {
  /** By name of a rule: the rule that says the same. */
  const same = new Map<string, string>();
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const idOf = identities(same);
    const first = new Map<number, string>();
    const before = same.size;
    for (const [name, body] of rules) {
      if (same.has(name)) continue;
      const id = idOf(body);
      const other = first.get(id);
      if (other === undefined) first.set(id, name);
      else same.set(name, other);
    }
    if (same.size === before) break;
  }
  const rewrite = rewriter(same);
  const kept = [...rules].filter(([name]) => !same.has(name));
  return { root: rewrite(root), rules: new Map(kept.map(([name, of]) => [name, rewrite(of)])) };
}

function resolved(name: string, same: ReadonlyMap<string, string>): string {
  let at = name;
  for (let next = same.get(at); next !== undefined; next = same.get(at)) at = next;
  return at;
}

/** Numbers of expressions: equal ones have the same. */
function identities(same: ReadonlyMap<string, string>): (expression: Expression) => number {
  const known = new Map<Expression, number>();
  const ids = new Map<string, number>();
  const idOf = (expression: Expression): number => {
    const found = known.get(expression);
    if (found !== undefined) return found;
    const key = keyOf(expression);
    const id = ids.get(key) ?? ids.size;
    ids.set(key, id);
    known.set(expression, id);
    return id;
  };
  const all = (expressions: readonly Expression[]) => expressions.map(idOf).join(' ');
  const keyOf = (expression: Expression): string => {
    switch (expression.kind) {
      case 'text':
        return `text ${expression.text}`;
      case 'character':
        return `character ${expression.ranges.join(' ')}`;
      case 'sequence':
        return `sequence ${all(expression.parts)}`;
      case 'choice':
        return `choice ${all(expression.options)}`;
      case 'repeat':
        return `repeat ${expression.min} ${expression.max} ${idOf(expression.body)}`;
      case 'rule':
        return `rule ${resolved(expression.name, same)}`;
      case 'token':
        return `token ${expression.id}`;
      case 'intersection':
        return `intersection ${all(expression.parts)}`;
      case 'difference':
        return `difference ${all([expression.body, expression.without])}`;
      case 'free':
        return `free ${all(expression.tags)}`;
    }
  };
  return idOf;
}

/** Expressions with the rules that are kept; what is shared stays so. */
function rewriter(same: ReadonlyMap<string, string>): (expression: Expression) => Expression {
  const known = new Map<Expression, Expression>();
  const rewrite = (expression: Expression): Expression => {
    const found = known.get(expression) ?? rewriteOne(expression);
    known.set(expression, found);
    return found;
  };
  const rewriteOne = (expression: Expression): Expression => {
    switch (expression.kind) {
      case 'sequence':
        return { kind: 'sequence', parts: expression.parts.map(rewrite) };
      case 'choice':
        return { kind: 'choice', options: expression.options.map(rewrite) };
      case 'repeat':
        return { ...expression, body: rewrite(expression.body) };
      case 'rule':
        return { kind: 'rule', name: resolved(expression.name, same) };
      default:
        // Of the rest, those that can have rules within are of strings here, and have none.
        return expression;
    }
  };
  return same.size === 0 ? (expression) => expression : rewrite;
}
