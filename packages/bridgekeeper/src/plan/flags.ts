import {
  flag,
  integer,
  kindOf,
  listOf,
  number,
  oneOf,
  onOff,
  requiredArgument,
  text,
  texts,
} from '@bridgekeeper/server';

/** `500..560`: milliseconds. */
const span = kindOf('from..to', 'milliseconds from..to, 10000 at most', (value) => {
  const [, from, to] = /^(\d{1,9}(?:\.\d+)?)\.\.(\d{1,9}(?:\.\d+)?)$/.exec(value) ?? [];
  const window = { fromMs: Number(from), toMs: Number(to) };
  const lengthMs = window.toMs - window.fromMs;
  return lengthMs > 0 && lengthMs <= 10_000 ? window : undefined;
});

const milliseconds = number(0.001, 1e9);

export const PLAN_FLAGS = {
  model: flag(
    text('name'),
    undefined,
    'a name that is known, such as gpt-oss-120b, a folder, or a config.json',
  ),
  gpu: flag(text('name'), undefined, 'h100, h200, b200, b300, gb200 or rtx-pro-6000'),
  law: flag(
    texts('laws'),
    ['auto'],
    'bridges, separated by commas: off, a reference profile, a file; auto: the GPU’s, published',
  ),
  workload: flag(
    text('load'),
    '8 at a time, 1024+256',
    'a trace (Mooncake, Azure or our JSON lines), or words: "4 req/s, 1024+128"',
  ),
  engine: flag(
    texts('engines'),
    undefined,
    'engines, separated by commas, or all, vllm, sglang, trtllm, bridgekeeper; default: the usual',
  ),
  sweepConcurrency: flag(
    listOf('n,n', integer(1, 4096)),
    undefined,
    'also so many requests at a time; default: 1,8,32,128 where a page is written',
  ),
  sweepRate: flag(listOf('r,r', number(0.001, 1e5)), [], 'also so many requests a second'),
  sloTtftMs: flag(milliseconds, undefined, 'limit: milliseconds to the first token'),
  sloItlMs: flag(milliseconds, undefined, 'limit: milliseconds between tokens, on average'),
  sloE2eMs: flag(milliseconds, undefined, 'limit: milliseconds of a whole answer'),
  fleetRate: flag(
    number(0.001, 1e9),
    undefined,
    'requests a second that a fleet must take within the limits',
  ),
  recommend: flag(onOff(), true, 'try what may be changed, and write command lines'),
  maxModelLen: flag(
    integer(1, 2 ** 24),
    undefined,
    'context in tokens; default: what the model has and fits, 131072 at most',
  ),
  maxNumSeqs: flag(integer(1, 65536), 256, 'requests decoded together'),
  maxNumBatchedTokens: flag(integer(1, 2 ** 20), 8192, 'tokens in one step'),
  gpuMemoryUtilization: flag(number(0.01, 1), 0.9, 'share of GPU memory to use'),
  kvCacheDtype: flag(oneOf('auto', 'fp8'), 'auto', 'how KV is stored'),
  enablePrefixCaching: flag(onOff(), true, 'share KV of equal prefixes'),
  tensorParallelSize: flag(integer(1, 8), 1, 'GPUs that share the model'),
  dataParallelSize: flag(
    integer(1, 8),
    1,
    'engines of one replica behind one address, each on so many GPUs of its own',
  ),
  enableExpertParallel: flag(onOff(), false, 'give each of these GPUs some experts whole'),
  speculativeConfig: flag(
    text('json'),
    undefined,
    'our own policies draft by n-gram, as {"method": "ngram", "num_speculative_tokens": 4}',
  ),
  draftAcceptance: flag(
    number(0, 1),
    undefined,
    'how often a draft is right when all before it were: it depends on the text',
  ),
  graphs: flag(oneOf('full', 'piecewise', 'eager'), 'full', 'how decode steps are launched'),
  interTokenLimitMs: flag(number(1, 10000), 50, 'of our own policies: longest burst'),
  stepFactor: flag(
    number(0.1, 10),
    1,
    'what kernels take of the time that the roofline gives them',
  ),
  observed: flag(
    text('file'),
    undefined,
    'a document of plan observe: that engine’s host takes the time that was seen',
  ),
  guestMemory: flag(
    integer(2 ** 30, 2 ** 46),
    256 * 2 ** 30,
    'bytes of the confidential VM, such as 256G',
  ),
  acceptMemory: flag(
    oneOf('lazy', 'eager'),
    'lazy',
    'when its firmware accepts memory: when touched, or all before the boot',
  ),
  requests: flag(integer(1, 1_000_000), 2000, 'of a trace, so many requests at most'),
  traceChunkTokens: flag(integer(1, 2 ** 20), 512, 'tokens that one of hash_ids stands for'),
  skipTooLong: flag(onOff(), false, 'leave out requests that the model cannot take'),
  window: flag(span, undefined, 'what timelines show, in milliseconds from the first arrival'),
  threads: flag(integer(1, 256), undefined, 'threads that simulate; default: one a core'),
  seed: flag(integer(0, 2 ** 31 - 1), 0, 'of everything that is drawn'),
  html: flag(text('file'), undefined, 'write a report with plots here'),
  perfetto: flag(text('file'), undefined, 'write the window’s timelines here, for Perfetto'),
  out: flag(text('file'), undefined, 'write the result here, as JSON'),
  json: flag(onOff(), false, 'as one JSON document'),
};

export const OBSERVE_FLAGS = {
  url: requiredArgument(text('url'), 'a server with OpenAI’s API; its key: OPENAI_API_KEY'),
  concurrency: flag(listOf('n,n', integer(1, 4096)), [1, 2, 4, 8], 'requests at a time'),
  promptTokens: flag(integer(1, 2 ** 20), 128, 'tokens of each prompt, about'),
  outputTokens: flag(integer(2, 2 ** 20), 64, 'tokens of each answer'),
  servedModelName: flag(text('name'), undefined, 'the model in its API; default: it is asked'),
  chat: flag(onOff(), false, 'ask /v1/chat/completions'),
  model: { ...PLAN_FLAGS.model, help: 'what it serves, to compare with its prediction' },
  gpu: { ...PLAN_FLAGS.gpu, help: 'what it runs on, to compare with its prediction' },
  law: flag(text('law'), 'off', 'the bridge that it has'),
  engine: flag(text('engine'), 'bridgekeeper-resident', 'what it is'),
  timeout: flag(integer(1, 86_400), 120, 'seconds in which nothing may come'),
  insecure: flag(onOff(), false, 'take any certificate'),
  out: flag(text('file'), undefined, 'write the result here, as JSON'),
  json: flag(onOff(), false, 'as one JSON document'),
};
