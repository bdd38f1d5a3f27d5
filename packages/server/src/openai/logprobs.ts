import type { TokenLogprobs } from '@bridgekeeper/engine';
import type { ModelText } from '../text/model-text.ts';
import type { LogprobItem } from './choice.ts';

/** How an answer's logprobs are written. */
export interface LogprobStyle {
  /** Tokens are named by their ids: vLLM's `return_tokens_as_token_ids`. */
  readonly namesIds: boolean;
}

/** JSON has no infinity: what cannot happen gets vLLM's stand-in. */
const finite = (logprob: number) => Math.max(logprob, -9999);

const idName = (token: number) => `token_id:${token}`;

function describe(token: number, logprob: number, text: ModelText, style: LogprobStyle) {
  return {
    token: style.namesIds ? idName(token) : text.tokenizer.decode([token], false),
    logprob: finite(logprob),
    bytes: [...text.tokenizer.tokenBytes(token)],
  };
}

/** The chat endpoint's form. */
export function chatLogprobs(items: readonly LogprobItem[], text: ModelText, style: LogprobStyle) {
  return {
    content: items.map(({ token, logprobs }) => ({
      ...describe(token, logprobs?.logprob ?? 0, text, style),
      top_logprobs: (logprobs?.top ?? []).map((each) =>
        describe(each.token, each.logprob, text, style),
      ),
    })),
  };
}

/** vLLM's form of a prompt's logprobs: for each token, itself and the best, by their ids. */
export function promptLogprobs(
  tokens: Uint32Array,
  given: readonly TokenLogprobs[],
  { tokenizer }: ModelText,
) {
  const entry = (token: number, logprob: number, rank: number) =>
    [
      token,
      { logprob: finite(logprob), rank, decoded_token: tokenizer.decode([token], false) },
    ] as const;
  return Array.from(tokens, (token, at) => {
    const logprobs = at === 0 ? undefined : given[at - 1];
    if (logprobs === undefined) return null;
    const best = logprobs.top.map((each, rank) => entry(each.token, each.logprob, rank + 1));
    return Object.fromEntries([...best, entry(token, logprobs.logprob, logprobs.rank)]);
  });
}

/** A token's text, or its bytes where these are no whole characters: tokens that differ do too. */
function nameOf(token: number, { tokenizer }: ModelText): string {
  const bytes = Buffer.from(tokenizer.tokenBytes(token));
  const text = bytes.toString();
  if (Buffer.from(text).equals(bytes)) return text;
  const escaped = Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`);
  return `bytes:${escaped.join('')}`;
}

/** Characters as Python counts them, where these offsets come from. */
const lengthOf = (text: string) => {
  let characters = 0;
  for (const _ of text) characters += 1;
  return characters;
};

/**
 * The completions endpoint's form. Tokens are what they add to the text, so that a character of
 * several tokens is the last one's and the others are empty; a special token that is left out of
 * the text is named. `text_offset` counts characters (code points) from the start of the choice's
 * text and never leaves it.
 */
export class CompletionLogprobs {
  readonly #text: ModelText;
  readonly #style: LogprobStyle;
  #offset = 0;
  #textLength = 0;

  constructor(text: ModelText, style: LogprobStyle) {
    this.#text = text;
    this.#style = style;
  }

  /** `said` is the text that comes with them. */
  next(items: readonly LogprobItem[], said: string) {
    this.#textLength += lengthOf(said);
    const tokens = items.map((item) => this.#name(item));
    return {
      tokens,
      token_logprobs: items.map(({ logprobs }) => (logprobs ? finite(logprobs.logprob) : null)),
      top_logprobs: items.map((item, at) => this.#top(item, tokens[at]!)),
      text_offset: items.map(({ text }) => {
        const offset = this.#offset;
        this.#offset += lengthOf(text);
        return Math.min(offset, this.#textLength);
      }),
    };
  }

  #name({ token, text }: LogprobItem): string {
    if (this.#style.namesIds) return idName(token);
    if (text !== '') return text;
    const name = nameOf(token, this.#text);
    return name.startsWith('bytes:') ? '' : name;
  }

  /** The best alternatives and, as vLLM has it, the token itself where it is not among them. */
  #top({ token, logprobs }: LogprobItem, name: string): Record<string, number> | null {
    if (logprobs === undefined) return null;
    const top = new Map([[name, finite(logprobs.logprob)]]);
    for (const each of logprobs.top) {
      if (each.token === token) continue;
      const known = this.#style.namesIds ? idName(each.token) : nameOf(each.token, this.#text);
      top.set(top.has(known) ? idName(each.token) : known, finite(each.logprob));
    }
    return Object.fromEntries(top);
  }
}
