import type { ConfigReader } from '../../models/config-reader.ts';
import { encodeUtf8 } from '../utf8.ts';

/** A model's tokens by their strings and by their ids. */
export class Vocabulary {
  /** By id; holes where an id has no token. */
  readonly strings: readonly (string | undefined)[];
  readonly #ids: ReadonlyMap<string, number>;

  constructor(ids: ReadonlyMap<string, number>, strings?: readonly string[]) {
    const byId: (string | undefined)[] = [];
    if (strings === undefined) for (const [string, id] of ids) byId[id] = string;
    this.strings = strings ?? byId;
    this.#ids = ids;
  }

  idOf(string: string): number | undefined {
    return this.#ids.get(string);
  }

  /** The tokens of the bytes of `text`, such as `<0x0A>`; undefined where one is missing. */
  byteIds(text: string): number[] | undefined {
    const ids: number[] = [];
    for (const byte of encodeUtf8(text)) {
      const id = this.idOf(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
      if (id === undefined) return undefined;
      ids.push(id);
    }
    return ids;
  }
}

/** What turns a piece of text into tokens. */
export interface TokenModel {
  readonly vocabulary: Vocabulary;
  /** The piece's token ids; undefined where no token stands for a part of it. */
  encode(piece: string): readonly number[] | undefined;
}

/** More ids than any vocabulary has, and few enough to list. */
export const MAX_TOKENS = 1 << 24;

/** The tokens under "vocab": {string: id}. Throws ModelError. */
export function vocabularyOf(model: ConfigReader): Vocabulary {
  const vocab = model.object('vocab');
  if (vocab === undefined) throw model.error('malformed', 'vocab', 'is missing: tokens and ids');
  const ids = new Map<string, number>();
  for (const string of vocab.keys()) {
    const id = vocab.get(string);
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= MAX_TOKENS) {
      throw model.error('malformed', 'vocab', `must have ids below ${MAX_TOKENS}`);
    }
    ids.set(string, id as number);
  }
  return new Vocabulary(ids);
}
