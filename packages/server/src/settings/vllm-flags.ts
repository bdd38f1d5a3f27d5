/**
 * What becomes of a flag of `vllm serve` that is no flag of ours. What both have is in the table of
 * settings.
 */
export interface VllmFlag {
  /** Words that follow it: none, one, one that may be missing, or all up to the next flag. */
  readonly takes: 'none' | 'one' | 'maybe' | 'several';
  readonly verdict: 'harmless' | 'refused';
  /** Harmless with these values and refused with others. */
  readonly only?: readonly string[];
  /** Why it changes nothing here, or why it cannot be had. */
  readonly why: string;
  /** What is said to our own command line in its place. */
  readonly becomes?: readonly string[];
}

type Takes = VllmFlag['takes'];

const ignored = (why: string, takes: Takes = 'none'): VllmFlag => {
  return { takes, verdict: 'harmless', why };
};
const refused = (why: string, takes: Takes = 'none'): VllmFlag => {
  return { takes, verdict: 'refused', why };
};
/** Harmless as long as it says what is so here. */
const only = (values: readonly string[], why: string): VllmFlag => {
  return { takes: 'one', verdict: 'harmless', only: values, why };
};

const ONE_GPU = 'one server has the GPUs of one host, by tensor and data parallelism';
const ONE_PROCESS = 'HTTP and engine are threads of one process';
const NO_CODE = 'code of a model is never run';
const TEXT_ONLY = 'models here read and write text only';
const NO_ADAPTERS = 'adapters are not supported';
const NO_PROMPTS = 'prompts and answers are never logged';
const KERNELS = 'kernels and graphs are made by the device, and the same whatever this says';
const ONE_COMPILER = 'grammars are compiled one way';
const ALWAYS = 'it is always so here';
const LOADING = 'how weights come to the device is decided from the machine';
const SEE_TEMPLATE = "the chat template is the model's own, as its files and its seal have it";
const FILES = 'what the files say is what is served';
const TELEMETRY = 'there is no telemetry; /metrics has the counters';
const KV_TRANSFER = 'KV does not leave this process';
const NO_TUNING = 'the step scheduler has no such choice';

/**
 * By name without dashes. Held against vLLM's own parser (`engine/arg_utils.py` of 0.11 and
 * `entrypoints/openai/cli_args.py` of 2026), and what later releases added.
 */
