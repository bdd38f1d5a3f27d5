import { fileURLToPath } from 'node:url';
import { ENGINE_TASKS, POLICY_NAMES, TIER_POLICY_NAMES } from '@bridgekeeper/engine';
import { REASONING_PARSERS, TOOL_PARSERS } from '../formats/catalogue.ts';
import { type Flag, type FlagTable, flag, type Values } from './flags.ts';
import {
  digest,
  integer,
  type Kind,
  law,
  named,
  number,
  oneOf,
  onOff,
  secret,
  text,
  texts,
} from './kinds.ts';

function setting<T>(kind: Kind<T>, fallback: T, help: string): Flag<T>;
function setting<T>(kind: Kind<T>, fallback: undefined, help: string): Flag<T | undefined>;
function setting<T>(kind: Kind<T>, fallback: T | undefined, help: string) {
  return { ...flag(kind, fallback, help), isSetting: true as const };
}

/** The model that comes with the repository and the bundle. */
const STORYTELLER = fileURLToPath(new URL('../../../../models/storyteller', import.meta.url));

/** A model folder; without one, the bundled model. */
export const MODEL_FLAG: Flag<string> = {
  ...flag(text('folder'), STORYTELLER, 'model folder in Hugging Face format'),
  defaultName: 'the bundled Storyteller',
};

const UNSET = undefined;

/**
 * Every setting of `serve`. Flags, environment, the configuration file and `doctor` all derive from
 * this table.
 */
