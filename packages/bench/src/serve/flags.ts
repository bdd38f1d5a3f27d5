import {
  type FlagTable,
  flag,
  integer,
  kindOf,
  listOf,
  number,
  oneOf,
  onOff,
  repeated,
  secret,
  text,
  type Values,
} from '@bridgekeeper/server';
import { SEAL_FLAGS } from '../seal.ts';
import { type Goodput, LATENCY_NAMES } from './statistics.ts';

const WHOLE_MAX = 2 ** 32 - 1;
const UNSET = undefined;

type JsonObject = Readonly<Record<string, unknown>>;

/** `inf`, or a number above 0. */
const positive = kindOf('number|inf', 'inf or a number above 0', (value) => {
  const parsed = value.trim() === 'inf' ? Number.POSITIVE_INFINITY : Number(value || 'none');
  return parsed > 0 ? parsed : undefined;
});

type Pair = readonly [string, string];

/** Both sides of the first separator; undefined without one, or with nothing before it. */
function split(text: string, separator: '=' | ':'): Pair | undefined {
  const at = text.indexOf(separator);
  return at > 0 ? [text.slice(0, at).trim(), text.slice(at + 1).trim()] : undefined;
}

const pair = kindOf('KEY=VALUE', 'KEY=VALUE', (value) => split(value, '='));

