import type {
  CrossingShare,
  GenerationEvent,
  GenerationRequest,
  KvShare,
  RequestTiming,
  TokenLogprobs,
} from '@bridgekeeper/engine';
import { type Detokenizer, StopMatcher, type Tokenizer } from '@bridgekeeper/engine/text';
import type { AnswerReader } from '../formats/answer-reader.ts';
import { type AnswerPart, textOf } from '../formats/parts.ts';
import type { ApiError } from '../http/errors.ts';
import type { ModelText } from '../text/model-text.ts';

/** How one choice turns tokens into text. */
export interface ChoiceOptions {
  readonly stop: readonly string[];
  readonly includeStop: boolean;
  readonly skipSpecialTokens: boolean;
  /** Shown before the first token: the prompt, where `echo` asks for it. */
  readonly echoText: string;
  /** The prompt's logprobs come before the answer's. */
  readonly echoLogprobs: boolean;
  /** Generated tokens are counted but not shown: `echo` with `max_tokens` 0. */
  readonly hideOutput: boolean;
  /** Deltas carry token ids. */
  readonly tokenIds: boolean;
  /** Tells reasoning and calls from text; absent: all of it is content. */
  readonly newReader?: (() => AnswerReader) | undefined;
  /** The answer ends when so many calls are whole; absent: it may have any number. */
  readonly maxCalls?: number | undefined;
}

export interface LogprobItem {
  readonly token: number;
  /**
   * What the token adds to the text: nothing where it is left out, or is a part of a character that
   * later tokens complete.
   */
  readonly text: string;
  /** undefined: the prompt's first token, which nothing predicts. */
  readonly logprobs: TokenLogprobs | undefined;
  /** What the token belongs to where that is not the content. */
  readonly part?: 'reasoning' | 'call';
}

export interface ChoiceFinish {
  readonly reason: 'stop' | 'length' | 'tool_calls';
  /** vLLM's `stop_reason`: the stop string, the id of a stop token, or null. */
  readonly stopReason: string | number | null;
}

/** What one choice has to say since it was last asked. */
export interface ChoiceDelta {
  /** The content of all parts. */
  readonly text: string;
  readonly parts: readonly AnswerPart[];
  /** Empty where none were asked for. */
  readonly logprobs: readonly LogprobItem[];
  /** Empty where none were asked for. */
  readonly tokens: readonly number[];
  readonly finish: ChoiceFinish | undefined;
}

/** What is known once the engine is done with it. */
export interface ChoiceOutcome {
  readonly reason: 'stop' | 'length' | 'abort' | 'error';
  readonly cachedTokens: number;
  readonly timing: RequestTiming | undefined;
  /** What crossed the bridge for it; absent where the engine did not say. */
  readonly crossings?: readonly CrossingShare[];
  /** What it had of KV below the device. */
  readonly kv?: readonly KvShare[];
  /** It began on an engine before the one that finished it. */
  readonly isResumed?: true;
}

/** What a choice asks of those around it. */
export interface ChoiceHost {
  /** Nothing more is wanted from the engine. */
  cancel(): void;
  /** Why the engine ended this unasked. */
  blame(message: string): ApiError;
}

type EngineFinish = NonNullable<GenerationEvent['finish']>;

/**
 * One choice of an answer: one request of the engine, whose tokens become text when somebody takes
 * them.
 */
export class Choice {
  readonly index: number;
  readonly request: GenerationRequest;
  /** Tokens of this choice's text, the one that ended it included. */
  completionTokens = 0;
  /** Those of them that are reasoning; undefined where that is not told apart. */
  reasoningTokens: number | undefined;
  /** When the engine's last tokens for it came. */
  lastTokensNs: number | undefined;
  /** Of the prompt's tokens after the first, where they were asked for and have come. */
  promptLogprobs: readonly TokenLogprobs[] = [];
  /** What the prompt came to, where that was asked for and has come. */
  pooled: Float32Array | undefined;
  outcome: ChoiceOutcome | undefined;
  error: ApiError | undefined;
  readonly #options: ChoiceOptions;
  readonly #endTokens: readonly number[];
  readonly #tokenizer: Tokenizer;
  #detokenizer: Detokenizer;
  #matcher: StopMatcher | undefined;
  readonly #reader: AnswerReader | undefined;
  readonly #host: ChoiceHost;
  #events: GenerationEvent[] = [];
  #pendingTokens = 0;
  #echoed = false;
  /** Logprobs whose text a possible stop string still holds back, and where that text ends. */
  readonly #held: { item: LogprobItem; readonly end: number }[] = [];
  /** Characters of the answer's text that came from tokens, and that were taken. */
  #readLength = 0;
  #takenLength = 0;
  #matchedStop: string | undefined;
  /** Enough calls are whole. */
  #hasCalled = false;
  #aborted = false;

