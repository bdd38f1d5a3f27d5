import { ConfigReader } from '../models/config-reader.ts';
import type { AddedToken } from './pipeline/added-tokens.ts';
import { MAX_TOKENS, type Vocabulary } from './pipeline/vocabulary.ts';

/** What tokenizer_config.json and special_tokens_map.json say of special tokens. */
export interface SpecialTokens {
  /** By their keys, `bos_token` and the like; names of their own from `extra_special_tokens`. */
  readonly named: Readonly<Record<string, string>>;
  /** All of them, as they are described. */
  readonly described: readonly ConfigReader[];
}

const NAMES = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
] as const;
const LISTS = ['additional_special_tokens', 'extra_special_tokens'] as const;

/** A token as a text, or as an object with its content. */
function describedBy(value: unknown, where: string): ConfigReader | undefined {
  if (typeof value === 'string') return new ConfigReader({ content: value }, where);
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  const described = isObject ? new ConfigReader(value, where) : undefined;
  return typeof described?.get('content') === 'string' ? described : undefined;
}

/** tokenizer_config.json wins; special_tokens_map.json says what it leaves out. */
export function specialTokensOf(
  config: ConfigReader,
  map: Readonly<Record<string, unknown>> = {},
): SpecialTokens {
  const fallback = new ConfigReader(map, 'special_tokens_map.json');
  const named: Record<string, string> = {};
  const described: ConfigReader[] = [];
  const add = (value: unknown, where: string, name?: string) => {
    const token = describedBy(value, where);
    if (token === undefined) return;
    described.push(token);
    if (name !== undefined) named[name] = token.text('content');
  };
  for (const name of NAMES) add(config.get(name) ?? fallback.get(name), name, name);
  for (const key of LISTS) {
    const list = config.get(key) ?? fallback.get(key);
    if (Array.isArray(list)) for (const value of list) add(value, key);
    else if (typeof list === 'object' && list !== null) {
      for (const [name, value] of Object.entries(list)) add(value, key, name);
    }
  }
  return { named, described };
}

/** A token of `added_tokens`, or one that is only named to be special. */
function addedToken(token: ConfigReader, id: number, special: boolean): AddedToken {
  return {
    id,
    content: token.text('content'),
    singleWord: token.boolean('single_word', false),
    leftStrip: token.boolean('lstrip', false),
    rightStrip: token.boolean('rstrip', false),
    normalized: token.boolean('normalized', !special),
    special,
  };
}

/**
 * tokenizer.json's added tokens, and those of the model's vocabulary that are named as special
 * tokens: these are special, and found in text, even where `added_tokens` does not say so. Throws
 * ModelError.
 */
export function addedTokensOf(
  json: ConfigReader,
  vocabulary: Vocabulary,
  { described }: SpecialTokens,
): AddedToken[] {
  const list = json.get('added_tokens') ?? [];
  if (!Array.isArray(list)) throw json.error('malformed', 'added_tokens', 'must be a list');
  const specials = new Map(described.map((token) => [token.text('content'), token]));
  const tokens = list.map((entry, index) => {
    const token = new ConfigReader(entry, `tokenizer.json: added_tokens[${index}]`);
    const id = token.integer('id', 0);
    if (id >= MAX_TOKENS) throw token.error('malformed', 'id', `must be below ${MAX_TOKENS}`);
    const read = addedToken(token, id, token.boolean('special', false));
    return specials.delete(read.content) ? { ...read, special: true } : read;
  });
  for (const [content, token] of specials) {
    const id = vocabulary.idOf(content);
    if (id !== undefined) tokens.push(addedToken(token, id, true));
  }
  return tokens;
}
