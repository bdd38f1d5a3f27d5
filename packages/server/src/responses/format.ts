import type { ApiError } from '../http/errors.ts';
import type { AnswerDetail, AnswerHead } from '../openai/answer-head.ts';
import { type Block, type BlockEvent, Blocks } from '../openai/blocks.ts';
import type { Choice, ChoiceDelta, ChoiceFinish, LogprobItem } from '../openai/choice.ts';
import type { WholeChoice } from '../openai/collect.ts';
import type { Generation } from '../openai/generation.ts';
import { chatLogprobs } from '../openai/logprobs.ts';
import type { ChunkFormat } from '../openai/sse.ts';
import type { Usage } from '../openai/usage.ts';
import type { ModelText } from '../text/model-text.ts';
import type { ResponseDocument, ResponseUsage } from './schema.ts';

/** What a response says of its request, in every document of it. */
export interface ResponseFrame {
  readonly fields: Readonly<Record<string, unknown>>;
  readonly text: ModelText;
  readonly detail: AnswerDetail;
  /** An id of that kind that no other item has. */
  readonly newId: (prefix: string) => string;
  /** Told of the response once it is whole. */
  readonly onEnd: (response: ResponseDocument) => void;
}

type Item = ResponseDocument['output'][number];
type Status = 'in_progress' | 'completed' | 'incomplete';

/** The items of one answer. */
class Output {
  readonly blocks = new Blocks();
  readonly #frame: ResponseFrame;
  readonly #ids: { readonly item: string; readonly call: string }[] = [];

  constructor(frame: ResponseFrame) {
    this.#frame = frame;
  }

  idOf(at: number): string {
    return this.#idsOf(at).item;
  }

  /** `last` is the status of the last item; those before it are whole. */
  items(last: 'completed' | 'incomplete'): Item[] {
    const { all } = this.blocks;
    return all.map((block, at) => this.item(at, block, at < all.length - 1 ? 'completed' : last));
  }

  /** An item that is in progress has nothing in it yet. */
  item(at: number, block: Block, status: Status): Item {
    const { item: id, call } = this.#idsOf(at);
    const isBegun = status === 'in_progress';
    switch (block.kind) {
      case 'text': {
        const content = isBegun ? [] : [this.part(block, block.text, block.logprobs)];
        return { id, type: 'message', status, role: 'assistant', content };
      }
      case 'reasoning': {
        const content = isBegun ? [] : [this.part(block, block.text, [])];
        return { id, type: 'reasoning', summary: [], content, encrypted_content: null, status };
      }
      case 'call': {
        const text = isBegun ? '' : block.text;
        const { name } = block;
        return { id, type: 'function_call', status, call_id: call, name, arguments: text };
      }
    }
  }

  part({ kind }: Block, text: string, logprobs: readonly LogprobItem[]): object {
    if (kind === 'reasoning') return { type: 'reasoning_text', text };
    return { type: 'output_text', text, annotations: [], logprobs: this.logprobs(logprobs) };
  }

  logprobs(items: readonly LogprobItem[]): readonly object[] {
    const { text, detail } = this.#frame;
    return detail.logprobs ? chatLogprobs(items, text, detail).content : [];
  }

  #idsOf(at: number): { readonly item: string; readonly call: string } {
    const block = this.blocks.all[at]!;
    this.#ids[at] ??= {
      item: this.#frame.newId(ID_PREFIXES[block.kind]),
      call: block.kind === 'call' ? block.id : '',
    };
    return this.#ids[at];
  }
}

const ID_PREFIXES = { text: 'msg', reasoning: 'rs', call: 'fc' } as const;

/** `event:` and `data:` of a response that is streamed, in OpenAI's order. */
export class ResponseEvents implements ChunkFormat {
  readonly #head: AnswerHead;
  readonly #frame: ResponseFrame;
  readonly #output: Output;
  #events = 0;
  #finish: ChoiceFinish | undefined;

  constructor(head: AnswerHead, frame: ResponseFrame) {
    this.#head = head;
    this.#frame = frame;
    this.#output = new Output(frame);
  }

  opening(): string {
    const response = this.#document({ status: 'in_progress' });
    return (
      this.#say('response.created', { response }) + this.#say('response.in_progress', { response })
    );
  }

