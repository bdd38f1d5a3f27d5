import { optionText, structuredValue } from '../command/queries.ts';
import { defineRule } from '../rule.ts';
import { EAGER_COST, SOURCES } from './sources.ts';

const HOST_TIER = ['host_cache_size'] as const;
const V2_MANAGER = ['use_kv_cache_manager_v2'] as const;

/** TensorRT-LLM under confidential computing; most of its settings are in a file. */
export const TENSORRT_LLM_RULES = [
  defineRule({
    id: 'tensorrt-llm-host-kv',
    severity: 'error',
    engine: 'tensorrt-llm',
    title: 'KV in host memory does not start',
    consequence: 'The host tier is registered with CUDA, which returns 801: the server ends.',
    remedy: 'kv_cache_config.host_cache_size: 0',
    sources: [SOURCES.vllm55428, SOURCES.releaseNotes580, SOURCES.tensorrt13693],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => {
      const size = Number(structuredValue(engine, 'kv_cache_config', HOST_TIER) ?? 0);
      return confidential && size > 0
        ? {
            evidence: `kv_cache_config.host_cache_size is ${size}`,
            changes: [{ kind: 'set-in-file', key: 'kv_cache_config.host_cache_size', value: 0 }],
          }
        : null;
    },
  }),
  defineRule({
    id: 'tensorrt-llm-kv-manager-v2',
    severity: 'error',
    engine: 'tensorrt-llm',
    title: 'The KV cache manager V2',
    consequence:
      'Its kernels read host memory directly, which confidential computing does not map: they ' +
      'fault. It also registers a host tier of its own accord.',
    remedy: 'use_kv_cache_manager_v2: false until #17658 is merged.',
    sources: [SOURCES.tensorrt17658, SOURCES.tensorrt13693],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => {
      const key = 'kv_cache_config.use_kv_cache_manager_v2';
      return confidential && structuredValue(engine, 'kv_cache_config', V2_MANAGER) === true
        ? {
            evidence: `${key} is true`,
            changes: [{ kind: 'set-in-file', key, value: false }],
          }
        : null;
    },
  }),
  defineRule({
    id: 'tensorrt-llm-old-backend',
    severity: 'warning',
    engine: 'tensorrt-llm',
    title: 'A backend without the readback worker',
    consequence:
      'Readback by a worker and pageable staging under confidential computing are in the PyTorch ' +
      'backend; with the other, each step’s copy blocks the thread that launches.',
    remedy: '--backend pytorch',
    sources: [SOURCES.tensorrt8463],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => {
      const backend = optionText(engine, 'backend');
      return confidential && (backend === 'tensorrt' || backend === 'trt')
        ? {
            evidence: `--backend ${backend}`,
            changes: [{ kind: 'set-option', name: 'backend', value: 'pytorch' }],
          }
        : null;
    },
  }),
  defineRule({
    id: 'tensorrt-llm-no-graphs',
    severity: 'error',
    engine: 'tensorrt-llm',
    title: 'CUDA graphs are off',
    consequence: EAGER_COST,
    remedy: 'Leave cuda_graph_config out, or give it settings.',
    planned: { before: 'trtllm-overlap', after: 'trtllm-overlap', captures: true },
    sources: [SOURCES.bridgeB200, SOURCES.eagerOnH200],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && engine.file?.settings.cuda_graph_config === null
        ? {
            evidence: 'cuda_graph_config is null',
            changes: [{ kind: 'set-in-file', key: 'cuda_graph_config', value: null }],
          }
        : null,
  }),
];
