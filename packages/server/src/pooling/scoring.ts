import type { Pooling } from '@bridgekeeper/engine';
import { ApiError } from '../http/errors.ts';
import type { ModelText } from '../text/model-text.ts';

/**
 * How Qwen3-Reranker's model card has a pair of texts judged:
 * https://huggingface.co/Qwen/Qwen3-Reranker-0.6B
 */
const JUDGE =
  '<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and ' +
  'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n' +
  '<|im_start|>user\n';
const ANSWER = '<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n';
const INSTRUCTION = 'Given a web search query, retrieve relevant passages that answer the query';
const TURN = '<|im_start|>';

/**
 * The prompt that has a document judged for a query. Texts that bring the model's turns
 * themselves, as vLLM's clients write them, are joined as they are; so are those for a model
 * without such turns.
 */
export function judgement(
  { tokenizer }: Pick<ModelText, 'tokenizer'>,
  query: string,
  document: string,
  instruction: string | null | undefined,
): string {
  const isWhole = query.startsWith(TURN) || tokenizer.tokenId(TURN) === undefined;
  if (isWhole && instruction != null) {
    const message = 'instruction cannot be honoured: the texts are judged as they are.';
    throw new ApiError('unsupported_value', message, 'instruction');
  }
  if (isWhole) return query + document;
  const wanted = `<Instruct>: ${instruction ?? INSTRUCTION}\n<Query>: ${query}\n`;
  return `${JUDGE}${wanted}<Document>: ${document}${ANSWER}`;
}

/** The tokens that a judgement is read from. Throws ApiError where they are not one each. */
export function judgedBy({ tokenizer }: Pick<ModelText, 'tokenizer'>): Pooling {
  const [yes, no] = ['yes', 'no'].map((word) => {
    const [token, ...more] = tokenizer.encode(word, false);
    if (token !== undefined && more.length === 0) return token;
    const message = `model cannot score: "${word}" is not one token of it.`;
    throw new ApiError('unsupported_value', message, 'model');
  }) as [number, number];
  return { task: 'score', tokens: [yes, no] };
}

/** Of vectors of length 1: how far they point the same way. */
export function similarity(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, at) => sum + value * b[at]!, 0);
}

/** The first of a vector's dimensions, at length 1 again. */
export function shortenedVector(vector: Float32Array, dimensions: number): Float32Array {
  const kept = vector.slice(0, dimensions);
  const length = Math.sqrt(kept.reduce((sum, value) => sum + value * value, 0));
  return length === 0 ? kept : kept.map((value) => value / length);
}
