import { createRequire } from 'node:module';

/** What is used of Hugging Face's Rust library, by its binding for Node. */
export interface ReferenceTokenizer {
  encode(
    text: string,
    pair: null,
    options: { readonly addSpecialTokens: boolean },
  ): Promise<{ getIds(): number[] }>;
  decode(ids: number[], skipSpecialTokens: boolean): Promise<string>;
}

// Its declarations do not compile.
const { Tokenizer } = createRequire(import.meta.url)('@anush008/tokenizers') as {
  readonly Tokenizer: { fromString(json: string): ReferenceTokenizer };
};

export function referenceTokenizer(json: unknown): ReferenceTokenizer {
  return Tokenizer.fromString(JSON.stringify(json));
}
