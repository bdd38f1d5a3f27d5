import type { ConfigReader } from '../../models/config-reader.ts';
import { type AddedToken, AddedTokenFinder } from './added-tokens.ts';
import { modelOf } from './model.ts';
import { type Normalize, normalizerOf } from './normalizers.ts';
import { type PreTokenize, preTokenizerOf } from './pre-tokenizers.ts';
import type { TokenModel, Vocabulary } from './vocabulary.ts';

/**
 * tokenizer.json from text to token ids, as the reference implementation (Hugging Face's Rust
 * library, tokenizers 0.22) has it: added tokens are found in the text as it is; what lies between
 * them is normalised; added tokens are found in that; what lies between these is split into pieces,
 * and the model makes tokens of each piece.
 */
export class TextPipeline {
  readonly addedTokens: readonly AddedToken[];
  /** The strings of all tokens by id; holes where an id has none. */
  readonly strings: readonly (string | undefined)[];
  readonly #model: TokenModel;
  readonly #addedIds: ReadonlyMap<string, number>;
  readonly #normalize: Normalize;
  readonly #preTokenize: PreTokenize;
  readonly #inText = new AddedTokenFinder();
  readonly #inNormalized = new AddedTokenFinder();

  /** Throws ModelError. */
  constructor(json: ConfigReader, addedTokensOf: (model: Vocabulary) => readonly AddedToken[]) {
    const model = json.object('model');
    if (model === undefined) throw json.error('malformed', 'model', 'is missing');
    this.#model = modelOf(model);
    this.#normalize = normalizerOf(json.object('normalizer'));
    this.#preTokenize = preTokenizerOf(json.object('pre_tokenizer'));
    this.addedTokens = addedTokensOf(this.#model.vocabulary);
    const strings = [...this.#model.vocabulary.strings];
    for (const token of this.addedTokens) {
      strings[token.id] = token.content;
      if (token.normalized) this.#inNormalized.add(this.#normalize(token.content), token);
      else this.#inText.add(token.content, token);
    }
    this.strings = strings;
    this.#addedIds = new Map(this.addedTokens.map(({ content, id }) => [content, id]));
  }

  idOf(string: string): number | undefined {
    return this.#addedIds.get(string) ?? this.#model.vocabulary.idOf(string);
  }

  /** Undefined where the vocabulary lacks a character of the text. */
  encode(text: string): number[] | undefined {
    const ids: number[] = [];
    let isFirst = true;
    for (const part of this.#inText.split(text)) {
      if (typeof part === 'string') {
        for (const piece of this.#inNormalized.split(this.#normalize(part))) {
          if (typeof piece !== 'string') ids.push(piece.id);
          else if (!this.#encodePlain(piece, isFirst, ids)) return undefined;
          isFirst = false;
        }
      } else ids.push(part.id);
      isFirst = false;
    }
    return ids;
  }

  #encodePlain(text: string, isFirst: boolean, ids: number[]): boolean {
    for (const piece of this.#preTokenize(text, isFirst)) {
      if (piece === '') continue;
      const encoded = this.#model.encode(piece);
      if (encoded === undefined) return false;
      for (const id of encoded) ids.push(id);
    }
    return true;
  }
}
