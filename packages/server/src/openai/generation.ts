import type { Clock } from '@bridgekeeper/bridge';
import {
  type CrossingShare,
  type EngineClient,
  type GenerationEvent,
  type GenerationRequest,
  type KvShare,
  sumOfKvShares,
} from '@bridgekeeper/engine';
import { type ApiError, toApiError } from '../http/errors.ts';
import type { Lifecycle } from '../http/lifecycle.ts';
import type { ModelText } from '../text/model-text.ts';
import { Choice, type ChoiceOptions } from './choice.ts';
import type { Usage } from './usage.ts';
import type { TokenListener, WakeQueue } from './wake-queue.ts';

/** Hears what an answer does, for the metrics. Called for every event: keep it cheap. */
export interface Observer {
  /**
   * `gapNs`: since the choice's last tokens, or since the request arrived where these are its
   * first.
   */
  tokens(choice: Choice, count: number, gapNs: number, first: boolean): void;
  finished(choice: Choice, elapsedNs: number): void;
}

/** One HTTP request as requests to the engine. */
export interface PreparedGeneration {
  readonly requestId: string;
  readonly arrivedNs: number;
  /** Choices of one prompt stand together: `choicesPerPrompt` for each prompt. */
  readonly requests: readonly {
    readonly request: GenerationRequest;
    readonly options: ChoiceOptions;
  }[];
  readonly choicesPerPrompt: number;
}

/** What an answer needs of the server around it. */
export interface GenerationHost {
  readonly engine: EngineClient;
  readonly text: ModelText;
  readonly wakes: WakeQueue;
  readonly observer: Observer;
  readonly clock: Clock;
  readonly lifecycle: Pick<Lifecycle, 'blame'>;
}

/** One answer: all choices of one HTTP request, from submission until the last is done. */
export class Generation implements TokenListener {
  readonly requestId: string;
  readonly arrivedNs: number;
  readonly choices: readonly Choice[];
  /** From the arrival to the first tokens of any choice. */
  firstTokenNs: number | undefined;
  /** Resolves once every choice has its outcome. */
  readonly settled: Promise<void>;
  readonly #choicesPerPrompt: number;
  readonly #engine: EngineClient;
  readonly #wakes: WakeQueue;
  readonly #observer: Observer;
  readonly #clock: Clock;
  #listener: TokenListener = this;
  #settle: () => void = () => {};
  #open: number;

  constructor(
    prepared: PreparedGeneration,
    { engine, text, wakes, observer, clock, lifecycle }: GenerationHost,
  ) {
    this.requestId = prepared.requestId;
    this.arrivedNs = prepared.arrivedNs;
    this.#choicesPerPrompt = prepared.choicesPerPrompt;
    this.#engine = engine;
    this.#wakes = wakes;
    this.#observer = observer;
    this.#clock = clock;
    this.choices = prepared.requests.map(
      ({ request, options }, index) =>
        new Choice(index, request, options, text, {
          cancel: () => engine.cancel(request.id),
          blame: (message) => lifecycle.blame(message),
        }),
    );
    this.#open = this.choices.length;
    this.settled = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  /** The first thing that went wrong with any choice. */
  get error(): ApiError | undefined {
    return this.choices.find((choice) => choice.error !== undefined)?.error;
  }

  get isSettled(): boolean {
    return this.#open === 0;
  }

  /** Tokens that came from the engine and were not taken yet. */
  get pendingTokens(): number {
    return this.choices.reduce((sum, choice) => sum + choice.pendingTokens, 0);
  }

  /** Submits every choice, or none: throws ApiError after taking back those that were accepted. */
  start(listener: TokenListener): void {
    this.#listener = listener;
    for (const choice of this.choices) {
      try {
        this.#engine.submit(choice.request, (event) => this.#receive(choice, event));
      } catch (error) {
        const accepted = this.choices.slice(0, choice.index);
        for (const never of this.choices.slice(choice.index)) never.refuse();
        this.#open -= this.choices.length - accepted.length;
        this.#listener = this;
        for (const each of accepted) each.abort();
        if (this.#open === 0) this.#settle();
        throw toApiError(error);
      }
    }
  }

  /** Takes what a choice has to say, and closes it when that was the last. */
  take(choice: Choice): ReturnType<Choice['take']> {
    const wasOpen = choice.outcome === undefined;
    const delta = choice.take();
    if (wasOpen && choice.outcome !== undefined) this.#finished(choice);
    return delta;
  }

  /** The client is gone: cancels what still runs; the rest is dropped. */
  abort(): void {
    this.#listener = this;
    for (const choice of this.choices) choice.abort();
    this.wake();
  }

  /** The engine is gone: what it has not ended ends with `error`. */
  fail(error: ApiError): void {
    for (const choice of this.choices) {
      if (choice.outcome !== undefined || choice.isEnding) continue;
      choice.fail(error);
      this.#finished(choice);
    }
    this.#listener.wake();
  }

  /** No listener is left: takes and forgets. */
  wake(): void {
    for (const choice of this.choices) if (choice.hasNews) this.take(choice);
  }

  usage(): Usage {
    let promptTokens = 0;
    let cachedTokens = 0;
    let completionTokens = 0;
    let reasoningTokens: number | undefined;
    for (const choice of this.choices) {
      completionTokens += choice.completionTokens;
      if (choice.reasoningTokens !== undefined) {
        reasoningTokens = (reasoningTokens ?? 0) + choice.reasoningTokens;
      }
      if (choice.index % this.#choicesPerPrompt !== 0) continue;
      promptTokens += choice.request.promptTokens.length;
      cachedTokens += choice.outcome?.cachedTokens ?? 0;
    }
    return {
      prompt_tokens: promptTokens,
      total_tokens: promptTokens + completionTokens,
      completion_tokens: completionTokens,
      prompt_tokens_details: { cached_tokens: cachedTokens },
      ...(reasoningTokens === undefined
        ? {}
        : { completion_tokens_details: { reasoning_tokens: reasoningTokens } }),
    };
  }

  /** What crossed the bridge for all choices that are done. */
  crossings(): CrossingShare[] {
    return this.choices.flatMap(({ outcome }) => outcome?.crossings ?? []);
  }

  /** What all choices that are done had of KV below the device. */
  kvShares(): KvShare[] {
    return sumOfKvShares(this.choices.flatMap(({ outcome }) => outcome?.kv ?? []));
  }

  /** Whether any choice began on an engine before the one that finished it. */
  get isResumed(): boolean {
    return this.choices.some(({ outcome }) => outcome?.isResumed === true);
  }

  #receive(choice: Choice, event: GenerationEvent): void {
    const nowNs = this.#clock.nowNs();
    const sinceNs = choice.lastTokensNs;
    choice.receive(event, nowNs);
    if (event.tokens.length > 0) {
      this.firstTokenNs ??= nowNs - this.arrivedNs;
      this.#observer.tokens(
        choice,
        event.tokens.length,
        nowNs - (sinceNs ?? this.arrivedNs),
        sinceNs === undefined,
      );
    }
    this.#wakes.add(this.#listener);
  }

  #finished(choice: Choice): void {
    this.#observer.finished(choice, this.#clock.nowNs() - this.arrivedNs);
    this.#open -= 1;
    if (this.#open === 0) this.#settle();
  }
}
