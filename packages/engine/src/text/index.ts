export type { Detokenizer } from './detokenizer.ts';
export { TextError } from './errors.ts';
export { StopMatcher } from './stop-matcher.ts';
export { openTokenizer, type Tokenizer } from './tokenizer.ts';
