import { chainOn, chainToken, chainWord } from '@bridgekeeper/device';
import { VOCABULARY } from '../product/model.ts';

/** What a client asks a model for. */
export interface TokenRequest {
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  /** null: greedy. */
  readonly seed: number | null;
  readonly stopTokens: readonly number[];
}

/** The tokens of the undisturbed run, from the request alone: no page, batch or step is in it. */
export function expectedTokens({ prompt, maxTokens, seed, stopTokens }: TokenRequest): number[] {
  let chain = 0;
  let position = 0;
  const take = (token: number) => {
    chain = chainOn(chain, chainWord(token, position));
    position += 1;
  };
  for (const token of prompt) take(token);
  const tokens: number[] = [];
  while (tokens.length < maxTokens) {
    const drawn = seed === null ? null : { low: seed | 0, high: 0, generated: tokens.length };
    const token = chainToken(chain, drawn, VOCABULARY);
    tokens.push(token);
    if (stopTokens.includes(token)) break;
    take(token);
  }
  return tokens;
}
