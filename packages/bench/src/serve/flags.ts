import { integer, type Kind, number, oneOf, onOff, text, texts } from '@bridgekeeper/server';
import { SEAL_PARAMETERS } from '../seal.ts';
import type { SuiteParameter } from '../suite.ts';

const WHOLE_MAX = 2 ** 32 - 1;
const UNSET = undefined;

/** `inf`, or a number above 0. */
function positive(): Kind<number> {
  return {
    metavar: 'number|inf',
    parse: (value) => {
      const parsed = value.trim() === 'inf' ? Number.POSITIVE_INFINITY : Number(value || 'none');
      if (parsed > 0) return parsed;
      throw new Error(`must be inf or a number above 0, got ${JSON.stringify(value.slice(0, 80))}`);
    },
  };
}

/** `KEY=VALUE` or `key:value`, as the separator says; several may follow the flag. */
function pairs(metavar: string, separator: '=' | ':'): Kind<readonly string[]> {
  return {
    metavar,
    list: true,
    parse: (value) => {
      if (value.indexOf(separator) > 0) return [value];
      throw new Error(`must be ${metavar}`);
    },
  };
}

/** A length, or -1. */
function lengthOrNone(): Kind<number> {
  const length = integer(1, 1e7);
  return {
    metavar: 'n',
    parse: (value) => (value.trim() === '-1' ? -1 : length.parse(value)),
  };
}

const flag = <T, const D extends string | undefined>(kind: Kind<T>, fallback: D, help: string) => ({
  kind,
  default: fallback,
  help,
});

/** The flags of `bench serve`: vLLM's names, meanings and defaults where vLLM has them. */
export const SERVE_FLAGS = {
  backend: flag(oneOf('openai', 'vllm', 'openai-chat'), 'openai', 'API to call; vllm is openai'),
  'base-url': flag(text('url'), UNSET, 'server, instead of --host and --port'),
  host: flag(text('address'), '127.0.0.1', 'host of the server'),
  port: flag(integer(1, 65535), '8000', 'port of the server'),
  endpoint: flag(text('path'), UNSET, 'path of the API; default: as OpenAI has it'),
  header: flag(
    { ...pairs('KEY=VALUE', '='), secret: true },
    UNSET,
    'headers of every request; $OPENAI_API_KEY is sent as bearer',
  ),
  insecure: flag(onOff(), 'false', 'take any TLS certificate'),
  model: flag(text('name'), UNSET, 'model to ask for; default: the first that the server lists'),
  'served-model-name': flag(text('name'), UNSET, 'its name in the API; default: --model'),
  tokenizer: flag(text('folder'), UNSET, 'model folder to make text with; default: token ids'),
  ...SEAL_PARAMETERS,
  'vocab-size': flag(
    integer(32, 2 ** 24),
    '4096',
    'without --tokenizer, token ids come from 16 up to below this',
  ),
  'dataset-name': flag(
    oneOf('random', 'custom', 'sharegpt', 'timed_trace'),
    'random',
    'what to send',
  ),
  'dataset-path': flag(text('file'), UNSET, 'file of custom, sharegpt or timed_trace'),
  'num-prompts': flag(integer(1, 1e7), '1000', 'requests; of a trace, the first so many'),
  seed: flag(integer(0, WHOLE_MAX), '0', 'of everything random'),
  'disable-shuffle': flag(onOff(), 'false', 'keep the order of the file'),
  'no-oversample': flag(onOff(), 'false', 'send no prompt of a file twice'),
  'input-len': flag(integer(0, 1e7), UNSET, 'same as --random-input-len'),
  'output-len': flag(integer(1, 1e7), UNSET, 'output length of any data set but a trace'),
  'random-input-len': flag(integer(0, 1e7), '1024', 'tokens of a random prompt'),
  'random-output-len': flag(integer(1, 1e7), '128', 'tokens of its answer'),
  'random-range-ratio': flag(number(0, 0.999999), '0', 'lengths vary by this part of them'),
  'random-prefix-len': flag(integer(0, 1e7), '0', 'tokens that all random prompts begin with'),
  'custom-output-len': flag(lengthOrNone(), '256', 'output length; -1: output_tokens of the file'),
  'sharegpt-output-len': flag(integer(1, 1e7), UNSET, 'output length; default: as recorded'),
  'timed-trace-chunk-hash-size': flag(integer(1, 1e6), '512', 'tokens of one of hash_ids'),
  'timed-trace-sec-multiplier': flag(
    number(0, 1e9),
    UNSET,
    'seconds of 1 in the time column; default: 0.001 in JSON lines, 1 in CSV',
  ),
  'self-timed': flag(onOff(), UNSET, "send at the trace's times; default with timed_trace"),
  'request-rate': flag(positive(), 'inf', 'requests a second; inf: all at once'),
  burstiness: flag(positive(), '1', '1: Poisson; less: in bursts; more, up to inf: evenly'),
  'max-concurrency': flag(integer(1, 1e6), UNSET, 'requests open at a time; default: no limit'),
  'num-warmups': flag(integer(0, 1e6), '0', 'times the first request is sent before'),
  'ready-check-timeout-sec': flag(integer(0, 86400), '0', 'wait for the server; 0: do not'),
  timeout: flag(number(0.001, 86400), '600', 'seconds of silence after which a request fails'),
  'ignore-eos': flag(onOff(), 'false', 'go on to the full length; always with random and traces'),
  temperature: flag(number(0, 100), UNSET, "default: the server's"),
  'top-p': flag(number(0, 1), UNSET, "default: the server's"),
  'top-k': flag(number(-1, 1e9), UNSET, "default: the server's"),
  'min-p': flag(number(0, 1), UNSET, "default: the server's"),
  'frequency-penalty': flag(number(-2, 2), UNSET, "default: the server's"),
  'presence-penalty': flag(number(-2, 2), UNSET, "default: the server's"),
  'repetition-penalty': flag(number(0, 100), UNSET, "default: the server's"),
  'extra-body': flag(text('json'), UNSET, 'more fields of every request'),
  'percentile-metrics': flag(
    texts('names'),
    'ttft,tpot,itl',
    'what is printed, also e2el, client_queue_time, e2el_including_client_queue',
  ),
  'metric-percentiles': flag(texts('p,p'), '99', 'percentiles of these'),
  goodput: flag(pairs('metric:ms', ':'), UNSET, 'objectives for ttft, tpot, e2el'),
  'request-id-prefix': flag(text('prefix'), 'bench-', 'of X-Request-Id'),
  label: flag(text('name'), UNSET, 'name of the result; default: --backend'),
  metadata: flag(pairs('KEY=VALUE', '='), UNSET, 'noted in the result'),
  'save-result': flag(onOff(), 'false', "write a file in vLLM's format"),
  'save-detailed': flag(onOff(), 'false', 'with the times of every request'),
  'append-result': flag(onOff(), 'false', 'at the end of the file'),
  'result-dir': flag(text('folder'), UNSET, 'where to'),
  'result-filename': flag(text('file'), UNSET, 'default: label, rate, model and date'),
  'disable-tqdm': flag(onOff(), 'false', 'no progress'),
} as const satisfies Readonly<Record<string, SuiteParameter>>;

/** What the flags said, by flag. */
export type ServeValues = {
  readonly [F in keyof typeof SERVE_FLAGS]: (typeof SERVE_FLAGS)[F] extends {
    readonly kind: Kind<infer T>;
    readonly default: infer D;
  }
    ? D extends string
      ? T
      : T | undefined
    : never;
};
