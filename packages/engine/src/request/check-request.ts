import { grammarFault } from '@bridgekeeper/device';
import { type EngineCard, EngineError, type GenerationRequest } from './request.ts';
import { checkSampling } from './sampling.ts';

const INT32_MAX = 0x7fffffff;

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
  checkGrammar(request, card);
  checkPrior(request, card);
  const { length } = request.promptTokens;
  if (length === 0) throw new EngineError('bad-request', 'the prompt has no tokens', 'prompt');
  const task = request.pooling?.task ?? 'generate';
  if (task !== card.task) {
    const message = `this engine was started to ${card.task}, and is asked to ${task}`;
    throw new EngineError('bad-request', message, 'model');
  }
  const outputs = task === 'generate' ? 1 : 0;
  if (length + outputs > maxModelTokens) {
    throw new EngineError(
      'prompt-too-long',
      `This model's maximum context length is ${maxModelTokens} tokens. However, your prompt has ` +
        `${length} tokens${outputs > 0 ? ', which leaves no room for output' : ''}. Please ` +
        'shorten the prompt.',
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
  const tokens = request.pooling?.task === 'score' ? request.pooling.tokens : [];
  if (tokens.some((token) => token >= vocabularySize)) {
    throw new EngineError('bad-request', 'a token to score by is outside the vocabulary', 'model');
  }
  const { sampling } = request;
  const maxTokens = Math.min(sampling.maxTokens, maxModelTokens - length);
  return { ...request, sampling: { ...sampling, maxTokens } };
}

/** Those who say what was computed before do so by themselves: it is nothing that clients send. */
function checkPrior({ priorTokens, pooling, sampling }: GenerationRequest, card: EngineCard): void {
  if (priorTokens === undefined) return;
  const isOfText = pooling === undefined && sampling.promptLogprobs === undefined;
  const isOpen = priorTokens.length < sampling.maxTokens;
  if (isOfText && isOpen && largest(priorTokens) < card.vocabularySize) return;
  throw new EngineError('bad-request', 'the answer cannot go on behind these tokens');
}

function checkGrammar({ grammar, thinkingBudget }: GenerationRequest, card: EngineCard): void {
  if (thinkingBudget !== undefined) {
    const isCount = Number.isInteger(thinkingBudget) && thinkingBudget >= 0;
    if (!isCount || thinkingBudget > INT32_MAX) {
      const message = `thinking_budget must be an integer in [0, ${INT32_MAX}]`;
      throw new EngineError('bad-request', message, 'thinking_budget');
    }
    if (grammar === undefined) {
      const message = 'thinking_budget needs a grammar that says where thinking ends';
      throw new EngineError('bad-request', message, 'thinking_budget');
    }
  }
  if (grammar === undefined) return;
  if (card.grammarBytes === 0) {
    throw new EngineError('bad-request', 'this engine takes no grammars', 'grammar');
  }
  const bytes = grammar.words.byteLength;
  if (bytes > card.grammarBytes) {
    const message = `the grammar takes ${bytes} bytes of ${card.grammarBytes} at most: simplify it`;
    throw new EngineError('bad-request', message, 'grammar');
  }
  const fault = grammarFault(grammar.words);
  if (fault !== null) {
    throw new EngineError('bad-request', `the compiled grammar is broken: ${fault}`, 'grammar');
  }
}

/** By a loop: a function for each token makes 128 choices of a long prompt take 0.1 s. */
function largest(tokens: Uint32Array): number {
  let found = 0;
  for (let at = 0; at < tokens.length; at++) if (tokens[at]! > found) found = tokens[at]!;
  return found;
}
