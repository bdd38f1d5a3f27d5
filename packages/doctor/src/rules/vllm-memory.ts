import type { EngineCommand } from '../command/engine-command.ts';
import { optionNumber, optionText, structuredValue } from '../command/queries.ts';
import { defineRule } from '../rule.ts';
import { SOURCES } from './sources.ts';

/** The connectors that vLLM brings for keeping KV in host memory. */
const HOST_CONNECTORS = ['OffloadingConnector', 'SimpleCPUOffloadConnector'];
const RDMA_CONNECTORS = ['NixlConnector', 'MooncakeConnector', 'P2pNcclConnector'];

/** Names of the KV connectors that a command uses, those inside of a MultiConnector too. */
function connectors(engine: EngineCommand): string[] {
  const config = structuredValue(engine, 'kv-transfer-config', []);
  const names: string[] = [];
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    for (const [key, each] of Object.entries(value)) {
      if (key === 'kv_connector' && typeof each === 'string') names.push(each);
      else visit(each);
    }
  };
  visit(config);
  const dotted = structuredValue(engine, 'kv-transfer-config', ['kv_connector']);
  if (typeof dotted === 'string' && !names.includes(dotted)) names.push(dotted);
  return names;
}

const DEFAULT_LOADERS = [undefined, 'auto', 'hf', 'safetensors'];

/** vLLM: what it keeps in host memory, and how weights come in. */
export const VLLM_MEMORY_RULES = [
  defineRule({
    id: 'vllm-kv-offload',
    severity: 'error',
    engine: 'vllm',
    title: 'KV offload to host memory does not start',
    consequence:
      'Every built-in path registers its region with cudaHostRegister, which returns 801 under ' +
      'confidential computing: the engine ends at start, again and again.',
    remedy: 'Leave it out until a version pins with cudaHostAlloc, which works.',
    sources: [SOURCES.vllm55428, SOURCES.releaseNotes580],
    versions: { from: '0.28.0' },
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => {
      if (!confidential) return null;
      if ((optionNumber(engine, 'kv-offloading-size') ?? 0) > 0) {
        const names = ['kv-offloading-size', 'kv-offloading-backend'];
        const given = names.filter((name) => optionText(engine, name) !== undefined);
        return {
          evidence: `--kv-offloading-size ${optionText(engine, 'kv-offloading-size')}`,
          changes: given.map((name) => ({ kind: 'remove-option', name }) as const),
        };
      }
      const used = connectors(engine);
      const host = used.find((name) => HOST_CONNECTORS.includes(name));
      if (host === undefined) return null;
      // A configuration with other connectors is for its owner to change.
      const alone = used.every((name) => HOST_CONNECTORS.includes(name));
      return {
        evidence: `--kv-transfer-config uses ${host}`,
        changes: alone ? [{ kind: 'remove-option', name: 'kv-transfer-config' }] : [],
      };
    },
  }),
  defineRule({
    id: 'vllm-rdma-connector',
    severity: 'warning',
    engine: 'vllm',
    title: 'A KV connector that moves KV between GPUs’ memories by RDMA',
    consequence: 'GPUDirect RDMA is restricted under confidential computing: it may not start.',
    remedy: 'Serve prefill and decode in one engine, or test the connector on this machine first.',
    sources: [SOURCES.platformLimits],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => {
      const found = connectors(engine).find((name) => RDMA_CONNECTORS.includes(name));
      return confidential && found !== undefined
        ? { evidence: `--kv-transfer-config uses ${found}` }
        : null;
    },
  }),
  defineRule({
    id: 'vllm-weights-on-the-host',
    severity: 'error',
    engine: 'vllm',
    title: 'Weights are kept in host memory',
    consequence:
      'They cross the bridge in every step, at 4 to 15 GB/s on a confidential B300: 10 GB add ' +
      'most of a second to each token. The views it reads them through can be stale besides.',
    remedy: 'More GPUs, or a smaller format of weights.',
    sources: [SOURCES.tinfoilBandwidth, SOURCES.vllm57404, SOURCES.inference],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => {
      const size = optionNumber(engine, 'cpu-offload-gb') ?? 0;
      return confidential && size > 0
        ? {
            evidence: `--cpu-offload-gb ${size}`,
            changes: [{ kind: 'remove-option', name: 'cpu-offload-gb' }],
          }
        : null;
    },
  }),
  defineRule({
    id: 'vllm-slow-loader',
    severity: 'warning',
    engine: 'vllm',
    title: 'Weights are loaded one tensor a copy',
    consequence:
      'Each tensor is a crossing of its own: gpt-oss-120b took 287 s on a confidential B300, ' +
      '8.4 s with large chunks over several contexts.',
    remedy:
      'The Run:ai streamer with a bounded buffer (the image needs the runai-model-streamer ' +
      'package). Time reading and post-processing apart: not all of a slow start is the bridge.',
    sources: [SOURCES.serializedBridge, SOURCES.launchFlags],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => {
      const format = optionText(engine, 'load-format');
      if (!confidential || !DEFAULT_LOADERS.includes(format)) return null;
      const extra = 'model-loader-extra-config';
      return {
        evidence: format === undefined ? 'no --load-format' : `--load-format ${format}`,
        changes: [
          { kind: 'set-option', name: 'load-format', value: 'runai_streamer' },
          { kind: 'set-option', name: extra, value: '{"concurrency":8,"memory_limit":4294967296}' },
        ],
      };
    },
  }),
  defineRule({
    id: 'vllm-registering-loader',
    severity: 'error',
    engine: 'vllm',
    title: 'A loader that registers host memory',
    consequence:
      'InstantTensor pins its buffer with cudaHostRegister, which returns 801 under confidential ' +
      'computing: loading fails.',
    remedy: 'The Run:ai streamer, which copies from its own buffer.',
    sources: [SOURCES.instantTensor, SOURCES.releaseNotes580],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && optionText(engine, 'load-format') === 'instanttensor'
        ? {
            evidence: '--load-format instanttensor',
            changes: [{ kind: 'set-option', name: 'load-format', value: 'runai_streamer' }],
          }
        : null,
  }),
];