export const SETTINGS = {
  model: {
    ...MODEL_FLAG,
    help: `${MODEL_FLAG.help}, or a name in the Hugging Face cache`,
    argument: 'optional',
    isSetting: true,
  },
  revision: setting(text('name'), UNSET, 'branch, tag or commit in that cache; default: main'),
  downloadDir: setting(text('folder'), UNSET, 'that cache; default: where Hugging Face has it'),
  host: setting(text('address'), '127.0.0.1', 'address to listen on'),
  port: setting(integer(0, 65535), 8000, 'port to listen on; 0 takes a free one'),
  uds: setting(text('path'), UNSET, 'listen on this Unix socket instead of host and port'),
  apiKey: {
    ...setting(
      secret(texts('key')),
      [],
      'accept these bearer keys only; may be repeated; also VLLM_API_KEY',
    ),
    alsoFrom: ['VLLM_API_KEY'],
  },
  apiKeyFile: setting(text('file'), UNSET, 'bearer keys, one a line, each with its limits'),
  allowedOrigins: setting(texts('origin'), [], 'browser origins that may call (CORS)'),
  allowedHosts: setting(texts('name'), [], 'host names to answer to without keys; *: any'),
  operatorKey: setting(
    secret(texts('key')),
    [],
    'only these keys read what tells of all keys: metrics, bridge, list of receipts',
  ),
  gatewayKey: setting(
    secret(texts('key')),
    [],
    'keys of gateways, which are believed whose request they pass on',
  ),
  replicaId: setting(text('id'), UNSET, 'what a control plane calls this replica: for receipts'),
  tenancyEpoch: setting(integer(0, 2 ** 48), 0, 'which tenancy of its GPUs that is'),
  fabricLogIndex: setting(
    integer(0, 2 ** 48),
    UNSET,
    'the entry of the host’s fabric log that activated these GPUs',
  ),
  sslKeyfile: setting(text('file'), UNSET, 'TLS private key (PEM)'),
  sslCertfile: setting(text('file'), UNSET, 'TLS certificate chain (PEM)'),
  servedModelName: setting(texts('name'), [], 'names in the API; default: the folder name'),
  task: setting(
    oneOf('auto', ...ENGINE_TASKS),
    'auto',
    'what the model does; auto: embed where its folder says that it embeds, else generate',
  ),
  runner: setting(oneOf('auto', 'generate', 'pooling'), 'auto', 'vLLM’s way to say --task'),
  convert: setting(oneOf('auto', 'none', 'embed', 'classify'), 'auto', 'vLLM’s way to say --task'),
  tensorParallelSize: setting(integer(1, 8), 1, 'GPUs that share the model, each a part of it'),
  enableExpertParallel: setting(
    onOff(),
    false,
    'each of the GPUs that share a model has some of its experts whole, not a part of each',
  ),
  dataParallelSize: setting(
    integer(1, 8),
    1,
    'engines with the whole model, each on GPUs of its own; a request is one engine’s',
  ),
  maxModelLen: setting(integer(1, 2 ** 31), UNSET, 'context in tokens; default: the model says'),
  maxNumSeqs: setting(integer(1, 65536), 64, 'requests decoded together (rows)'),
  maxNumBatchedTokens: setting(integer(1, 2 ** 24), 2048, 'tokens in one step'),
  gpuMemoryUtilization: setting(number(0.01, 1), 0.9, 'share of device memory to use'),
  kvCacheMemoryBytes: setting(integer(1, 2 ** 46), UNSET, 'KV cache in bytes; default: what fits'),
  blockSize: setting(integer(1, 1024), UNSET, 'tokens in a KV page; default: the device says'),
  enablePrefixCaching: setting(onOff(), true, 'share KV pages of equal prefixes in a tenant'),
  stateSnapshots: setting(
    integer(0, 65_536),
    UNSET,
    'states kept of models with delta nets, to find prefixes; default: some for each row',
  ),
  kvOffloadingSize: setting(
    number(0.001, 2 ** 20),
    UNSET,
    'GiB of host memory of each engine for KV that leaves its devices; default: none',
  ),
  kvDiskPath: setting(
    text('folder'),
    UNSET,
    'folder on a disk behind that memory, for encrypted KV; default: none. Gone with the process',
  ),
  kvDiskSize: setting(number(0.001, 2 ** 24), 64, 'GiB of that disk for each engine'),
  kvTierPolicy: setting(
    oneOf(...TIER_POLICY_NAMES),
    'priced',
    'which KV is kept there; priced: what saves more than it costs on this bridge',
  ),
  kvSpillShare: setting(
    number(0, 1),
    0.5,
    'share of the time of its lane that KV may take on its way out of the device',
  ),
  enableSleepMode: setting(
    onOff(),
    false,
    'let operators put the engine to sleep: POST /sleep, /wake_up',
  ),
  engineRestarts: setting(
    integer(0, 1000),
    3,
    'times that an engine that failed is started again within the window; 0: the server ends',
  ),
  engineRestartWindow: setting(number(1, 86400), 600, 'seconds of that window'),
  engineRestartRequests: setting(
    oneOf('fail', 'retry', 'continue'),
    'continue',
    'what becomes of requests then; retry: those of which nothing was sent are done again; ' +
      'continue: others go on behind what was sent',
  ),
  watchdogTimeout: setting(
    number(0, 86400),
    300,
    'seconds without a step after which an engine with requests counts as failed, and without a ' +
      'word after which a start does; of steps on a GPU less once they have shown how long they ' +
      'take; 0: never',
  ),
  enableChunkedPrefill: setting(onOff(), true, 'split long prompts over steps'),
  dtype: setting(oneOf('auto', 'float32', 'bfloat16', 'float16'), 'auto', 'arithmetic type'),
  toolCallParser: setting(
    named('auto', 'off', ...TOOL_PARSERS),
    'auto',
    'how the model writes calls of tools; auto: as its chat template shows',
  ),
  reasoningParser: setting(
    named('auto', 'off', ...REASONING_PARSERS),
    'auto',
    'how the model writes reasoning; auto: as its chat template shows',
  ),
  enableAutoToolChoice: setting(
    onOff(),
    true,
    'read calls where a request leaves them to the model',
  ),
  grammarPoolBytes: setting(
    integer(0, 2 ** 36),
    64 * 2 ** 20,
    'bytes on the device for grammars that answers are held to; 0: no such requests',
  ),
  speculativeConfig: setting(
    text('json'),
    UNSET,
    'draft by n-gram, as {"method": "ngram", "num_speculative_tokens": 4}; default: draft nothing',
  ),
  kvCacheDtype: setting(
    oneOf('auto', 'bfloat16', 'fp8', 'fp8_e4m3'),
    'auto',
    'how KV is stored; auto: as dtype, fp8: E4M3 in half the memory of bfloat16',
  ),
  quantization: setting(oneOf('fp8'), UNSET, 'insist on FP8 weights; default: config.json says'),
  literalUserText: setting(onOff(), false, 'what messages and tools say can open or close no turn'),
  seed: setting(integer(0, 2 ** 53 - 1), 0, 'seed for requests that bring none'),
  loadFormat: setting(oneOf('auto', 'dummy'), 'auto', 'dummy: random weights, no weight files'),
  modelSeal: setting(
    oneOf('off', 'auto', 'require'),
    'auto',
    'verify the model against its manifest; auto: where it has one',
  ),
  sealRoot: setting(digest(), UNSET, 'the root that the model’s manifest must have'),
  sealKeyFile: setting(text('file'), UNSET, 'the key of an encrypted model'),
  sealKeyCommand: setting(text('command'), UNSET, 'a command that prints that key; no shell'),
  device: setting(oneOf('auto', 'cuda', 'cpu', 'model'), 'auto', 'where the model runs'),
  law: setting(law(), 'auto', 'what a crossing of the bridge costs'),
  policy: setting(
    oneOf('auto', ...POLICY_NAMES),
    'auto',
    'how steps and crossings are interleaved',
  ),
  interTokenLimitMs: setting(
    number(1, 10000),
    50,
    'milliseconds that a stream may wait for a token: longest burst, and chunk of a prompt',
  ),
  maxWaitingRequests: setting(integer(0, 1e6), 1024, 'more than this waiting: 429'),
  maxRunningPerKey: setting(integer(1, 65536), UNSET, 'rows of one key; more of it waits'),
  maxWaitingPerKey: setting(integer(0, 1e6), UNSET, 'more of one key than this waiting: 429'),
  tokensPerMinutePerKey: setting(
    integer(1, 1e12),
    UNSET,
    'prompt and generated tokens of one key in a minute; more: 429',
  ),
  maxConnections: setting(integer(1, 1e6), 16384, 'open sockets; more are closed at once'),
  maxBodyBytes: setting(
    integer(1024, 2 ** 30),
    16 * 2 ** 20,
    'bytes of a request body; larger: 413',
  ),
  responseStoreBytes: setting(
    integer(0, 2 ** 40),
    256 * 2 ** 20,
    'memory for responses that /v1/responses keeps; 0: it keeps none',
  ),
  responseStoreSeconds: setting(integer(1, 1e9), 3600, 'seconds that a response is kept'),
  requestTimeout: setting(number(1, 3600), 30, 'seconds a client has to send its request'),
  stallTimeout: setting(number(1, 3600), 60, 'seconds a client may leave a stream unread'),
  shutdownTimeout: setting(number(0, 86400), 30, 'seconds to finish open requests at the end'),
  receipts: setting(
    text('auto|off|memory|file'),
    'auto',
    'where signed receipts of answers are kept; auto: in the state folder',
  ),
  receiptsMax: setting(integer(1, 1e9), 100_000, 'receipts kept; older ones are deleted'),
  receiptsDays: setting(integer(1, 36_500), 30, 'days of running that receipts are kept'),
  logLevel: setting(
    oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal'),
    'info',
    'least severe log line to write',
  ),
  accessLog: setting(onOff(), true, 'a log line for each request, without its text'),
  logInterval: setting(number(0.1, 86400), 10, 'seconds between summary lines'),
  config: setting(text('file'), UNSET, 'YAML file with settings; its keys are these flags'),
  json: setting(onOff(), false, 'one JSON document on standard output, logs on standard error'),
} as const satisfies FlagTable;

export type SettingName = keyof typeof SETTINGS;

/** The values `serve` runs with. undefined: the engine or the model decides. */
export type Settings = Values<typeof SETTINGS>;
