import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { ModelError } from '../models/errors.ts';
import type { ModelFiles } from '../models/files.ts';
import { type ChatInput, ChatTemplate } from './chat-template.ts';
import { type Detokenizer, TableDetokenizer, WindowedDetokenizer } from './detokenizer.ts';
import { TextError } from './errors.ts';
import { maxTokenBytes } from './token-bound.ts';
import { TokenTable, tableDecoder } from './token-table.ts';
import { readTokenizerFiles, type TokenizerFiles } from './tokenizer-files.ts';
import { encodeUtf8 } from './utf8.ts';

export interface TokenizerOptions {
  /** The date that templates see through strftime_now; without it that function is undefined. */
  readonly now?: (() => Date) | undefined;
}

export interface DetokenizerOptions {
  /** Leaves special tokens out. Default true. */
  readonly skipSpecialTokens?: boolean;
  /**
   * The text goes on from a prompt: a space at its start is kept where the decoder would strip one.
   * Default false.
   */
  readonly continues?: boolean;
}

const SPECIAL_TOKEN_KEYS = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
] as const;

/** A token of tokenizer_config.json: its content, or an object with it. */
function contentOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  const content = (value as { content?: unknown } | null | undefined)?.content;
  return typeof content === 'string' ? content : undefined;
}

function specialTokensOf(config: TokenizerFiles['config']): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const key of SPECIAL_TOKEN_KEYS) {
    const content = contentOf(config[key]);
    if (content !== undefined) tokens[key] = content;
  }
  return tokens;
}

function build({ tokenizer, config }: TokenizerFiles): HuggingFaceTokenizer {
  try {
    // Decoding is ours, except for unusual decoders, and never rewrites spaces.
    const options = { ...config, clean_up_tokenization_spaces: false };
    return new HuggingFaceTokenizer(tokenizer, options);
  } catch (error) {
    const reason = (error as Error).message;
    throw new ModelError('unsupported', `tokenizer.json cannot be used: ${reason}`);
  }
}

/** A model's text side: tokenizer.json, tokenizer_config.json and chat templates. */
export class Tokenizer {
  /** Templates of the model; `isPresent` says whether it has any. */
  readonly chatTemplate: ChatTemplate;
  /** One more than the largest id. */
  readonly vocabularySize: number;
  /** bos_token, eos_token and the like, by their keys in tokenizer_config.json. */
  readonly specialTokens: Readonly<Record<string, string>>;
  readonly #library: HuggingFaceTokenizer;
  readonly #table: TokenTable | undefined;
  readonly #specialIds: ReadonlySet<number>;
  readonly #json: TokenizerFiles['tokenizer'];
  #maxTokenBytes: number | undefined;

  constructor(files: TokenizerFiles, options: TokenizerOptions = {}) {
    const library = build(files);
    this.#library = library;
    this.#json = files.tokenizer;
    this.specialTokens = specialTokensOf(files.config);
    this.chatTemplate = new ChatTemplate({
      sources: files.templates,
      specialTokens: this.specialTokens,
      now: options.now,
    });
    const added = [...library.get_added_tokens_decoder().values()];
    this.vocabularySize = library.model?.vocab.length ?? 0;
    const decoder = tableDecoder(files.tokenizer.decoder);
    const vocabulary = {
      tokenString: (id: number) => library.id_to_token(id) ?? undefined,
      addedContents: new Set(added.map(({ content }) => content)),
    };
    const suffixed = Boolean(library.model?.end_of_word_suffix);
    this.#table =
      decoder === undefined || suffixed ? undefined : new TokenTable(vocabulary, decoder);
    this.#specialIds = specialIds(files, library);
  }

  /**
   * Token ids of `text`. Throws TextError `unencodable` where the vocabulary lacks a character of
   * it.
   */
  encode(text: string, addSpecialTokens: boolean): Uint32Array {
    const { ids } = this.#library.encode(text, { add_special_tokens: addSpecialTokens });
    if (ids.some((id: number) => !Number.isInteger(id))) {
      const reason = 'the text has characters that the vocabulary lacks, and no unknown token';
      throw new TextError('unencodable', reason);
    }
    return Uint32Array.from(ids);
  }

  /**
   * The text of a whole sequence. Bytes that are not UTF-8 become U+FFFD; ids outside the
   * vocabulary are nothing.
   */
  decode(ids: ArrayLike<number>, skipSpecialTokens: boolean): string {
    if (this.#table === undefined) return this.#decodeWhole(Array.from(ids), skipSpecialTokens);
    const detokenizer = this.detokenizer({ skipSpecialTokens });
    return detokenizer.push(ids) + detokenizer.finish();
  }

  /** A detokenizer for one request. */
  detokenizer(options: DetokenizerOptions = {}): Detokenizer {
    const { skipSpecialTokens = true, continues = false } = options;
    if (this.#table === undefined) {
      return new WindowedDetokenizer((ids) => this.#decodeWhole(ids, skipSpecialTokens));
    }
    const skipped = skipSpecialTokens ? this.#specialIds : undefined;
    return new TableDetokenizer(this.#table, skipped, continues);
  }

  /**
   * The bytes a token stands for: not always whole characters; none outside the vocabulary. Not to
   * be changed.
   */
  tokenBytes(id: number): Uint8Array {
    if (this.#table !== undefined) return this.#table.bytes(id);
    return encodeUtf8(this.#decodeWhole([id], false));
  }

  /** The id of a token's exact content, special tokens included. */
  tokenId(content: string): number | undefined {
    return this.#library.token_to_id(content);
  }

  isSpecial(id: number): boolean {
    return this.#specialIds.has(id);
  }

  /** No token stands for more bytes of text; infinite where nothing can be promised. */
  get maxTokenBytes(): number {
    this.#maxTokenBytes ??= maxTokenBytes(this.#json, this.#library.model?.vocab ?? []);
    return this.#maxTokenBytes;
  }

  /** The prompt that the model's chat template makes of a conversation. Throws TextError. */
  renderChat(input: ChatInput): string {
    return this.chatTemplate.render(input);
  }

  #decodeWhole(ids: readonly number[], skipSpecialTokens: boolean): string {
    const known = ids.filter((id) => this.#library.id_to_token(id) !== undefined);
    if (known.length === 0) return '';
    return this.#library.decode(known, { skip_special_tokens: skipSpecialTokens });
  }
}

function specialIds(files: TokenizerFiles, library: HuggingFaceTokenizer): ReadonlySet<number> {
  const ids = new Set<number>();
  for (const [id, token] of library.get_added_tokens_decoder()) if (token.special) ids.add(id);
  const additional = files.config.additional_special_tokens;
  for (const token of Array.isArray(additional) ? additional : []) {
    const id = library.token_to_id(contentOf(token) ?? '');
    if (id !== undefined) ids.add(id);
  }
  return ids;
}

/**
 * Reads the text side of a model. Throws ModelError where files are missing or cannot be
 * used.
 */
export async function openTokenizer(
  files: ModelFiles,
  options: TokenizerOptions = {},
): Promise<Tokenizer> {
  return new Tokenizer(await readTokenizerFiles(files), options);
}