  chunk(_choice: Choice, delta: ChoiceDelta): string {
    const { blocks } = this.#output;
    let out = blocks
      .add(delta.parts, delta.logprobs)
      .map((event) => this.#told(event))
      .join('');
    if (delta.finish === undefined) return out;
    this.#finish = delta.finish;
    out += blocks
      .end()
      .map((event) => this.#told(event))
      .join('');
    return out;
  }

  closing(generation: Generation): string {
    const response = this.#document(endOf(this.#output, this.#finish, generation.usage()));
    this.#frame.onEnd(response);
    return this.#say(`response.${response.status}`, { response });
  }

  failure(generation: Generation, error: ApiError): string {
    const { message } = error;
    const response = this.#document({
      status: 'failed',
      output: this.#output.items('incomplete'),
      error: { code: 'server_error', message },
      usage: usageOf(generation.usage()),
    });
    return this.#say('response.failed', { response });
  }

  #document(end: ResponseEnd): ResponseDocument {
    return responseDocument(this.#head, this.#frame, end);
  }

  #say(type: string, fields: object): string {
    const event = { type, sequence_number: this.#events++, ...fields };
    return `event: ${type}\ndata: ${JSON.stringify(event)}\n\n`;
  }

  #told({ type, at, block, text, logprobs }: BlockEvent): string {
    const output = this.#output;
    const place = { item_id: output.idOf(at), output_index: at };
    const within = { ...place, content_index: 0 };
    if (type === 'open') {
      const item = output.item(at, block, 'in_progress');
      const added = this.#say('response.output_item.added', { output_index: at, item });
      if (block.kind === 'call') return added;
      const part = output.part(block, '', []);
      return added + this.#say('response.content_part.added', { ...within, part });
    }
    if (type === 'grow') {
      switch (block.kind) {
        case 'call':
          return this.#say('response.function_call_arguments.delta', { ...place, delta: text });
        case 'reasoning':
          return this.#say('response.reasoning_text.delta', { ...within, delta: text });
        case 'text': {
          const fields = { ...within, delta: text, logprobs: output.logprobs(logprobs) };
          return this.#say('response.output_text.delta', fields);
        }
      }
    }
    const ending = block.kind === 'call' ? this.#callDone(block, place) : this.#done(block, within);
    const status = statusOf(this.#finish);
    const item = output.item(at, block, status);
    return ending + this.#say('response.output_item.done', { output_index: at, item });
  }

  #callDone({ name, text }: Extract<Block, { kind: 'call' }>, place: object): string {
    return this.#say('response.function_call_arguments.done', { ...place, name, arguments: text });
  }

  #done(block: Exclude<Block, { kind: 'call' }>, within: object): string {
    const { kind, text, logprobs } = block;
    const whole = { ...within, text };
    const done =
      kind === 'reasoning'
        ? this.#say('response.reasoning_text.done', whole)
        : this.#say('response.output_text.done', {
            ...whole,
            logprobs: this.#output.logprobs(logprobs),
          });
    const part = this.#output.part(block, text, logprobs);
    return done + this.#say('response.content_part.done', { ...within, part });
  }
}

/** The whole document of a response that is not streamed. */
export function wholeResponse(
  head: AnswerHead,
  frame: ResponseFrame,
  choice: WholeChoice,
  usage: Usage,
): ResponseDocument {
  const output = new Output(frame);
  output.blocks.add(choice.parts, choice.logprobs);
  output.blocks.end();
  const response = responseDocument(head, frame, endOf(output, choice.finish, usage));
  frame.onEnd(response);
  return response;
}

function statusOf(finish: ChoiceFinish | undefined): 'completed' | 'incomplete' {
  return finish?.reason === 'length' ? 'incomplete' : 'completed';
}

/** What is not known before an answer ends. */
type ResponseEnd = Pick<ResponseDocument, 'status'> &
  Partial<Pick<ResponseDocument, 'output' | 'error' | 'incomplete_details' | 'usage'>>;

function endOf(output: Output, finish: ChoiceFinish | undefined, usage: Usage): ResponseEnd {
  const status = statusOf(finish);
  return {
    status,
    output: output.items(status),
    incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    usage: usageOf(usage),
  };
}

function responseDocument(
  { id, created, model }: AnswerHead,
  { fields }: ResponseFrame,
  { status, output = [], error = null, incomplete_details = null, usage = null }: ResponseEnd,
): ResponseDocument {
  return {
    id,
    object: 'response',
    created_at: created,
    status,
    error,
    incomplete_details,
    model,
    output,
    ...fields,
    usage,
  };
}

function usageOf(usage: Usage): ResponseUsage {
  return {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: {
      cached_tokens: usage.prompt_tokens_details.cached_tokens,
      cache_write_tokens: 0,
    },
    output_tokens: usage.completion_tokens,
    output_tokens_details: {
      reasoning_tokens: usage.completion_tokens_details?.reasoning_tokens ?? 0,
    },
    total_tokens: usage.total_tokens,
  };
}
