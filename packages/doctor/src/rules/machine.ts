import { optionNumber } from '../command/queries.ts';
import { defineRule } from '../rule.ts';
import { SOURCES } from './sources.ts';

const GIB = 2 ** 30;

/** The CPU and memory that stand behind the bridge. */
export const MACHINE_RULES = [
  defineRule({
    id: 'cpu-without-aes',
    severity: 'error',
    title: 'A CPU without AES instructions',
    consequence:
      'Every byte that crosses is encrypted and authenticated by the CPU in a bounce buffer: ' +
      'in software that is slower by an order of magnitude.',
    remedy: 'Expose the AES instructions to the guest (CPU model host).',
    sources: [SOURCES.serializedBridge, SOURCES.inference],
    needs: ['confidential', 'cpuFlags'],
    check: ({ confidential, cpuFlags }) =>
      confidential && !cpuFlags.has('aes') ? { evidence: '/proc/cpuinfo does not list aes' } : null,
  }),
  defineRule({
    id: 'cpu-without-vector-aes',
    severity: 'info',
    title: 'A CPU without vectorised AES',
    consequence: 'The bounce buffer is encrypted with 128-bit instructions: a slower bridge.',
    remedy: 'Expose vaes and vpclmulqdq to the guest where the CPU has them.',
    sources: [SOURCES.inference],
    needs: ['confidential', 'cpuFlags'],
    check: ({ confidential, cpuFlags }) => {
      const missing = ['vaes', 'vpclmulqdq'].filter((flag) => !cpuFlags.has(flag));
      return confidential && cpuFlags.has('aes') && missing.length > 0
        ? { evidence: `/proc/cpuinfo does not list ${missing.join(', ')}` }
        : null;
    },
  }),
  defineRule({
    id: 'memory-locking-limited',
    severity: 'info',
    title: 'Locked memory is limited',
    consequence: 'Host buffers that are locked beyond the limit fail, or stay pageable.',
    remedy: 'ulimit -l unlimited, or --ulimit memlock=-1 for a container.',
    sources: [SOURCES.memlock],
    needs: ['memlockBytes', 'memoryBytes'],
    check: ({ memlockBytes, memoryBytes }) =>
      memlockBytes < memoryBytes
        ? { evidence: `${(memlockBytes / 2 ** 20).toFixed(0)} MiB (RLIMIT_MEMLOCK)` }
        : null,
  }),
  defineRule({
    id: 'hugepages-never',
    severity: 'info',
    title: 'Transparent huge pages are off',
    consequence:
      'Loaders and host tiers fault memory in by 4 KiB: mapped loading is bound by page faults.',
    remedy: 'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled',
    sources: [SOURCES.fastLoad],
    needs: ['transparentHugepages'],
    check: ({ transparentHugepages }) =>
      transparentHugepages === 'never' ? { evidence: 'the kernel’s setting is never' } : null,
  }),
  defineRule({
    id: 'swap-in-confidential-guest',
    severity: 'warning',
    title: 'Swap in a confidential VM',
    consequence:
      'Pages with prompts, keys or weights leave encrypted memory for a disk that the host ' +
      'controls.',
    remedy: 'swapoff -a, or swap on a device encrypted with a key that never leaves the guest.',
    sources: [SOURCES.inference],
    needs: ['guest', 'swapBytes'],
    check: ({ guest, swapBytes }) =>
      guest !== 'plain' && swapBytes > 0
        ? { evidence: `${(swapBytes / GIB).toFixed(1)} GiB of swap in a ${guest} VM` }
        : null,
  }),
  defineRule({
    id: 'host-tier-beyond-memory',
    severity: 'error',
    title: 'A host tier larger than the memory at hand',
    consequence: 'The engine is killed while it allocates, or when the tier fills.',
    remedy: 'A smaller tier, or more memory for the VM or its control group.',
    sources: [SOURCES.inference],
    needs: ['engine', 'memoryBytes'],
    check: ({ engine, memoryBytes }) => {
      const names = ['kv-offloading-size', 'cpu-offload-gb', 'hicache-size'];
      const asked = names.reduce((sum, name) => sum + (optionNumber(engine, name) ?? 0), 0);
      return asked * GIB > memoryBytes
        ? { evidence: `${asked} GiB asked for, ${(memoryBytes / GIB).toFixed(1)} GiB at hand` }
        : null;
    },
  }),
];
