import { parallelGpus, variableIsOn } from '../command/queries.ts';
import { defineRule } from '../rule.ts';
import { SOURCES } from './sources.ts';

const ALLOCATOR_VARIABLES = ['PYTORCH_CUDA_ALLOC_CONF', 'PYTORCH_ALLOC_CONF'];
const REGISTERS = /(^|,)\s*pinned_use_cuda_host_register:True/i;

/** What holds for whatever engine: variables of CUDA, NCCL, PyTorch and FlashInfer. */
export const ANY_ENGINE_RULES = [
  defineRule({
    id: 'nccl-multicast',
    severity: 'warning',
    title: 'NCCL is told to use NVLink multicast',
    consequence: 'Multicast is not supported under confidential computing; P2P is.',
    remedy: 'Leave NCCL_NVLS_ENABLE unset: NCCL asks the driver.',
    sources: [SOURCES.sglang30364],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && engine.variables.get('NCCL_NVLS_ENABLE') === '1'
        ? {
            evidence: 'NCCL_NVLS_ENABLE=1',
            changes: [{ kind: 'unset-variable', name: 'NCCL_NVLS_ENABLE' }],
          }
        : null,
  }),
  defineRule({
    id: 'nccl-peer-to-peer-off',
    severity: 'error',
    title: 'NCCL is told not to use peer-to-peer',
    consequence:
      'Collectives then cross the bridge twice through host memory, at 4 to 15 GB/s in place of ' +
      'the 510 GB/s measured between two confidential GPUs.',
    remedy: 'Leave NCCL_P2P_DISABLE unset.',
    sources: [SOURCES.serializedBridge],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && variableIsOn(engine, 'NCCL_P2P_DISABLE') && parallelGpus(engine) > 1
        ? {
            evidence: `NCCL_P2P_DISABLE is set, with ${parallelGpus(engine)} GPUs`,
            changes: [{ kind: 'unset-variable', name: 'NCCL_P2P_DISABLE' }],
          }
        : null,
  }),
  defineRule({
    id: 'launches-block',
    severity: 'error',
    title: 'Every kernel launch waits for its end',
    consequence: 'A launch with a wait costs 55 µs on a confidential B300, 14 µs on an open one.',
    remedy: 'CUDA_LAUNCH_BLOCKING is for debugging: leave it unset.',
    sources: [SOURCES.submission],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && variableIsOn(engine, 'CUDA_LAUNCH_BLOCKING')
        ? {
            evidence: 'CUDA_LAUNCH_BLOCKING is set',
            changes: [{ kind: 'unset-variable', name: 'CUDA_LAUNCH_BLOCKING' }],
          }
        : null,
  }),
  defineRule({
    id: 'pytorch-registers-host-memory',
    severity: 'error',
    title: 'PyTorch is told to pin memory by registering it',
    consequence:
      'cudaHostRegister returns 801 for every size and flag under confidential computing: ' +
      'pinned allocations fail. cudaHostAlloc, the default, works.',
    remedy: 'Drop pinned_use_cuda_host_register:True from the allocator’s settings.',
    sources: [SOURCES.vllm55428, SOURCES.releaseNotes580, SOURCES.pytorchPinned],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => {
      const name = ALLOCATOR_VARIABLES.find((each) =>
        REGISTERS.test(engine.variables.get(each) ?? ''),
      );
      if (!confidential || name === undefined) return null;
      const parts = engine.variables.get(name)!.split(',');
      const rest = parts.filter((part) => !/^\s*pinned_(?:use_cuda_host|num)_register/.test(part));
      return {
        evidence: `${name} has pinned_use_cuda_host_register:True`,
        changes: [
          rest.length > 0
            ? { kind: 'set-variable', name, value: rest.join(',') }
            : { kind: 'unset-variable', name },
        ],
      };
    },
  }),
  defineRule({
    id: 'autotuner-times-with-events',
    severity: 'warning',
    title: 'FlashInfer’s autotuner is told to time with CUDA events',
    consequence:
      'cudaEventElapsedTime can be negative under confidential computing: the tuner picks ' +
      'near-random tactics and keeps them in its cache.',
    remedy: 'Leave FLASHINFER_AUTOTUNE_TIMER at auto, and delete caches tuned that way.',
    sources: [SOURCES.flashinfer3870],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && engine.variables.get('FLASHINFER_AUTOTUNE_TIMER') === 'cudaevent'
        ? {
            evidence: 'FLASHINFER_AUTOTUNE_TIMER=cudaevent',
            changes: [{ kind: 'unset-variable', name: 'FLASHINFER_AUTOTUNE_TIMER' }],
          }
        : null,
  }),
];
