import { isUtf8 } from 'node:buffer';
import type { Tokenizer } from '@bridgekeeper/engine/text';
import { Draws } from '@bridgekeeper/planner/workload';
import { UsageError } from '@bridgekeeper/server';
import type { WrittenRequest } from './client.ts';
import type { ServeValues } from './flags.ts';
import type { ServeOptions } from './options.ts';
import { customRequests, sharegptRequests } from './prompts.ts';
import { traceRequests } from './trace.ts';
import { type BenchRequest, randomRequests, repeatedTo } from './workload.ts';

/** One request, ready to be sent. */
export interface PreparedRequest extends WrittenRequest {
  /** Seconds from the first one's time; only in traces. */
  readonly atSeconds: number | undefined;
}

export interface Sources {
  /** The text of --dataset-path. */
  readonly text: string;
  /** Of --tokenizer. */
  readonly tokenizer: Tokenizer | undefined;
}

/**
 * All requests of a run, written out before it starts: what is sent costs nothing while others are
 * measured. Throws UsageError.
 */
export function prepareRequests(
  options: ServeOptions,
  model: string,
  sources: Sources,
): PreparedRequest[] {
  const prefix = options.values.requestIdPrefix;
  const prepared: PreparedRequest[] = [];
  for (const request of requestsOf(options.values, sources)) {
    const body = Buffer.from(JSON.stringify(bodyOf(request, options, model)));
    const { promptTokens, atSeconds } = request;
    prepared.push({ id: `${prefix}${prepared.length}`, body, promptTokens, atSeconds });
  }
  if (prepared.length > 0) return prepared;
  throw new UsageError('bad-file', '--dataset-path: has no request that can be used');
}

function requestsOf(values: ServeValues, sources: Sources): Iterable<BenchRequest> {
  const { seed, numPrompts: requests } = values;
  const { text, tokenizer } = sources;
  const vocabulary = vocabularyOf(values, tokenizer);
  switch (values.datasetName) {
    case 'random': {
      const random = {
        requests,
        inputTokens: values.inputLen ?? values.randomInputLen,
        outputTokens: values.outputLen ?? values.randomOutputLen,
        rangeRatio: values.randomRangeRatio,
        prefixTokens: values.randomPrefixLen,
        seed,
      };
      return randomRequests(random, vocabulary, tokenizer);
    }
    case 'timed_trace': {
      const trace = {
        requests,
        chunkTokens: values.timedTraceChunkHashSize,
        secondsPerUnit: values.timedTraceSecMultiplier,
        seed,
      };
      return traceRequests(text, trace, vocabulary);
    }
    case 'custom': {
      const length = values.outputLen ?? values.customOutputLen;
      return selected(customRequests(text, length === -1 ? undefined : length, tokenizer), values);
    }
    case 'sharegpt': {
      const length = values.outputLen ?? values.sharegptOutputLen;
      return selected(sharegptRequests(text, length, tokenizer!), values);
    }
  }
}

/** As many as wanted of what a file has. */
function selected(requests: Iterable<BenchRequest>, values: ServeValues): BenchRequest[] {
  const all = [...requests];
  const draws = new Draws(values.seed, 'order');
  const ordered = values.disableShuffle ? all : draws.shuffled(all);
  const wanted = values.numPrompts;
  return repeatedTo(ordered, values.oversample ? wanted : Math.min(wanted, all.length), draws);
}

/** Models have their special tokens among the first ids, if not at the end. */
const FIRST_PLAIN_TOKEN = 16;

/**
 * The token ids that random prompts are made of: with a tokenizer those that are text by
 * themselves, as parts of characters would not survive being written as text.
 */
export function vocabularyOf(
  values: Pick<ServeValues, 'vocabSize'>,
  tokenizer: Tokenizer | undefined,
): Uint32Array {
  if (tokenizer === undefined) {
    const ids = { length: values.vocabSize - FIRST_PLAIN_TOKEN };
    return Uint32Array.from(ids, (_, index) => index + FIRST_PLAIN_TOKEN);
  }
  const ids = Uint32Array.from({ length: tokenizer.vocabularySize }, (_, id) => id);
  return ids.filter((id) => {
    const bytes = tokenizer.tokenBytes(id);
    return !tokenizer.isSpecial(id) && bytes.length > 0 && isUtf8(bytes);
  });
}

function bodyOf(
  { prompt, outputTokens }: BenchRequest,
  { api, ignoreEos, extraBody }: ServeOptions,
  model: string,
): Record<string, unknown> {
  const question =
    api === 'chat'
      ? { messages: [{ role: 'user', content: prompt }], max_completion_tokens: outputTokens }
      : { prompt, max_tokens: outputTokens };
  return {
    model,
    ...question,
    stream: true,
    stream_options: { include_usage: true },
    ...(ignoreEos ? { ignore_eos: true } : {}),
    ...extraBody,
  };
}