export const VLLM_FLAGS: Readonly<Record<string, VllmFlag>> = {
  // Model.
  'trust-remote-code': ignored(NO_CODE),
  tokenizer: refused('the tokenizer is the one in the model folder', 'one'),
  'tokenizer-mode': only(['auto', 'hf'], 'the tokenizer is the one in the model folder'),
  'tokenizer-revision': refused('the tokenizer is the one in the model folder', 'one'),
  'skip-tokenizer-init': refused('the API needs the tokenizer'),
  'code-revision': ignored(NO_CODE, 'one'),
  'hf-config-path': refused(FILES, 'one'),
  'hf-overrides': refused(FILES, 'one'),
  'hf-token': ignored('nothing is fetched: models come from a folder or the cache', 'maybe'),
  'config-format': only(['auto', 'hf'], 'folders are in Hugging Face format'),
  'rope-scaling': refused(FILES, 'one'),
  'rope-theta': refused(FILES, 'one'),
  'override-attention-dtype': refused('attention has the type of `--dtype`', 'one'),
  'generation-config': only(['auto'], 'its defaults are those of the model folder'),
  'override-generation-config': refused('send parameters with the request', 'one'),
  'model-impl': only(['auto', 'vllm'], 'there is one implementation of each architecture'),
  'logits-processors': refused(NO_CODE, 'several'),
  'logits-processor-pattern': refused(NO_CODE, 'one'),
  'max-logprobs': ignored('a request may ask for 20 at most', 'one'),
  'logprobs-mode': only(['raw_logprobs'], 'logprobs are those of the model, before sampling'),
  'disable-sliding-window': refused('attention is as the model defines it'),
  'disable-cascade-attn': ignored(KERNELS),
  'enable-prompt-embeds': refused('prompts are text or token ids'),
  'allow-deprecated-quantization': ignored('unknown formats are refused by name'),
  'served-model-config': refused(FILES, 'one'),
  'pooler-config': refused('texts are pooled in one way', 'one'),
  'override-pooler-config': refused('texts are pooled in one way', 'one'),
  // Loading.
  'model-loader-extra-config': ignored(LOADING, 'one'),
  'safetensors-load-strategy': ignored(LOADING, 'one'),
  'ignore-patterns': ignored('nothing is fetched', 'several'),
  'use-tqdm-on-load': ignored('progress is in the log'),
  'pt-load-map-location': ignored('weights are safetensors', 'one'),
  'max-parallel-loading-workers': ignored(LOADING, 'one'),
  'weight-transfer-config': refused('weights do not change while they are served', 'one'),
  // Parallelism.
  'pipeline-parallel-size': only(['1'], ONE_GPU),
  'data-parallel-size-local': only(['1'], ONE_GPU),
  'data-parallel-rank': only(['0'], ONE_GPU),
  'data-parallel-start-rank': only(['0'], ONE_GPU),
  'data-parallel-address': refused(ONE_GPU, 'one'),
  'data-parallel-rpc-port': refused(ONE_GPU, 'one'),
  'data-parallel-backend': ignored(ONE_GPU, 'one'),
  'data-parallel-hybrid-lb': refused(ONE_GPU),
  'data-parallel-external-lb': refused(ONE_GPU),
  'data-parallel-multi-port-external-lb': refused(ONE_GPU),
  'data-parallel-supervisor-port': ignored(ONE_GPU, 'one'),
  'dp-supervisor-probe-interval-s': ignored(ONE_GPU, 'one'),
  'dp-supervisor-probe-timeout-s': ignored(ONE_GPU, 'one'),
  'dp-supervisor-probe-failure-threshold': ignored(ONE_GPU, 'one'),
  'prefill-context-parallel-size': only(['1'], ONE_GPU),
  'decode-context-parallel-size': only(['1'], ONE_GPU),
  'enable-eplb': refused(ONE_GPU),
  'eplb-config': refused(ONE_GPU, 'one'),
  'num-redundant-experts': only(['0'], ONE_GPU),
  'eplb-window-size': ignored(ONE_GPU, 'one'),
  'eplb-step-interval': ignored(ONE_GPU, 'one'),
  'eplb-log-balancedness': ignored(ONE_GPU),
  'all2all-backend': refused(ONE_GPU, 'one'),
  'expert-placement-strategy': refused(ONE_GPU, 'one'),
  'enable-dbo': refused(NO_TUNING),
  'dbo-decode-token-threshold': ignored(NO_TUNING, 'one'),
  'dbo-prefill-token-threshold': ignored(NO_TUNING, 'one'),
  'distributed-executor-backend': ignored(ONE_GPU, 'one'),
  'distributed-timeout-seconds': ignored(ONE_GPU, 'one'),
  'disable-custom-all-reduce': ignored(ONE_GPU),
  'disable-nccl-for-dp-synchronization': ignored(ONE_GPU),
  'ray-workers-use-nsight': ignored(ONE_GPU),
  'worker-cls': refused(NO_CODE, 'one'),
  'worker-extension-cls': refused(NO_CODE, 'one'),
  nnodes: only(['1'], ONE_GPU),
  'node-rank': only(['0'], ONE_GPU),
  'master-addr': refused(ONE_GPU, 'one'),
  'master-port': refused(ONE_GPU, 'one'),
  headless: refused(ONE_PROCESS),
  'api-server-count': only(['1'], ONE_PROCESS),
  'disable-frontend-multiprocessing': ignored(ONE_PROCESS),
  // KV cache.
  'num-gpu-blocks-override': refused('say `--kv-cache-memory-bytes`', 'one'),
  'kv-cache-memory': refused('say `--kv-cache-memory-bytes`', 'one'),
  'calculate-kv-scales': refused('FP8 KV has no scales here'),
  'swap-space': ignored('what has no room on the device is computed again', 'one'),
  'cpu-offload-gb': only(['0'], 'weights do not leave the device'),
  'cpu-offload-params': refused('weights do not leave the device', 'several'),
  'kv-offloading-backend': only(['native'], 'pages are moved by this process'),
  'kv-transfer-config': refused(KV_TRANSFER, 'one'),
  'kv-events-config': refused(KV_TRANSFER, 'one'),
  'ec-transfer-config': refused(TEXT_ONLY, 'one'),
  'kv-sharing-fast-prefill': refused('each layer has KV of its own'),
  'prefix-caching-hash-algo': ignored(
    'keys are chains of SHA-256 that begin with the tenant',
    'one',
  ),
  'mamba-cache-dtype': refused('states of delta nets are as they are computed', 'one'),
  'mamba-ssm-cache-dtype': refused('states of delta nets are as they are computed', 'one'),
  'mamba-block-size': refused('states are kept between KV pages: say `--block-size`', 'one'),
  // Scheduling.
  'max-num-partial-prefills': ignored(NO_TUNING, 'one'),
  'max-long-partial-prefills': ignored(NO_TUNING, 'one'),
  'long-prefill-token-threshold': ignored(NO_TUNING, 'one'),
  'scheduling-policy': only(['fcfs'], 'keys share by weight, and each is first come, first served'),
  'scheduler-cls': refused(NO_CODE, 'one'),
  'async-scheduling': ignored('`--policy` says when steps and crossings are made'),
  'disable-chunked-mm-input': ignored(TEXT_ONLY),
  'disable-hybrid-kv-cache-manager': ignored('KV is contiguous over all layers'),
  'num-lookahead-slots': ignored(NO_TUNING, 'one'),
  'num-scheduler-steps': ignored('`--policy` says how many steps a launch has', 'one'),
  'stream-interval': ignored('a stream has one chunk for each step that brought it tokens', 'one'),
  'use-v2-block-manager': ignored(ALWAYS),
  // Kernels and graphs.
  'enforce-eager': ignored(KERNELS),
  'compilation-config': ignored(KERNELS, 'one'),
  'optimization-level': ignored(KERNELS, 'one'),
  'attention-backend': ignored(KERNELS, 'one'),
  'attention-config': ignored(KERNELS, 'one'),
  'cudagraph-capture-sizes': ignored(KERNELS, 'several'),
  'max-cudagraph-capture-size': ignored(KERNELS, 'one'),
  'cuda-graph-sizes': ignored(KERNELS, 'several'),
  'max-seq-len-to-capture': ignored(KERNELS, 'one'),
  'additional-config': refused('settings have flags of their own', 'one'),
  // Chat, tools, reasoning.
  'chat-template': refused(SEE_TEMPLATE, 'one'),
  'chat-template-content-format': only(['auto'], 'the template decides what it is given'),
  'trust-request-chat-template': refused(SEE_TEMPLATE),
  'default-chat-template-kwargs': refused('send `chat_template_kwargs` with the request', 'one'),
  'response-role': only(['assistant'], 'answers have the role `assistant`'),
  'tool-parser-plugin': refused(NO_CODE, 'one'),
  'tool-server': refused('tools run with the client', 'one'),
  'exclude-tools-when-tool-choice-none': refused('tools are given to the template'),
  'reasoning-parser-plugin': refused(NO_CODE, 'one'),
  'structured-outputs-config': refused(ONE_COMPILER, 'one'),
  'guided-decoding-backend': ignored(ONE_COMPILER, 'one'),
  'guided-decoding-disable-fallback': ignored(ONE_COMPILER, 'one'),
  'guided-decoding-disable-any-whitespace': refused(
    'JSON is written with a space behind , and : or none',
    'one',
  ),
  'guided-decoding-disable-additional-properties': refused(
    'a schema says whether there may be more properties',
    'one',
  ),
  'return-tokens-as-token-ids': refused('tokens are text in `logprobs`'),
  'enable-force-include-usage': refused('send `stream_options` with the request'),
  'enable-prompt-tokens-details': ignored(ALWAYS),
  'enable-tokenizer-info-endpoint': refused('there is no such route'),
  'tokens-only': refused('every route is served'),
  'fingerprint-mode': only(['none'], 'answers carry no `system_fingerprint`'),
  'fingerprint-value': refused('answers carry no `system_fingerprint`', 'one'),
  'enable-per-request-metrics': refused('answers carry no timings; /metrics has them'),
  'enable-flash-late-interaction': ignored('no model here compares texts token by token'),
  'cohere-is-reasoning-model': ignored('there is no route of Cohere’s'),
  'cohere-format': ignored('there is no route of Cohere’s', 'one'),
  grpc: refused('the API is HTTP'),
  // Media, adapters, pooling.
  'limit-mm-per-prompt': ignored(TEXT_ONLY, 'one'),
  'mm-processor-kwargs': ignored(TEXT_ONLY, 'one'),
  'mm-processor-cache-gb': ignored(TEXT_ONLY, 'one'),
  'mm-processor-cache-type': ignored(TEXT_ONLY, 'one'),
  'mm-encoder-tp-mode': ignored(TEXT_ONLY, 'one'),
  'mm-encoder-attn-backend': ignored(TEXT_ONLY, 'one'),
  'mm-shm-cache-max-object-size-mb': ignored(TEXT_ONLY, 'one'),
  'disable-mm-preprocessor-cache': ignored(TEXT_ONLY),
  'enable-multimodal-encoder-data-parallel': ignored(TEXT_ONLY),
  'media-io-kwargs': ignored(TEXT_ONLY, 'one'),
  'interleave-mm-strings': ignored(TEXT_ONLY),
  'skip-mm-profiling': ignored(TEXT_ONLY),
  'video-pruning-rate': ignored(TEXT_ONLY, 'one'),
  'language-model-only': ignored(TEXT_ONLY),
  'enable-mm-embeds': refused(TEXT_ONLY),
  'allowed-local-media-path': refused(TEXT_ONLY, 'one'),
  'allowed-media-domains': refused(TEXT_ONLY, 'several'),
  'io-processor-plugin': refused(NO_CODE, 'one'),
  'enable-lora': refused(NO_ADAPTERS),
  'lora-modules': refused(NO_ADAPTERS, 'several'),
  'max-loras': refused(NO_ADAPTERS, 'one'),
  'max-lora-rank': refused(NO_ADAPTERS, 'one'),
  'lora-dtype': refused(NO_ADAPTERS, 'one'),
  'lora-extra-vocab-size': refused(NO_ADAPTERS, 'one'),
  'max-cpu-loras': refused(NO_ADAPTERS, 'one'),
  'fully-sharded-loras': refused(NO_ADAPTERS),
  'default-mm-loras': refused(NO_ADAPTERS, 'one'),
  // HTTP.
  'uvicorn-log-level': ignored('`--log-level` is for all of it', 'one'),
  'disable-uvicorn-access-log': {
    ...ignored('as `--no-access-log`'),
    becomes: ['--no-access-log'],
  },
  'disable-access-log-for-endpoints': ignored('/health and /metrics are logged at debug', 'one'),
  'allow-credentials': refused('browsers send no cookies to this server'),
  'allowed-methods': ignored('each route has one method', 'one'),
  'allowed-headers': ignored('what clients of OpenAI send is allowed', 'one'),
  'ssl-ca-certs': refused('clients are known by keys, not by certificates', 'one'),
  'ssl-cert-reqs': only(['0'], 'clients are known by keys, not by certificates'),
  'ssl-ciphers': refused("Node's list of ciphers is in use", 'one'),
  'enable-ssl-refresh': refused('certificates are read once, at start'),
  'root-path': refused('have the proxy strip its path', 'one'),
  middleware: refused(NO_CODE, 'one'),
  'enable-request-id-headers': ignored(ALWAYS),
  'disable-fastapi-docs': ignored('the only such page is /openapi.json, and needs a key'),
  'enable-offline-docs': ignored('no page loads anything from elsewhere'),
  'h11-max-incomplete-event-size': ignored('heads of requests are bounded', 'one'),
  'h11-max-header-count': ignored('heads of requests are bounded', 'one'),
  'enable-server-load-tracking': ignored('/metrics has the load'),
  // Logs and telemetry.
  'disable-log-stats': ignored('say `--log-level warn`, or a longer `--log-interval`'),
  'aggregate-engine-logging': ignored(ONE_GPU),
  'enable-log-requests': ignored(NO_PROMPTS),
  'disable-log-requests': ignored(NO_PROMPTS),
  'enable-log-outputs': refused(NO_PROMPTS),
  'enable-log-deltas': ignored(NO_PROMPTS),
  'max-log-len': ignored(NO_PROMPTS, 'one'),
  'log-config-file': refused('say `--log-level`', 'one'),
  'log-error-stack': ignored('an unforeseen error leaves its stack in the log'),
  'collect-detailed-traces': refused(TELEMETRY, 'several'),
  'otlp-traces-endpoint': refused(TELEMETRY, 'one'),
  'show-hidden-metrics-for-version': ignored(TELEMETRY, 'one'),
  'kv-cache-metrics': ignored(TELEMETRY),
  'cudagraph-metrics': ignored(TELEMETRY),
  'enable-layerwise-nvtx-tracing': ignored(TELEMETRY),
  'profiler-config': refused(TELEMETRY, 'one'),
};

/** vLLM's short forms. */
export const VLLM_ALIASES: Readonly<Record<string, string>> = {
  '-tp': 'tensor-parallel-size',
  '-pp': 'pipeline-parallel-size',
  '-dp': 'data-parallel-size',
  '-dpl': 'data-parallel-size-local',
  '-dpn': 'data-parallel-rank',
  '-dpr': 'data-parallel-start-rank',
  '-dpa': 'data-parallel-address',
  '-dpp': 'data-parallel-rpc-port',
  '-dpb': 'data-parallel-backend',
  '-dcp': 'decode-context-parallel-size',
  '-pcp': 'prefill-context-parallel-size',
  '-asc': 'api-server-count',
  '-cc': 'compilation-config',
  '-O': 'optimization-level',
  '-ac': 'attention-config',
  '-sc': 'speculative-config',
  '-q': 'quantization',
  '-n': 'nnodes',
  '-r': 'node-rank',
};
