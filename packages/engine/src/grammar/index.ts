export { compileGrammar } from './compile.ts';
export { ebnfGrammar } from './ebnf.ts';
export { GrammarError, type GrammarErrorCode } from './errors.ts';
export type { Expression, Grammar, Tag } from './expression.ts';
export { formatPattern } from './json-schema/formats.ts';
export { jsonObjectGrammar, schemaGrammar } from './json-schema/translate.ts';
export { regularExpression } from './regular-expression.ts';
