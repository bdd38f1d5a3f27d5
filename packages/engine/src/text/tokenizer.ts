import { ConfigReader } from '../models/config-reader.ts';
import type { ModelFiles } from '../models/files.ts';
import { type ChatInput, ChatTemplate } from './chat-template.ts';
import { type Detokenizer, TableDetokenizer, WindowedDetokenizer } from './detokenizer.ts';
import { TextError } from './errors.ts';
import { type Decode, decoderOf } from './pipeline/decoders.ts';
import { TextPipeline } from './pipeline/pipeline.ts';
import { adjustedFrame, type EndToken, type Frame, frameOf } from './pipeline/post-processor.ts';
import { addedTokensOf, type SpecialTokens, specialTokensOf } from './special-tokens.ts';
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
   * The tokens that the text goes on from. A space at its start is then kept where the decoder
   * would strip one, and a character that these tokens begin is the first of the text.
   */
  readonly after?: ArrayLike<number> | undefined;
}

const NO_IDS: ReadonlySet<number> = new Set();

/** What tokenizer_config.json says under `add_bos_token` or `add_eos_token`. */
function endToken(
  config: ConfigReader,
  name: 'bos' | 'eos',
  specials: SpecialTokens,
  idOf: (content: string) => number | undefined,
): EndToken | undefined {
  const key = `add_${name}_token`;
  if (config.get(key) === undefined) return undefined;
  const wanted = config.boolean(key, false);
  const id = idOf(specials.named[`${name}_token`] ?? '');
  if (id === undefined && wanted) {
    throw config.error('inconsistent', key, `is true, but the vocabulary has no ${name}_token`);
  }
  return id === undefined ? undefined : { wanted, id };
}

/** A model's text side: tokenizer.json, tokenizer_config.json and chat templates. */
export class Tokenizer {
  /** Templates of the model; `isPresent` says whether it has any. */
  readonly chatTemplate: ChatTemplate;
  /** One more than the largest id. */
  readonly vocabularySize: number;
  /** bos_token, eos_token and the like, by their keys in tokenizer_config.json. */
  readonly specialTokens: Readonly<Record<string, string>>;
  readonly #pipeline: TextPipeline;
  readonly #frame: Frame;
  readonly #table: TokenTable | undefined;
  readonly #decode: Decode;
  readonly #specialIds: ReadonlySet<number>;
  readonly #addedIds: ReadonlyMap<string, number>;
  readonly #json: TokenizerFiles['tokenizer'];
  #maxTokenBytes: number | undefined;

  /** Throws ModelError. */
  constructor(files: TokenizerFiles, options: TokenizerOptions = {}) {
    const json = new ConfigReader(files.tokenizer, 'tokenizer.json');
    const config = new ConfigReader(files.config, 'tokenizer_config.json');
    const specials = specialTokensOf(config, files.specialTokensMap);
    this.#pipeline = new TextPipeline(json, (model) => addedTokensOf(json, model, specials));
    const idOf = (content: string) => this.#pipeline.idOf(content);
    this.#frame = adjustedFrame(frameOf(json.object('post_processor')), {
      bos: endToken(config, 'bos', specials, idOf),
      eos: endToken(config, 'eos', specials, idOf),
    });
    this.#json = files.tokenizer;
    this.specialTokens = specials.named;
    this.chatTemplate = new ChatTemplate({
      sources: files.templates,
      specialTokens: this.specialTokens,
      now: options.now,
    });
    const { strings, addedTokens } = this.#pipeline;
    this.vocabularySize = strings.length;
    this.#decode = decoderOf(json.object('decoder'));
    const decoder = tableDecoder(files.tokenizer.decoder);
    const vocabulary = {
      tokenString: (id: number) => strings[id],
      addedContents: new Set(addedTokens.map(({ content }) => content)),
    };
    this.#table = decoder === undefined ? undefined : new TokenTable(vocabulary, decoder);
    this.#addedIds = new Map(addedTokens.map(({ content, id }) => [content, id]));
    this.#specialIds = new Set(addedTokens.filter(({ special }) => special).map(({ id }) => id));
  }

  /**
   * Token ids of `text`. Throws TextError `unencodable` where the vocabulary lacks a character of
   * it.
   */
  encode(text: string, addSpecialTokens: boolean): Uint32Array {
    const ids = this.#pipeline.encode(text);
    if (ids === undefined) {
      const reason = 'the text has characters that the vocabulary lacks, and no unknown token';
      throw new TextError('unencodable', reason);
    }
    if (!addSpecialTokens) return Uint32Array.from(ids);
    const { before, after } = this.#frame;
    const framed = new Uint32Array(before.length + ids.length + after.length);
    framed.set(before);
    framed.set(ids, before.length);
    framed.set(after, before.length + ids.length);
    return framed;
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
    const { skipSpecialTokens = true, after } = options;
    if (this.#table === undefined) {
      return new WindowedDetokenizer((ids) => this.#decodeWhole(ids, skipSpecialTokens), after);
    }
    const skipped = skipSpecialTokens ? this.#specialIds : undefined;
    return new TableDetokenizer(this.#table, skipped, after);
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
    return this.#pipeline.idOf(content);
  }

  /** The id of an added token: what is spelled like it in a text becomes it. */
  addedTokenId(content: string): number | undefined {
    return this.#addedIds.get(content);
  }

  isSpecial(id: number): boolean {
    return this.#specialIds.has(id);
  }

  /** No token stands for more bytes of text; infinite where nothing can be promised. */
  get maxTokenBytes(): number {
    this.#maxTokenBytes ??= maxTokenBytes(this.#json, this.#pipeline.strings);
    return this.#maxTokenBytes;
  }

  /** The prompt that the model's chat template makes of a conversation. Throws TextError. */
  renderChat(input: ChatInput): string {
    return this.chatTemplate.render(input);
  }

  #decodeWhole(ids: readonly number[], skipSpecialTokens: boolean): string {
    const skipped = skipSpecialTokens ? this.#specialIds : NO_IDS;
    const shown = ids.filter((id) => !skipped.has(id)).map((id) => this.#pipeline.strings[id]);
    return this.#decode(shown.filter((string) => string !== undefined)).join('');
  }
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
