import { type ConfigReader, show } from '../../models/config-reader.ts';
import { bytePairModel } from './byte-pair.ts';
import { unigramModel } from './unigram.ts';
import { type TokenModel, vocabularyOf } from './vocabulary.ts';

const TYPES = ['BPE', 'WordPiece', 'Unigram', 'WordLevel'] as const;

/** Old files have no "type", but each has keys of its own. */
function typeOf(model: ConfigReader): (typeof TYPES)[number] {
  const named = model.choice('type', TYPES);
  if (named !== undefined) return named;
  if (model.has('merges')) return 'BPE';
  if (Array.isArray(model.get('vocab'))) return 'Unigram';
  return model.has('continuing_subword_prefix') ? 'WordPiece' : 'WordLevel';
}

/** The longest token from the left, again and again; a word of which that fails is unknown. */
function wordPieceModel(model: ConfigReader): TokenModel {
  const vocabulary = vocabularyOf(model);
  const prefix = model.text('continuing_subword_prefix', '##');
  const unknown = vocabulary.idOf(model.text('unk_token', '[UNK]'));
  const unknownWord = unknown === undefined ? undefined : [unknown];
  const longest = model.integer('max_input_chars_per_word', 1, 100);
  const longestToken = Math.max(0, ...vocabulary.strings.map((string) => string?.length ?? 0));
  const encode = (piece: string) => {
    if (piece.length > longest && Array.from(piece).length > longest) return unknownWord;
    const ids: number[] = [];
    for (let start = 0; start < piece.length; ) {
      const before = start === 0 ? '' : prefix;
      let end = Math.min(piece.length, start + longestToken);
      let id: number | undefined;
      for (; end > start; end--) {
        id = vocabulary.idOf(before + piece.slice(start, end));
        if (id !== undefined) break;
      }
      if (id === undefined) return unknownWord;
      ids.push(id);
      start = end;
    }
    return ids;
  };
  return { vocabulary, encode };
}

function wordLevelModel(model: ConfigReader): TokenModel {
  const vocabulary = vocabularyOf(model);
  const unknown = vocabulary.idOf(model.text('unk_token', '<unk>'));
  const encode = (piece: string) => {
    const id = vocabulary.idOf(piece) ?? unknown;
    return id === undefined ? undefined : [id];
  };
  return { vocabulary, encode };
}

/** The model of tokenizer.json. Throws ModelError. */
export function modelOf(model: ConfigReader): TokenModel {
  const dropout = model.get('dropout') ?? 0;
  if (dropout !== 0) {
    throw model.error('unsupported', 'dropout', `is ${show(dropout)}; supported: none`);
  }
  switch (typeOf(model)) {
    case 'BPE':
      return bytePairModel(model);
    case 'Unigram':
      return unigramModel(model);
    case 'WordPiece':
      return wordPieceModel(model);
    case 'WordLevel':
      return wordLevelModel(model);
  }
}
