import { buildVocabulary, type Vocabulary } from '@bridgekeeper/device';
import {
  type ModelFiles,
  readModelSpec,
  readSamplingDefaults,
  type SamplingDefaults,
} from '@bridgekeeper/engine/models';
import { openTokenizer, type Tokenizer } from '@bridgekeeper/engine/text';
import {
  AUTOMATIC,
  type FormatChoice,
  type ModelFormat,
  modelFormat,
} from '../formats/model-format.ts';
import { HOST_CLOCK } from '../host-clock.ts';
import { Encoder } from './encoder.ts';

/** The text side of a model, as the server needs it. */
export interface ModelText {
  readonly tokenizer: Tokenizer;
  /** Turns text of any length into tokens without holding up the thread. */
  readonly encoder: Encoder;
  /** Ids that end generation unless they are ignored. */
  readonly endTokens: readonly number[];
  /** How it writes reasoning and calls of tools; undefined: as far as is known, it does not. */
  readonly format: ModelFormat | undefined;
  /** What grammars see of the model's tokens: their bytes, and which of them are no text. */
  readonly vocabulary: Vocabulary;
  /** What the model's files say about sampling where a request says nothing. */
  readonly samplingDefaults: SamplingDefaults;
}

/** Reads the text side of a model. Throws ModelError. */
export async function openModelText(
  files: ModelFiles,
  formats: FormatChoice = AUTOMATIC,
): Promise<ModelText> {
  const [tokenizer, spec, samplingDefaults] = await Promise.all([
    openTokenizer(files, { now: () => new Date(HOST_CLOCK.unixSeconds() * 1000) }),
    readModelSpec(files),
    readSamplingDefaults(files),
  ]);
  const encoder = new Encoder(files, tokenizer);
  const format = modelFormat(formats, tokenizer);
  const { eosTokenIds: endTokens, vocabularySize } = spec;
  const vocabulary = vocabularyOf(tokenizer, vocabularySize, format);
  return { tokenizer, encoder, endTokens, format, vocabulary, samplingDefaults };
}

/** Special tokens and the tags of the model's format are no text that an answer could spell. */
function vocabularyOf(
  tokenizer: Tokenizer,
  size: number,
  format: ModelFormat | undefined,
): Vocabulary {
  const control = new Set(format?.marks.tokens.values());
  for (let id = 0; id < size; id++) if (tokenizer.isSpecial(id)) control.add(id);
  return buildVocabulary(size, (id) => tokenizer.tokenBytes(id), control);
}
