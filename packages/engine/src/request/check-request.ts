import { type EngineCard, EngineError, type GenerationRequest } from './request.ts';
import { checkSampling } from './sampling.ts';

/** A request that `checkRequest` let through, as it is run. Plain data: it may cross threads. */
export type CheckedRequest = GenerationRequest;

/**
 * Everything that can be wrong with a request, before it is queued. Returns it with `maxTokens` cut
 * to the room that its prompt leaves in the context. Throws EngineError; messages never carry
 * tokens. `open` is what is in flight.
 */
export function checkRequest(
  request: GenerationRequest,
  card: EngineCard,
  open: ReadonlyMap<string, unknown>,
): CheckedRequest {
  const { vocabularySize, maxModelTokens } = card;
  if (open.has(request.id)) {
    throw new EngineError('bad-request', 'a request with this id is in flight', 'request_id');
  }
  checkSampling(request.sampling, vocabularySize);
  const { length } = request.promptTokens;
  if (length === 0) throw new EngineError('bad-request', 'the prompt has no tokens', 'prompt');
  if (length >= maxModelTokens) {
    throw new EngineError(
      'prompt-too-long',
      `This model's maximum context length is ${maxModelTokens} tokens. However, your prompt has ` +
        `${length} tokens, which leaves no room for output. Please shorten the prompt.`,
      'prompt',
    );
  }
  if (largest(request.promptTokens) >= vocabularySize) {
    const message = `the prompt has token ids outside the vocabulary (0 to ${vocabularySize - 1})`;
    throw new EngineError('bad-request', message, 'prompt');
  }
  if (open.size >= card.maxRows + card.maxWaiting) {
    const message = `${open.size} requests are in flight, the most this server takes`;
    throw new EngineError('queue-full', `${message}: try again later`);
  }
  const { sampling } = request;
  const maxTokens = Math.min(sampling.maxTokens, maxModelTokens - length);
  return { ...request, sampling: { ...sampling, maxTokens } };
}

/** By a loop: a function for each token makes 128 choices of a long prompt take 0.1 s. */
function largest(tokens: Uint32Array): number {
  let found = 0;
  for (let at = 0; at < tokens.length; at++) if (tokens[at]! > found) found = tokens[at]!;
  return found;
}
