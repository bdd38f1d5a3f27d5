import { hash32 } from '@bridgekeeper/device';
import { createEngine, type EngineOptions } from '../create.ts';
import type { Engine } from '../engine.ts';
import { EngineError, type GenerationEvent, type TokenLogprobs } from '../request/request.ts';
import { GREEDY } from '../request/sampling.ts';
import { RANDOM_MODEL_TOKENS, type RandomModel } from './random-models.ts';

/** One sequence that the engine computed, and what it said of its tokens. */
export interface ObservedSequence {
  /** Prompt, then output. */
  readonly tokens: readonly number[];
  readonly promptTokens: number;
  readonly lines: readonly {
    /** Of the token whose successor the line is about. */
    readonly position: number;
    readonly line: TokenLogprobs;
  }[];
}

/** One request: a prompt whose first tokens others share, and how many tokens follow. */
interface Prompt {
  readonly shared: number;
  readonly own: number;
  readonly output: number;
  readonly hasPromptLogprobs?: boolean;
}

/**
 * Together they cross pages and chunks, hit each other's prefixes, fill a batch of 8 rows, and end
 * one after the other, so that batches of 4, 2 and 1 follow.
 */
const PROMPTS: readonly Prompt[] = [
  { shared: 70, own: 75, output: 14 },
  { shared: 70, own: 9, output: 26 },
  { shared: 70, own: 4, output: 22 },
  { shared: 0, own: 33, output: 18, hasPromptLogprobs: true },
  { shared: 0, own: 17, output: 20 },
  { shared: 0, own: 16, output: 16 },
  { shared: 0, own: 5, output: 24 },
  { shared: 0, own: 1, output: 32 },
];
/** Comes when all of these have ended, so that it finds what they leave. */
const LATER: Prompt = { shared: 70, own: 11, output: 12 };
const TOP = 8;
/** Ample for these requests: several models may be checked on one GPU at once. */
const KV_BYTES = 64 * 1024 ** 2;
const PROMPT_SEED = 0x9e37;

/** Lets the engine compute the sequences of `PROMPTS` with the model at `options.model`. */
export async function observe(
  model: RandomModel,
  options: EngineOptions,
): Promise<{ sequences: readonly ObservedSequence[]; prefixHitTokens: number }> {
  const engine = await createEngine({
    ...options,
    dummy: false,
    quantization: undefined,
    kvFormat: model.kvFormat,
    maxRows: PROMPTS.length,
    maxBatchTokens: model.maxBatchTokens,
    maxModelTokens: RANDOM_MODEL_TOKENS,
    pageTokens: model.pageTokens,
    kvBytes: KV_BYTES,
    prefixCaching: true,
    chunkedPrefill: true,
    // What can be kept of prefixes is, whatever it costs.
    kvPrices: (known) => ({ ...known, recomputeNs: () => 1, launchNs: () => 0 }),
  });
  try {
    const { vocabularySize } = engine.card;
    const all = PROMPTS.map((prompt, index) => generate(engine, prompt, index, vocabularySize));
    const sequences = await Promise.all(all);
    sequences.push(await generate(engine, LATER, PROMPTS.length, vocabularySize));
    return { sequences, prefixHitTokens: engine.stats().prefixHitTokens };
  } finally {
    await engine.shutdown(0);
  }
}

function generate(
  engine: Engine,
  { shared, own, output, hasPromptLogprobs }: Prompt,
  index: number,
  vocabularySize: number,
): Promise<ObservedSequence> {
  const draw = (of: number, i: number) => (hash32(PROMPT_SEED, of, i) >>> 0) % vocabularySize;
  const prompt = Array.from({ length: shared + own }, (_, i) =>
    draw(i < shared ? 0 : index + 1, i),
  );
  const sampling = {
    ...GREEDY,
    maxTokens: output,
    logprobs: TOP,
    promptLogprobs: hasPromptLogprobs ? TOP : undefined,
  };
  const request = {
    id: `sequence ${index}`,
    tenant: 'selftest',
    sampling,
    promptTokens: Uint32Array.from(prompt),
  };
  return new Promise((resolve, reject) => {
    const events: GenerationEvent[] = [];
    engine.submit(request, (event) => {
      events.push(event);
      if (event.finish === undefined) return;
      if (event.finish.reason === 'length') resolve(observed(prompt, events));
      else reject(new EngineError('engine-failed', event.finish.message ?? event.finish.reason));
    });
  });
}

function observed(prompt: readonly number[], events: readonly GenerationEvent[]): ObservedSequence {
  const tokens = [...prompt, ...events.flatMap((event) => event.tokens)];
  const ofPrompt = events.flatMap((event) => event.promptLogprobs ?? []);
  const ofOutput = events.flatMap((event) => event.logprobs ?? []);
  return {
    tokens,
    promptTokens: prompt.length,
    lines: [
      ...ofPrompt.map((line, position) => ({ position, line })),
      ...ofOutput.map((line, i) => ({ position: prompt.length - 1 + i, line })),
    ],
  };
}
