export { GRAMMAR_BUDGET, type GrammarBudget } from './budget.ts';
export { compileGrammar } from './compile.ts';
export { ebnfGrammar } from './ebnf.ts';
export { GrammarError, type GrammarErrorCode } from './errors.ts';
export type { CodePointRange, Expression, Grammar, Tag } from './expression.ts';
export { jsonObjectGrammar, schemaGrammar } from './json-schema/translate.ts';
export { regularExpression } from './regular-expression.ts';
