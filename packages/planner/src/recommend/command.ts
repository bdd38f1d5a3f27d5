import type { Scenario } from '../simulate/scenario.ts';
import { type Change, type Family, familyOf } from './change.ts';

/** How an engine is started for a scenario, as a person would write it. */
export interface StartLine {
  readonly command: string;
  /** What has to lie beside it; null: nothing. */
  readonly file: { readonly name: string; readonly text: string } | null;
}

/** The command line of the scenario's engine with its flags and what `changes` write. */
export function startLine(scenario: Scenario, changes: readonly Change[]): StartLine {
  const added = changes.flatMap(({ adds }) => adds ?? []);
  return LINES[familyOf(scenario.engine)](scenario, added, scenario.model.path);
}

const quoted = (path: string) =>
  /^[\w./:@-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;

type Line = (scenario: Scenario, added: readonly string[], model: string) => StartLine;

const LINES: Readonly<Record<Family, Line>> = {
  vllm: ({ flags, law }, added, model) => {
    const words = [
      // Its V2 runner reads inputs through mapped memory, which may be stale (vllm#57224).
      ...(law?.confidential === true ? ['VLLM_USE_V2_MODEL_RUNNER=0'] : []),
      `vllm serve ${quoted(model)}`,
      `--max-model-len ${flags.maxModelTokens}`,
      `--max-num-seqs ${flags.maxRows}`,
      `--max-num-batched-tokens ${flags.maxBatchTokens}`,
      `--gpu-memory-utilization ${flags.memoryUtilization}`,
      ...(flags.kvFormat === 'element' ? [] : ['--kv-cache-dtype fp8']),
      ...(flags.tensorParallel === 1
        ? []
        : [`--tensor-parallel-size ${flags.tensorParallel}`, '--disable-custom-all-reduce']),
      ...(flags.prefixCaching ? [] : ['--no-enable-prefix-caching']),
      ...added,
    ];
    return { command: words.join(' '), file: null };
  },
  sglang: ({ flags, law }, added, model) => {
    const words = [
      `python3 -m sglang.launch_server --model-path ${quoted(model)}`,
      `--context-length ${flags.maxModelTokens}`,
      `--max-running-requests ${flags.maxRows}`,
      `--chunked-prefill-size ${flags.maxBatchTokens}`,
      `--mem-fraction-static ${flags.memoryUtilization}`,
      ...(flags.kvFormat === 'element' ? [] : ['--kv-cache-dtype fp8_e4m3']),
      ...(flags.tensorParallel === 1 ? [] : [`--tp-size ${flags.tensorParallel}`]),
      ...(law?.confidential === true ? ['--disable-custom-all-reduce'] : []),
      ...(flags.prefixCaching ? [] : ['--disable-radix-cache']),
      ...added,
    ];
    return { command: words.join(' '), file: null };
  },
  'tensorrt-llm': ({ flags }, added, model) => {
    const words = [
      `trtllm-serve ${quoted(model)} --backend pytorch`,
      `--max_seq_len ${flags.maxModelTokens}`,
      `--max_batch_size ${flags.maxRows}`,
      `--max_num_tokens ${flags.maxBatchTokens}`,
      `--kv_cache_free_gpu_memory_fraction ${flags.memoryUtilization}`,
      ...(flags.tensorParallel === 1 ? [] : [`--tp_size ${flags.tensorParallel}`]),
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
    return { command: words.join(' '), file: { name: 'trtllm.yaml', text } };
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
      `policy: ${engine.slice('bridgekeeper-'.length)}`,
      '',
    ];
    return {
      command: 'bridgekeeper serve --config bridgekeeper.yaml',
      file: { name: 'bridgekeeper.yaml', text: lines.join('\n') },
    };
  },
};