const header = kindOf('KEY=VALUE', 'KEY=VALUE with characters that HTTP allows', (value) => {
  const [name, field] = pair.parse(value) ?? ['', ''];
  const isAllowed = /^[\w!#$%&'*+.^`|~-]+$/.test(name) && !/[^\t\x20-\x7e\x80-\xff]/.test(field);
  return isAllowed ? ([name, field] as const) : undefined;
});

const objective = kindOf(
  'metric:ms',
  'metric:ms, with ttft, tpot or e2el and milliseconds',
  (value): readonly [keyof Goodput, number] | undefined => {
    const [name, text] = split(value, ':') ?? [];
    const milliseconds = text === '' ? Number.NaN : Number(text);
    const isKnown = name === 'ttft' || name === 'tpot' || name === 'e2el';
    return isKnown && milliseconds >= 0 ? [name, milliseconds] : undefined;
  },
);

const jsonObject = kindOf('json', 'a JSON object', (value): JsonObject | undefined => {
  try {
    const read: unknown = JSON.parse(value);
    const isObject = typeof read === 'object' && read !== null && !Array.isArray(read);
    return isObject ? (read as JsonObject) : undefined;
  } catch {
    return undefined;
  }
});

const length = integer(1, 1e7);

const lengthOrNone = kindOf('n', `-1, or ${length.what}`, (value) =>
  value.trim() === '-1' ? -1 : length.parse(value),
);

/** The flags of `bench serve`: vLLM's names, meanings and defaults where vLLM has them. */
export const SERVE_FLAGS = {
  backend: flag(oneOf('openai', 'vllm', 'openai-chat'), 'openai', 'API to call; vllm is openai'),
  baseUrl: flag(text('url'), UNSET, 'server, instead of --host and --port'),
  host: flag(text('address'), '127.0.0.1', 'host of the server'),
  port: flag(integer(1, 65535), 8000, 'port of the server'),
  endpoint: flag(text('path'), UNSET, 'path of the API; default: as OpenAI has it'),
  header: flag(
    secret(repeated(header)),
    [],
    'headers of every request; $OPENAI_API_KEY is sent as bearer',
  ),
  insecure: flag(onOff(), false, 'take any TLS certificate'),
  model: flag(text('name'), UNSET, 'model to ask for; default: the first that the server lists'),
  servedModelName: flag(text('name'), UNSET, 'its name in the API; default: --model'),
  tokenizer: flag(text('folder'), UNSET, 'model folder to make text with; default: token ids'),
  ...SEAL_FLAGS,
  vocabSize: flag(
    integer(32, 2 ** 24),
    4096,
    'without --tokenizer, token ids come from 16 up to below this',
  ),
  datasetName: flag(oneOf('random', 'custom', 'sharegpt', 'timed_trace'), 'random', 'what to send'),
  datasetPath: flag(text('file'), UNSET, 'file of custom, sharegpt or timed_trace'),
  numPrompts: flag(integer(1, 1e7), 1000, 'requests; of a trace, the first so many'),
  seed: flag(integer(0, WHOLE_MAX), 0, 'of everything random'),
  disableShuffle: flag(onOff(), false, 'keep the order of the file'),
  oversample: flag(onOff(), true, 'send prompts of a file again where it has too few'),
  inputLen: flag(integer(0, 1e7), UNSET, 'same as --random-input-len'),
  outputLen: flag(integer(1, 1e7), UNSET, 'output length of any data set but a trace'),
  randomInputLen: flag(integer(0, 1e7), 1024, 'tokens of a random prompt'),
  randomOutputLen: flag(integer(1, 1e7), 128, 'tokens of its answer'),
  randomRangeRatio: flag(number(0, 0.999999), 0, 'lengths vary by this part of them'),
  randomPrefixLen: flag(integer(0, 1e7), 0, 'tokens that all random prompts begin with'),
  customOutputLen: flag(lengthOrNone, 256, 'output length; -1: output_tokens of the file'),
  sharegptOutputLen: flag(integer(1, 1e7), UNSET, 'output length; default: as recorded'),
  timedTraceChunkHashSize: flag(integer(1, 1e6), 512, 'tokens of one of hash_ids'),
  timedTraceSecMultiplier: flag(
    number(0, 1e9),
    UNSET,
    'seconds of 1 in the time column; default: 0.001 in JSON lines, 1 in CSV',
  ),
  selfTimed: flag(onOff(), UNSET, "send at the trace's times; default with timed_trace"),
  requestRate: flag(positive, Number.POSITIVE_INFINITY, 'requests a second; inf: all at once'),
  burstiness: flag(positive, 1, '1: Poisson; less: in bursts; more, up to inf: evenly'),
  maxConcurrency: flag(integer(1, 1e6), UNSET, 'requests open at a time; default: no limit'),
  numWarmups: flag(integer(0, 1e6), 0, 'times the first request is sent before'),
  readyCheckTimeoutSec: flag(integer(0, 86400), 0, 'wait for the server; 0: do not'),
  timeout: flag(number(0.001, 86400), 600, 'seconds of silence after which a request fails'),
  ignoreEos: flag(onOff(), false, 'go on to the full length; always with random and traces'),
  temperature: flag(number(0, 100), UNSET, "default: the server's"),
  topP: flag(number(0, 1), UNSET, "default: the server's"),
  topK: flag(number(-1, 1e9), UNSET, "default: the server's"),
  minP: flag(number(0, 1), UNSET, "default: the server's"),
  frequencyPenalty: flag(number(-2, 2), UNSET, "default: the server's"),
  presencePenalty: flag(number(-2, 2), UNSET, "default: the server's"),
  repetitionPenalty: flag(number(0, 100), UNSET, "default: the server's"),
  extraBody: flag(jsonObject, UNSET, 'more fields of every request'),
  percentileMetrics: flag(
    listOf('names', oneOf(...LATENCY_NAMES)),
    ['ttft', 'tpot', 'itl'],
    'what is printed, also e2el, client_queue_time, e2el_including_client_queue',
  ),
  metricPercentiles: flag(listOf('p,p', number(0, 100)), [99], 'percentiles of these'),
  goodput: flag(repeated(objective), [], 'objectives for ttft, tpot, e2el'),
  requestIdPrefix: flag(text('prefix'), 'bench-', 'of X-Request-Id'),
  label: flag(text('name'), UNSET, 'name of the result; default: --backend'),
  metadata: flag(repeated(pair), [], 'noted in the result'),
  saveResult: flag(onOff(), false, "write a file in vLLM's format"),
  saveDetailed: flag(onOff(), false, 'with the times of every request'),
  appendResult: flag(onOff(), false, 'at the end of the file'),
  resultDir: flag(text('folder'), UNSET, 'where to'),
  resultFilename: flag(text('file'), UNSET, 'default: label, rate, model and date'),
  disableTqdm: flag(onOff(), false, 'no progress'),
} satisfies FlagTable;

export type ServeValues = Values<typeof SERVE_FLAGS>;
