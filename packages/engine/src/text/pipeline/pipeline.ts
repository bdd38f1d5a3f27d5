import type { ConfigReader } from '../../models/config-reader.ts';
import { unmark } from '../marks.ts';
import { type AddedToken, AddedTokenFinder } from './added-tokens.ts';
import { modelOf } from './model.ts';
import { type Normalize, normalizerOf } from './normalizers.ts';
import { type PreTokenize, preTokenizerOf } from './pre-tokenizers.ts';
import { Structure } from './structure.ts';
import type { TokenModel, Vocabulary } from './vocabulary.ts';

/** The token for what a model does not know: BPE's and words' by name, Unigram's by its id. */
function unknownOf(model: ConfigReader, vocabulary: Vocabulary): number | undefined {
  const id = model.get('unk_id');
  if (typeof id === 'number') return id;
  const name = model.get('unk_token');
  return typeof name === 'string' ? vocabulary.idOf(name) : undefined;
}

export interface MarkedResult {
  /** Undefined where the vocabulary lacks a character of the text. */
  readonly ids: readonly number[] | undefined;
  readonly isLiteral: boolean;
}

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
  readonly #unknownId: number | undefined;
  #structure: Structure | undefined;

  /** Throws ModelError. */
  constructor(json: ConfigReader, addedTokensOf: (model: Vocabulary) => readonly AddedToken[]) {
    const model = json.object('model');
    if (model === undefined) throw json.error('malformed', 'model', 'is missing');
    this.#model = modelOf(model);
    this.#unknownId = unknownOf(model, this.#model.vocabulary);
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
    return this.#encodeBetween(text, true, this.#inText, this.#inNormalized, ids) ? ids : undefined;
  }

  /**
   * As `encode`, of `text`, of which `marked` says what a request brought: structure is found where
   * nothing is marked only. `isLiteral` is false where the model makes structure of other text.
   */
  encodeMarked(marked: string, text: string): MarkedResult {
    const structure = this.#structureOf();
    // What no request opened or closed is encoded as ever.
    if (structure.places(marked) === structure.places(text)) {
      return { ids: this.encode(text), isLiteral: true };
    }
    const { finder, wordsInText, wordsInNormalized, ids: structural } = structure;
    const ids: number[] = [];
    let isLiteral = true;
    let isFirst = true;
    for (const part of finder.split(marked)) {
      if (typeof part === 'string') {
        const from = ids.length;
        const words = [wordsInText, wordsInNormalized] as const;
        if (!this.#encodeBetween(unmark(part), isFirst, ...words, ids)) {
          return { ids: undefined, isLiteral };
        }
        for (let at = from; at < ids.length; at++) isLiteral &&= !structural.has(ids[at]!);
      } else ids.push(part.id);
      isFirst = false;
    }
    return { ids, isLiteral };
  }

  /** A token that a request's text cannot be kept from spelling; undefined: there is none. */
  get unmarkable(): AddedToken | undefined {
    return this.#structureOf().unmarkable;
  }

  #encodeBetween(
    text: string,
    isStart: boolean,
    inText: AddedTokenFinder,
    inNormalized: AddedTokenFinder,
    ids: number[],
  ): boolean {
    let isFirst = isStart;
    for (const part of inText.split(text)) {
      if (typeof part === 'string') {
        for (const piece of inNormalized.split(this.#normalize(part))) {
          if (typeof piece !== 'string') ids.push(piece.id);
          else if (!this.#encodePlain(piece, isFirst, ids)) return false;
          isFirst = false;
        }
      } else ids.push(part.id);
      isFirst = false;
    }
    return true;
  }

  #structureOf(): Structure {
    this.#structure ??= new Structure(this.addedTokens, this.#normalize, this.#unknownId);
    return this.#structure;
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
