import type { AnswerFormat } from '../openai/answer.ts';
import type { AnswerHead } from '../openai/answer-head.ts';
import type { WholeChoice } from '../openai/collect.ts';
import type { Usage } from '../openai/usage.ts';

type Document = (
  head: AnswerHead & { readonly object: 'list' },
  choices: readonly WholeChoice[],
  usage: Usage,
) => object;

/** The format of answers that are never streamed. */
export function whole(prefix: string, document: Document): AnswerFormat {
  return {
    idFor: (requestId) => `${prefix}-${requestId}`,
    document: ({ id, created, model }, choices, usage) =>
      document({ id, object: 'list', created, model }, choices, usage),
  };
}
