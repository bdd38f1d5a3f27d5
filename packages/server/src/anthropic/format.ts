import type { ApiError } from '../http/errors.ts';
import type { AnswerHead } from '../openai/answer-head.ts';
import { type Block, type BlockEvent, Blocks } from '../openai/blocks.ts';
import type { Choice, ChoiceDelta, ChoiceFinish } from '../openai/choice.ts';
import type { WholeChoice } from '../openai/collect.ts';
import type { Generation } from '../openai/generation.ts';
import type { ChunkFormat } from '../openai/sse.ts';
import type { Usage } from '../openai/usage.ts';
import { messageError } from './errors.ts';
import type { MessageDocument, MessageUsage } from './schema.ts';

/** `event:` and `data:` of a message that is streamed, in Anthropic's order. */
export class MessageEvents implements ChunkFormat {
  readonly #head: AnswerHead;
  readonly #blocks = new Blocks();
  #finish: ChoiceFinish | undefined;

  constructor(head: AnswerHead) {
    this.#head = head;
  }

  opening(generation: Generation): string {
    const usage = usageOf(generation.usage());
    const message = messageDocument(this.#head, { content: [], stop: NOT_STOPPED, usage });
    return say('message_start', { message }) + say('ping', {});
  }

  chunk(_choice: Choice, delta: ChoiceDelta): string {
    const events = this.#blocks.add(delta.parts, []);
    if (delta.finish !== undefined) {
      this.#finish = delta.finish;
      events.push(...this.#blocks.end());
    }
    return events.map(told).join('');
  }

  closing(generation: Generation): string {
    const delta = stopOf(this.#blocks.all, this.#finish);
    const usage = usageOf(generation.usage());
    return say('message_delta', { delta, usage }) + say('message_stop', {});
  }

  failure(generation: Generation, error: ApiError): string {
    return say('error', messageError(error, generation.requestId));
  }
}

function say(type: string, fields: object): string {
  return `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`;
}

function told({ type, at: index, block, text }: BlockEvent): string {
  switch (type) {
    case 'open':
      return say('content_block_start', { index, content_block: contentOf(block, '') });
    case 'grow':
      return say('content_block_delta', { index, delta: deltaOf(block, text) });
    case 'close':
      return say('content_block_stop', { index });
  }
}

function deltaOf({ kind }: Block, text: string): object {
  switch (kind) {
    case 'text':
      return { type: 'text_delta', text };
    case 'reasoning':
      return { type: 'thinking_delta', thinking: text };
    case 'call':
      return { type: 'input_json_delta', partial_json: text };
  }
}

/** A block as it is with `text`; a call's arguments come as text only in streams. */
function contentOf(block: Block, text: string): MessageDocument['content'][number] {
  switch (block.kind) {
    case 'text':
      return { type: 'text', text, citations: null };
    case 'reasoning':
      return { type: 'thinking', thinking: text, signature: '' };
    case 'call': {
      const { id, name } = block;
      return { type: 'tool_use', id, name, input: inputOf(text) };
    }
  }
}

/** What was cut off before it was an object has no fields. */
function inputOf(text: string): object {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}

/** The whole document of a message that is not streamed. */
export function wholeMessage(head: AnswerHead, choice: WholeChoice, usage: Usage): MessageDocument {
  const blocks = new Blocks();
  blocks.add(choice.parts, []);
  blocks.end();
  const content = blocks.all.map((block) => contentOf(block, block.text));
  const stop = stopOf(blocks.all, choice.finish);
  return messageDocument(head, { content, stop, usage: usageOf(usage) });
}

type Stop = Pick<MessageDocument, 'stop_reason' | 'stop_sequence'>;

const NOT_STOPPED: Stop = { stop_reason: null, stop_sequence: null };

function stopOf(blocks: readonly Block[], finish: ChoiceFinish | undefined): Stop {
  if (finish?.reason === 'length') return { stop_reason: 'max_tokens', stop_sequence: null };
  if (typeof finish?.stopReason === 'string') {
    return { stop_reason: 'stop_sequence', stop_sequence: finish.stopReason };
  }
  const called = blocks.some(({ kind }) => kind === 'call');
  return { stop_reason: called ? 'tool_use' : 'end_turn', stop_sequence: null };
}

function messageDocument(
  { id, model }: AnswerHead,
  said: {
    readonly content: MessageDocument['content'];
    readonly stop: Stop;
    readonly usage: MessageUsage;
  },
): MessageDocument {
  const { content, stop, usage } = said;
  return { id, type: 'message', role: 'assistant', model, content, ...stop, usage };
}

/** Prefixes are cached by themselves: nobody pays for putting them there. */
function usageOf(usage: Usage): MessageUsage {
  const cached = usage.prompt_tokens_details.cached_tokens;
  return {
    input_tokens: usage.prompt_tokens - cached,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cached,
    output_tokens: usage.completion_tokens,
  };
}