  constructor(
    index: number,
    request: GenerationRequest,
    options: ChoiceOptions,
    text: ModelText,
    host: ChoiceHost,
  ) {
    this.index = index;
    this.request = request;
    this.#options = options;
    this.#endTokens = text.endTokens;
    this.#reader = options.newReader?.();
    if (this.#reader !== undefined) this.reasoningTokens = 0;
    const { skipSpecialTokens } = options;
    this.#tokenizer = text.tokenizer;
    this.#detokenizer = text.tokenizer.detokenizer({
      skipSpecialTokens,
      after: request.promptTokens,
    });
    this.#matcher = matcherOf(options);
    this.#host = host;
  }

  /** Tokens that were not taken yet. */
  get pendingTokens(): number {
    return this.#pendingTokens;
  }

  get hasNews(): boolean {
    return this.#events.length > 0;
  }

  /** The engine has said its last word, and it was not taken yet. */
  get isEnding(): boolean {
    return this.#events.at(-1)?.finish !== undefined;
  }

  /** Keeps an event of the engine until it is taken. */
  receive(event: GenerationEvent, nowNs: number): void {
    this.#events.push(event);
    this.#pendingTokens += event.tokens.length;
    if (event.tokens.length > 0) this.lastTokensNs = nowNs;
  }

  /** The engine died: whatever it still owes never comes. */
  fail(error: ApiError): void {
    this.error = error;
    this.outcome = { reason: 'error', cachedTokens: 0, timing: undefined };
  }

  /** The engine never took it. */
  refuse(): void {
    this.outcome = { reason: 'abort', cachedTokens: 0, timing: undefined };
  }

  /** The client is gone or wants no more. */
  abort(): void {
    if (this.outcome !== undefined || this.#aborted) return;
    this.#aborted = true;
    this.#host.cancel();
  }

  /** Turns everything received since the last call into text. */
  take(): ChoiceDelta {
    const events = this.#events;
    this.#events = [];
    this.#pendingTokens = 0;
    const echoed: LogprobItem[] = [];
    const tokens: number[] = [];
    let text = '';
    let finish: ChoiceFinish | undefined;
    for (const event of events) {
      if (event.promptLogprobs !== undefined) {
        this.promptLogprobs = event.promptLogprobs;
        if (this.#options.echoLogprobs) echoed.push(...this.#echoedItems());
      }
      this.pooled ??= event.pooled;
      if (!this.#isOver) text += this.#read(event, tokens);
      if (event.finish !== undefined) {
        if (!this.#isOver) text += this.#told(this.#rest());
        this.#reader?.finish();
        finish = this.#close(event.finish);
      }
    }
    this.#takenLength += text.length;
    const logprobs = [...echoed, ...this.#release(finish !== undefined || this.#isOver)];
    const parts = this.#partsOf(text);
    return { text: textOf(parts, 'text'), parts, logprobs, tokens, finish };
  }

  /** Nothing more of the engine's is read. */
  get #isOver(): boolean {
    return this.#matchedStop !== undefined || this.#hasCalled;
  }

  #partsOf(text: string): readonly AnswerPart[] {
    const echo = this.#echoed ? '' : this.#options.echoText;
    this.#echoed = true;
    if (this.#reader === undefined) return textParts(echo + text);
    return [...textParts(echo), ...this.#reader.take()];
  }

  /** The logprobs whose text is taken, or all of them. */
  #release(all: boolean): LogprobItem[] {
    const open = all ? -1 : this.#held.findIndex(({ end }) => end > this.#takenLength);
    const released = this.#held.splice(0, open < 0 ? this.#held.length : open);
    return released.map(({ item }) => item);
  }

  #close(finish: EngineFinish): ChoiceFinish | undefined {
    const { cachedTokens, timing, stopToken, crossings = [], kv, isResumed } = finish;
    const more = { ...(kv && { kv }), ...(isResumed === true && { isResumed }) };
    const done = (reason: ChoiceOutcome['reason']) => {
      this.outcome = { reason, cachedTokens, timing, crossings, ...more };
    };
    const hasCalls = (this.#reader?.wholeCalls ?? 0) > 0;
    if (this.#isOver) {
      done('stop');
      return { reason: hasCalls ? 'tool_calls' : 'stop', stopReason: this.#matchedStop ?? null };
    }
    if (finish.reason === 'stop' || finish.reason === 'length') {
      done(finish.reason);
      const reason = finish.reason === 'stop' && hasCalls ? 'tool_calls' : finish.reason;
      const own = stopToken === undefined || this.#endTokens.includes(stopToken);
      return { reason, stopReason: own ? null : stopToken };
    }
    if (!this.#aborted) this.error = this.#host.blame(finish.message ?? 'The engine gave up.');
    done(this.#aborted ? 'abort' : 'error');
    return undefined;
  }

  #echoedItems(): LogprobItem[] {
    const { promptTokens } = this.request;
    const pieces = (skipSpecialTokens: boolean) => {
      const detokenizer = this.#tokenizer.detokenizer({ skipSpecialTokens });
      const texts = Array.from(promptTokens, (token) => detokenizer.push([token]));
      texts[texts.length - 1] += detokenizer.finish();
      return texts;
    };
    // A prompt that came as text has none of the special tokens that were added to it.
    const whole = pieces(false);
    const texts = whole.join('') === this.#options.echoText ? whole : pieces(true);
    return Array.from(promptTokens, (token, at) => {
      const logprobs = at === 0 ? undefined : this.promptLogprobs[at - 1];
      return { token, text: texts[at]!, logprobs };
    });
  }

  /**
   * The text of one event's tokens, up to a stop string where one ends in them. Their ids are added
   * to `ids`.
   */
  #read(event: GenerationEvent, ids: number[]): string {
    const { tokens } = event;
    const stopped = event.finish?.stopToken !== undefined;
    const shown = stopped && !this.#options.includeStop ? tokens.length - 1 : tokens.length;
    if (this.#options.hideOutput) return '';
    const reader = this.#reader;
    if (this.#matcher === undefined && event.logprobs === undefined && reader === undefined) {
      this.completionTokens += tokens.length;
      if (this.#options.tokenIds) ids.push(...tokens);
      return this.#detokenizer.push(shown === tokens.length ? tokens : tokens.slice(0, shown));
    }
    let text = '';
    for (let at = 0; at < tokens.length && !this.#isOver; at++) {
      const token = tokens[at]!;
      this.completionTokens += 1;
      if (this.#options.tokenIds) ids.push(token);
      const before = reader?.place;
      const mark = reader?.marks.ofToken(token);
      if (mark !== undefined) {
        text += this.#told(this.#restBefore(token));
        if (this.#matchedStop !== undefined) break;
      }
      const piece = mark ?? (at < shown ? this.#detokenizer.push([token]) : '');
      if (event.logprobs !== undefined) this.#hold(token, piece, event.logprobs[at]);
      text += this.#told(mark ?? (at < shown ? this.#searched(piece) : ''));
      // Its tags belong to what they are around.
      const place = before === undefined || before === 'text' ? this.#reader?.place : before;
      if (place === 'reasoning') this.reasoningTokens! += 1;
      const held = this.#held.at(-1);
      if (event.logprobs !== undefined && held !== undefined && place && place !== 'text') {
        held.item = { ...held.item, part: place };
      }
    }
    return text;
  }

  /** What was held back before a tag: nothing goes on across it. */
  #restBefore(tag: number): string {
    const rest = this.#rest();
    if (this.#matchedStop !== undefined) this.#host.cancel();
    const { skipSpecialTokens } = this.#options;
    this.#detokenizer = this.#tokenizer.detokenizer({ skipSpecialTokens, after: [tag] });
    this.#matcher = matcherOf(this.#options);
    return rest;
  }

  /** Tells the reader. The answer may end with what it finds. */
  #told(text: string): string {
    const { maxCalls = Number.POSITIVE_INFINITY } = this.#options;
    this.#reader?.push(text);
    if (this.#reader !== undefined && this.#reader.wholeCalls >= maxCalls && !this.#isOver) {
      this.#hasCalled = true;
      this.#host.cancel();
    }
    return text;
  }

  #hold(token: number, text: string, logprobs: TokenLogprobs | undefined): void {
    this.#readLength += text.length;
    this.#held.push({ item: { token, text, logprobs }, end: this.#readLength });
  }

  #searched(piece: string): string {
    const early = this.completionTokens <= this.request.sampling.minTokens;
    if (this.#matcher === undefined || early) return piece;
    const { text, matched } = this.#matcher.push(piece);
    if (matched !== undefined) {
      this.#matchedStop = matched;
      this.#host.cancel();
    }
    return text;
  }

  /** What was held back, now that nothing more comes. */
  #rest(): string {
    if (this.#options.hideOutput) return '';
    const last = this.#detokenizer.finish();
    this.#readLength += last.length;
    const held = this.#held.at(-1);
    if (held !== undefined) held.item = { ...held.item, text: held.item.text + last };
    if (this.#matcher === undefined) return last;
    const { text, matched } = this.#matcher.push(last);
    if (matched === undefined) return text + this.#matcher.finish();
    this.#matchedStop = matched;
    return text;
  }
}

function matcherOf({ stop, includeStop }: ChoiceOptions): StopMatcher | undefined {
  return stop.length > 0 ? new StopMatcher(stop, includeStop) : undefined;
}

function textParts(text: string): readonly AnswerPart[] {
  return text === '' ? [] : [{ kind: 'text', text }];
}
