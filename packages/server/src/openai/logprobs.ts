import type { ModelText } from '../text/model-text.ts';
import type { LogprobItem } from './choice.ts';

/** JSON has no infinity: what cannot happen gets vLLM's stand-in. */
const finite = (logprob: number) => Math.max(logprob, -9999);

function describe(token: number, logprob: number, text: ModelText) {
  return {
    token: text.tokenizer.decode([token], false),
    logprob: finite(logprob),
    bytes: [...text.tokenizer.tokenBytes(token)],
  };
}

/** The chat endpoint's form. */
export function chatLogprobs(items: readonly LogprobItem[], text: ModelText) {
  return {
    content: items.map(({ token, logprobs }) => ({
      ...describe(token, logprobs?.logprob ?? 0, text),
      top_logprobs: (logprobs?.top ?? []).map((each) => describe(each.token, each.logprob, text)),
    })),
  };
}

/**
 * The completions endpoint's form. `text_offset` counts characters from the start of the choice's
 * text.
 */
export class CompletionLogprobs {
  readonly #text: ModelText;
  #offset = 0;

  constructor(text: ModelText) {
    this.#text = text;
  }

  next(items: readonly LogprobItem[]) {
    const tokens = items.map(({ token }) => this.#text.tokenizer.decode([token], false));
    return {
      tokens,
      token_logprobs: items.map(({ logprobs }) => (logprobs ? finite(logprobs.logprob) : null)),
      top_logprobs: items.map((item, at) => this.#top(item, tokens[at]!)),
      text_offset: tokens.map((token) => {
        const offset = this.#offset;
        this.#offset += token.length;
        return offset;
      }),
    };
  }

  /** The best alternatives and, as vLLM has it, the token itself where it is not among them. */
  #top({ logprobs }: LogprobItem, token: string): Record<string, number> | null {
    if (logprobs === undefined) return null;
    const best = logprobs.top.map((each): [string, number] => [
      this.#text.tokenizer.decode([each.token], false),
      finite(each.logprob),
    ]);
    return Object.fromEntries([[token, finite(logprobs.logprob)], ...best]);
  }
}
