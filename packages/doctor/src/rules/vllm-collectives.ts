import { splitsTensors, structuredValue, switchState, variableIsOn } from '../command/queries.ts';
import { defineRule } from '../rule.ts';
import { customAllReduce } from './custom-all-reduce.ts';
import { SOURCES } from './sources.ts';

const FUSION = ['pass_config', 'fuse_allreduce_rms'] as const;

const turnOff = (name: string) => [{ kind: 'set-variable', name, value: '0' }] as const;

const FLASHINFER = {
  severity: 'warning',
  engine: 'vllm',
  consequence:
    'Its workspace wants multicast, which is not supported under confidential computing: the ' +
    'engine ends at start, or falls back without a word. A FlashInfer with the multicast-free ' +
    'workspace does neither.',
  remedy: 'VLLM_ALLREDUCE_USE_FLASHINFER=0 until the image has that FlashInfer.',
} as const;

/** vLLM: collectives of several GPUs without multicast and without CUDA IPC. */
export const VLLM_COLLECTIVE_RULES = [
  defineRule({
    ...FLASHINFER,
    id: 'vllm-flashinfer-all-reduce-by-default',
    title: 'FlashInfer’s all-reduce is on by default',
    sources: [SOURCES.vllmNotes29, SOURCES.vllm34891, SOURCES.flashinfer3993],
    versions: { from: '0.29.0' },
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential &&
      splitsTensors(engine) &&
      !engine.variables.has('VLLM_ALLREDUCE_USE_FLASHINFER')
        ? {
            evidence: 'VLLM_ALLREDUCE_USE_FLASHINFER is not set, with tensor parallelism',
            changes: turnOff('VLLM_ALLREDUCE_USE_FLASHINFER'),
          }
        : null,
  }),
  defineRule({
    ...FLASHINFER,
    id: 'vllm-flashinfer-all-reduce-asked-for',
    title: 'FlashInfer’s all-reduce is asked for',
    sources: [SOURCES.launchFlags, SOURCES.vllm34891, SOURCES.flashinfer3993],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && splitsTensors(engine) && variableIsOn(engine, 'VLLM_ALLREDUCE_USE_FLASHINFER')
        ? {
            evidence: 'VLLM_ALLREDUCE_USE_FLASHINFER is on, with tensor parallelism',
            changes: turnOff('VLLM_ALLREDUCE_USE_FLASHINFER'),
          }
        : null,
  }),
  defineRule({
    id: 'vllm-fused-all-reduce',
    severity: 'warning',
    engine: 'vllm',
    title: 'The fused all-reduce and norm is not turned off',
    consequence:
      'The fusion allocates a multicast workspace: with a FlashInfer that insists on it the ' +
      'engine ends with "Device does not support multicasting".',
    remedy: 'fuse_allreduce_rms false in the compilation settings.',
    sources: [SOURCES.launchFlags, SOURCES.vllm34891, SOURCES.flashinfer3993],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential &&
      splitsTensors(engine) &&
      switchState(engine, 'enforce-eager') !== true &&
      structuredValue(engine, 'compilation-config', FUSION) !== false
        ? {
            evidence: 'fuse_allreduce_rms is not false, with tensor parallelism',
            changes: [
              { kind: 'set-inside', name: 'compilation-config', path: FUSION, value: false },
            ],
          }
        : null,
  }),
  defineRule({
    id: 'vllm-symmetric-memory',
    severity: 'info',
    engine: 'vllm',
    title: 'Symmetric memory for all-reduce is not turned off',
    consequence: 'It wants multicast, finds none, and leaves the work to NCCL: a check in vain.',
    remedy: 'VLLM_ALLREDUCE_USE_SYMM_MEM=0, as operators do.',
    sources: [SOURCES.launchFlags, SOURCES.vllm42324],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential &&
      splitsTensors(engine) &&
      engine.variables.get('VLLM_ALLREDUCE_USE_SYMM_MEM') !== '0'
        ? {
            evidence: 'VLLM_ALLREDUCE_USE_SYMM_MEM is not 0, with tensor parallelism',
            changes: turnOff('VLLM_ALLREDUCE_USE_SYMM_MEM'),
          }
        : null,
  }),
  defineRule({
    id: 'vllm-custom-all-reduce',
    severity: 'warning',
    engine: 'vllm',
    title: 'The custom all-reduce is on',
    consequence:
      'It shares buffers by CUDA IPC, which protected PCIe does not support; operators of ' +
      'confidential machines turn it off and let NCCL do it.',
    remedy: '--disable-custom-all-reduce',
    sources: [SOURCES.launchFlags, SOURCES.forumIpc],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => (confidential ? customAllReduce(engine) : null),
  }),
];
