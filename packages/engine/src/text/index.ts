export type { Detokenizer } from './detokenizer.ts';
export { TextError } from './errors.ts';
export { Dict, type Value as TemplateValue } from './jinja/values.ts';
export { exactJson, JsonError, readJsonValue } from './json.ts';
export { StopMatcher } from './stop-matcher.ts';
export { openTokenizer, type Tokenizer } from './tokenizer.ts';
