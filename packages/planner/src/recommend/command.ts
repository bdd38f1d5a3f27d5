import type { PlannedDrafts, Scenario } from '../simulate/scenario.ts';
import { type Change, type Family, familyOf } from './change.ts';

/** How an engine is started for a scenario, as a person would write it. */
export interface StartLine {
  readonly command: string;
  /** What has to lie beside it; null: nothing. */
  readonly file: { readonly name: string; readonly text: string } | null;
  /** What is written although no simulation shows what it brings, and why. */
  readonly notes: readonly Note[];
}

export interface Note {
  readonly setting: string;
  readonly reason: string;
  readonly source: string;
}

/** The command line of the scenario's engine with its flags and what `changes` write. */
export function startLine(scenario: Scenario, changes: readonly Change[]): StartLine {
  const added = changes.flatMap(({ adds }) => adds ?? []);
  return LINES[familyOf(scenario.engine)](scenario, added, scenario.model.path);
}

const quoted = (path: string) =>
  /^[\w./:@-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;

const V1_RUNNER: Note = {
  setting: 'VLLM_USE_V2_MODEL_RUNNER=0',
  reason:
    'the V2 runner reads its inputs through mapped host memory, which may be stale: wrong answers',
  source: 'vllm-project/vllm#57224 (open)',
};
const STREAMED_LOADING: Note = {
  setting: '--load-format runai_streamer',
  reason:
    'the default loader copies tensor by tensor: 287 s for gpt-oss-120b on a confidential B300',
  source: 'arXiv 2606.23969; launch flags of operators of confidential vLLM',
};
const NO_CUSTOM_ALL_REDUCE: Note = {
  setting: '--disable-custom-all-reduce',
  reason: 'it shares buffers by CUDA IPC, which protected PCIe does not support',
  source: 'NVIDIA developer forum 339980',
};
const NO_HOST_KV: Note = {
  setting: 'kv_cache_config.host_cache_size: 0',
  reason: 'KV in host memory is registered with CUDA, which confidential computing refuses',
  source: 'NVIDIA/TensorRT-LLM#13693',
};

/** Of trtllm-serve, which has no engines beside each other. */
const serversNote = (count: number): Note => ({
  setting: `${count} servers`,
  reason: 'start it so often, on GPUs of its own each, behind a router: it has no flag for that',
  source: 'TensorRT-LLM’s documentation of trtllm-serve',
});

/** Settings of notes that stand on the command line, in front of it or behind. */
const settingsOf = (notes: readonly Note[]) =>
  notes.map(({ setting }) => setting).filter((setting) => setting.startsWith('--'));

/** Of our own configuration file, which takes vLLM's JSON. */
function speculativeLine({ drafts, lookupMin, lookupMax }: PlannedDrafts): string {
  const config = {
    method: 'ngram',
    num_speculative_tokens: drafts,
    prompt_lookup_max: lookupMax,
    prompt_lookup_min: lookupMin,
  };
  return `speculative-config: '${JSON.stringify(config)}'`;
}

type Line = (scenario: Scenario, added: readonly string[], model: string) => StartLine;

const LINES: Readonly<Record<Family, Line>> = {
  vllm: ({ flags, law }, added, model) => {
    const hasCc = law?.confidential === true;
    const notes = [
      ...(hasCc ? [V1_RUNNER, STREAMED_LOADING] : []),
      ...(hasCc && flags.tensorParallel > 1 ? [NO_CUSTOM_ALL_REDUCE] : []),
    ];
    const words = [
      ...(hasCc ? [V1_RUNNER.setting] : []),
      `vllm serve ${quoted(model)}`,
      `--max-model-len ${flags.maxModelTokens}`,
      `--max-num-seqs ${flags.maxRows}`,
      `--max-num-batched-tokens ${flags.maxBatchTokens}`,
      `--gpu-memory-utilization ${flags.memoryUtilization}`,
      ...(flags.kvFormat === 'element' ? [] : ['--kv-cache-dtype fp8']),
      ...(flags.tensorParallel === 1 ? [] : [`--tensor-parallel-size ${flags.tensorParallel}`]),
      ...(flags.dataParallel === 1 ? [] : [`--data-parallel-size ${flags.dataParallel}`]),
      ...(flags.expertParallel ? ['--enable-expert-parallel'] : []),
      ...(flags.prefixCaching ? [] : ['--no-enable-prefix-caching']),
      ...settingsOf(notes),
      ...added,
    ];
    return { command: words.join(' '), file: null, notes };
  },
  sglang: ({ flags, law }, added, model) => {
    const notes = law?.confidential === true ? [NO_CUSTOM_ALL_REDUCE] : [];
    const words = [
      `python3 -m sglang.launch_server --model-path ${quoted(model)}`,
      `--context-length ${flags.maxModelTokens}`,
      `--max-running-requests ${flags.maxRows}`,
      `--chunked-prefill-size ${flags.maxBatchTokens}`,
      `--mem-fraction-static ${flags.memoryUtilization}`,
      ...(flags.kvFormat === 'element' ? [] : ['--kv-cache-dtype fp8_e4m3']),
      ...(flags.tensorParallel === 1 ? [] : [`--tp-size ${flags.tensorParallel}`]),
      ...(flags.dataParallel === 1 ? [] : [`--dp-size ${flags.dataParallel}`]),
      ...(flags.expertParallel ? [`--ep-size ${flags.tensorParallel}`] : []),
      ...(flags.prefixCaching ? [] : ['--disable-radix-cache']),
      ...settingsOf(notes),
      ...added,
    ];
    return { command: words.join(' '), file: null, notes };
  },
  'tensorrt-llm': ({ flags }, added, model) => {
    const words = [
      `trtllm-serve ${quoted(model)} --backend pytorch`,
      `--max_seq_len ${flags.maxModelTokens}`,
      `--max_batch_size ${flags.maxRows}`,
      `--max_num_tokens ${flags.maxBatchTokens}`,
      `--kv_cache_free_gpu_memory_fraction ${flags.memoryUtilization}`,
      ...(flags.tensorParallel === 1 ? [] : [`--tp_size ${flags.tensorParallel}`]),
      ...(flags.expertParallel ? [`--ep_size ${flags.tensorParallel}`] : []),
      '--config trtllm.yaml',
      ...added,
    ];
    const text = [
      'kv_cache_config:',
      `  dtype: ${flags.kvFormat === 'element' ? 'auto' : 'fp8'}`,
      `  enable_block_reuse: ${flags.prefixCaching}`,
      '  host_cache_size: 0',
      '',
    ].join('\n');
    const { dataParallel: count } = flags;
    const notes = count === 1 ? [NO_HOST_KV] : [NO_HOST_KV, serversNote(count)];
    return { command: words.join(' '), file: { name: 'trtllm.yaml', text }, notes };
  },
  bridgekeeper: ({ flags, workload, engine, law }, _, model) => {
    const lines = [
      `# For ${workload.name.replaceAll('\n', ' ')}, ${law?.name ?? 'law off'}`,
      `model: ${JSON.stringify(model)}`,
      `max-model-len: ${flags.maxModelTokens}`,
      `max-num-seqs: ${flags.maxRows}`,
      `max-num-batched-tokens: ${flags.maxBatchTokens}`,
      `gpu-memory-utilization: ${flags.memoryUtilization}`,
      `kv-cache-dtype: ${flags.kvFormat === 'element' ? 'auto' : 'fp8'}`,
      `enable-prefix-caching: ${flags.prefixCaching}`,
      `inter-token-limit-ms: ${flags.interTokenLimitMs}`,
      ...(flags.tensorParallel === 1 ? [] : [`tensor-parallel-size: ${flags.tensorParallel}`]),
      ...(flags.dataParallel === 1 ? [] : [`data-parallel-size: ${flags.dataParallel}`]),
      ...(flags.expertParallel ? ['enable-expert-parallel: true'] : []),
      ...(flags.speculation === null ? [] : [speculativeLine(flags.speculation)]),
      `policy: ${engine.slice('bridgekeeper-'.length)}`,
      '',
    ];
    return {
      command: 'bridgekeeper serve --config bridgekeeper.yaml',
      file: { name: 'bridgekeeper.yaml', text: lines.join('\n') },
      notes: [],
    };
  },
};
