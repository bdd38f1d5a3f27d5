import { describe, expect, test } from 'vitest';
import type { EngineFile } from './command/engine-command.ts';
import { judge } from './examine.ts';
import { engineFacts, factsWith } from './testing/facts.ts';

/** A planned command on a confidential B300: corrected, and the rules that asked for it. */
function examine(source: string, version: string, settings?: EngineFile['settings']) {
  const facts = factsWith(engineFacts(source, version, settings));
  const { command, findings } = judge({ facts, notes: [] });
  return { ...command!, ids: findings.map(({ id }) => id) };
}

describe('real-looking commands for a B300 in CC mode', () => {
  test('vLLM on eight GPUs, over many lines, with KV offload', () => {
    const { corrected, ids, steps } = examine(
      `NCCL_NVLS_ENABLE=1 vllm serve Qwen/Qwen3-235B-A22B-Instruct-2507-FP8 \\
  --host 0.0.0.0 --port 8000 \\
  --tensor-parallel-size 8 \\
  --max-model-len 131072 \\
  --kv-offloading-size=180 --kv-offloading-backend native \\
  --compilation-config '{"cudagraph_mode": "FULL_AND_PIECEWISE"}' \\
  --enable-prefix-caching > vllm.log 2>&1 &`,
      '0.29.0',
    );
    expect(corrected).toBe(
      `VLLM_USE_V2_MODEL_RUNNER=0 VLLM_ALLREDUCE_USE_FLASHINFER=0 \
VLLM_ALLREDUCE_USE_SYMM_MEM=0 vllm serve Qwen/Qwen3-235B-A22B-Instruct-2507-FP8 \\
  --host 0.0.0.0 --port 8000 \\
  --tensor-parallel-size 8 \\
  --max-model-len 131072 \\
  --compilation-config '{"cudagraph_mode":"FULL_AND_PIECEWISE",\
"pass_config":{"fuse_allreduce_rms":false}}' \\
  --enable-prefix-caching \\
  --no-async-scheduling \\
  --load-format runai_streamer \\
  --model-loader-extra-config '{"concurrency":8,"memory_limit":4294967296}' \\
  --disable-custom-all-reduce > vllm.log 2>&1 &`,
    );
    expect(ids[0]).toBe('vllm-stale-inputs-by-default');
    expect(steps[0]).toEqual({
      step: 'environment: VLLM_USE_V2_MODEL_RUNNER=0',
      because: 'The default model runner can read stale inputs',
      finding: 'vllm-stale-inputs-by-default',
    });
  });

  test('vLLM on one GPU in one line, double quotes kept', () => {
    const { corrected } = examine(
      'python -m vllm.entrypoints.openai.api_server --model m --enforce-eager --async-scheduling ' +
        '--compilation-config "{\\"cudagraph_mode\\": \\"NONE\\"}" --port 80',
      '0.20.0',
    );
    expect(corrected).toBe(
      'python -m vllm.entrypoints.openai.api_server --model m --no-async-scheduling ' +
        '--compilation-config "{\\"cudagraph_mode\\":\\"FULL_AND_PIECEWISE\\"}" --port 80 ' +
        '--load-format runai_streamer --model-loader-extra-config ' +
        '"{\\"concurrency\\":8,\\"memory_limit\\":4294967296}"',
    );
  });

  test('vLLM in a container: variables become its options', () => {
    const { corrected } = examine(
      'docker run --gpus all -e NCCL_NVLS_ENABLE=1 vllm/vllm-openai:v0.29.0 --model m ' +
        '--load-format runai_streamer --no-async-scheduling',
      '0.29.0',
    );
    expect(corrected).toBe(
      'docker run -e VLLM_USE_V2_MODEL_RUNNER=0 --gpus all vllm/vllm-openai:v0.29.0 --model m ' +
        '--load-format runai_streamer --no-async-scheduling',
    );
  });

  test('vLLM with a file: what the file holds is to be changed there', () => {
    const source = 'vllm serve m --config serve.yaml --no-async-scheduling';
    const { corrected, steps } = examine(source, '0.24.0', {
      'load-format': 'instanttensor',
      'enforce-eager': true,
      'tensor-parallel-size': 2,
      compilation_config: { level: 3, cudagraph_mode: 'NONE' },
    });
    expect(corrected).toBe(
      'VLLM_ALLREDUCE_USE_SYMM_MEM=0 vllm serve m --config serve.yaml --no-async-scheduling ' +
        '--load-format runai_streamer --disable-custom-all-reduce',
    );
    expect(steps.map(({ step }) => step)).toContain('in engine.yaml: remove enforce-eager');
    expect(steps.map(({ step }) => step)).toContain(
      'in engine.yaml: compilation-config: cudagraph_mode FULL_AND_PIECEWISE',
    );
  });

  test('SGLang with the hierarchical cache', () => {
    const { corrected, ids } = examine(
      `sudo NCCL_P2P_DISABLE=1 python3 -m sglang.launch_server --model-path deepseek-ai/V3.2 \\
    --tp 8 --trust-remote-code \\
    --enable-hierarchical-cache --hicache-ratio 2 --hicache-write-policy write_through \\
    --enable-torch-symm-mem --mem-fraction-static 0.85`,
      '0.5.9',
    );
    expect(corrected).toBe(
      `sudo python3 -m sglang.launch_server --model-path deepseek-ai/V3.2 \\
    --tp 8 --trust-remote-code --mem-fraction-static 0.85 --disable-custom-all-reduce`,
    );
    expect(ids).toContain('sglang-overlap-schedule');
  });

  test('TensorRT-LLM: its file is to be changed, the command only where it can be', () => {
    const { corrected, steps } = examine(
      'trtllm-serve nvidia/DeepSeek-R1-FP4 --backend trt --tp_size 8 ' +
        '--extra_llm_api_options engine.yaml',
      '1.2.0',
      { kv_cache_config: { host_cache_size: 45e9, use_kv_cache_manager_v2: true } },
    );
    expect(corrected).toBe(
      'trtllm-serve nvidia/DeepSeek-R1-FP4 --backend pytorch --tp_size 8 ' +
        '--extra_llm_api_options engine.yaml',
    );
    expect(steps.map(({ step }) => step)).toEqual([
      'in engine.yaml: kv_cache_config.host_cache_size: 0',
      'in engine.yaml: kv_cache_config.use_kv_cache_manager_v2: false',
      '--backend is pytorch',
    ]);
  });

  test('a command with nothing to change stays as it is, and secrets are hidden in both', () => {
    const sound =
      'VLLM_USE_V2_MODEL_RUNNER=0 vllm serve m --no-async-scheduling --load-format dummy';
    expect(examine(sound, '0.28.0').corrected).toBeNull();
    const { command, corrected, secretsHidden } = examine(
      'vllm serve m --api-key hunter2 --enforce-eager --no-async-scheduling --load-format dummy',
      '0.20.0',
    );
    expect(command).toContain('--api-key [hidden]');
    expect(corrected).toBe(
      'vllm serve m --api-key [hidden] --no-async-scheduling --load-format dummy',
    );
    expect(secretsHidden).toBe(1);
  });

  test('changes of one option join, and allocator settings keep their rest', () => {
    const { corrected } = examine(
      'PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,pinned_use_cuda_host_register:True ' +
        'vllm serve m -tp 2 -cc.cudagraph_mode NONE --no-async-scheduling --load-format dummy ' +
        '--disable-custom-all-reduce',
      '0.20.0',
    );
    expect(corrected).toBe(
      'PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True VLLM_ALLREDUCE_USE_SYMM_MEM=0 ' +
        'vllm serve m -tp 2 --compilation-config.cudagraph_mode=FULL_AND_PIECEWISE ' +
        '--no-async-scheduling --load-format dummy --disable-custom-all-reduce ' +
        `--compilation-config '{"pass_config":{"fuse_allreduce_rms":false}}'`,
    );
  });
});
