import { canBeMarked } from '../marks.ts';
import { type AddedToken, AddedTokenFinder } from './added-tokens.ts';
import type { Normalize } from './normalizers.ts';

/** Words, and runs of space, are vocabulary; whatever else is added is there to mean something. */
const VOCABULARY = /^[\p{L}\p{M}\p{N}\s▁]*$/u;
const SPACE = /^[\s▁]*$/u;
/** What marks leave out. A token is never told from other text by these alone. */
const UNMARKED = /[\s"'\\]/;

function isStructure({ content, special }: AddedToken): boolean {
  return special ? !SPACE.test(content) : !VOCABULARY.test(content);
}

/**
 * The added tokens that are structure: those by which a template opens and closes turns, calls and
 * thoughts. And the others, which any text may be made of.
 */
export class Structure {
  /** Finds structure in text as it is written. */
  readonly finder = new AddedTokenFinder();
  readonly wordsInText = new AddedTokenFinder();
  readonly wordsInNormalized = new AddedTokenFinder();
  readonly ids: ReadonlySet<number>;
  /** A token that text cannot be kept from spelling: the way it is written cannot be marked. */
  readonly unmarkable: AddedToken | undefined;

  /** `unknownId` is what the model makes of what it does not know, which is no structure. */
  constructor(added: readonly AddedToken[], normalize: Normalize, unknownId: number | undefined) {
    const structure = added.filter(isStructure);
    for (const token of structure) this.finder.add(token.content, token);
    for (const token of added) {
      if (isStructure(token)) continue;
      if (token.normalized) this.wordsInNormalized.add(normalize(token.content), token);
      else this.wordsInText.add(token.content, token);
    }
    this.ids = new Set(structure.map(({ id }) => id).filter((id) => id !== unknownId));
    this.unmarkable = structure.find(({ content, normalized }) => {
      // It is looked for before text is normalised, which must not matter.
      const isChanged = normalized && normalize(content) !== content;
      const isMarkable = (each: string) => UNMARKED.test(each) || canBeMarked(each);
      return isChanged || !content.split('').every(isMarkable);
    });
  }

  /** Where structure is in a text, and which, as a text that can be compared. */
  places(text: string): string {
    return Array.from(this.finder.find(text), ({ token, at }) => `${at}:${token.id}`).join();
  }
}
