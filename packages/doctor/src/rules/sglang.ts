import type { EngineCommand } from '../command/engine-command.ts';
import { optionNumber, optionText, switchState } from '../command/queries.ts';
import { defineRule } from '../rule.ts';
import { customAllReduce } from './custom-all-reduce.ts';
import { EAGER_COST, SOURCES } from './sources.ts';

const remove = (...names: string[]) =>
  names.map((name) => ({ kind: 'remove-option', name }) as const);

/** The options present whose names start so. */
const namesWith = ({ options }: EngineCommand, prefix: string): string[] => [
  ...new Set(options.map(({ name }) => name).filter((name) => name.startsWith(prefix))),
];

const GRAPH_BACKENDS = ['cuda-graph-backend-decode', 'cuda-graph-backend-prefill'];

/** SGLang under confidential computing. */
export const SGLANG_RULES = [
  defineRule({
    id: 'sglang-overlap-schedule',
    severity: 'warning',
    engine: 'sglang',
    title: 'The overlap schedule blocks on its readback',
    consequence:
      'The copy of each step’s tokens blocks the scheduler’s thread: without the patch 18.4 % of ' +
      'throughput are lost at one request, 4.8 % at 128.',
    remedy:
      'A build with the readback worker of #31447. Without it, measure ' +
      '--disable-overlap-schedule at your load: no public figure says when it wins, so it is not ' +
      'in the corrected command.',
    planned: { before: 'sglang-overlap', after: 'sglang-worker' },
    sources: [SOURCES.sglang15188, SOURCES.sglang31447],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && switchState(engine, 'disable-overlap-schedule') !== true
        ? { evidence: 'no --disable-overlap-schedule' }
        : null,
  }),
  defineRule({
    id: 'sglang-told-it-is-open',
    severity: 'warning',
    engine: 'sglang',
    title: 'SGLang is told that the machine is not confidential',
    consequence: 'A build with the readback worker then does not use it.',
    remedy: 'Leave SGLANG_CONFIDENTIAL_COMPUTE unset: it asks NVML.',
    sources: [SOURCES.sglang31447],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential &&
      /^(?:0|false)$/i.test(engine.variables.get('SGLANG_CONFIDENTIAL_COMPUTE') ?? '')
        ? {
            evidence: 'SGLANG_CONFIDENTIAL_COMPUTE is off and confidential computing is on',
            changes: [{ kind: 'unset-variable', name: 'SGLANG_CONFIDENTIAL_COMPUTE' }],
          }
        : null,
  }),
  defineRule({
    id: 'sglang-hicache',
    severity: 'error',
    engine: 'sglang',
    title: 'The hierarchical cache registers host memory',
    consequence:
      'Its host pool is registered with cudaHostRegister by default, which returns 801 under ' +
      'confidential computing: the server ends at start.',
    remedy: 'Leave --enable-hierarchical-cache and its settings out.',
    sources: [SOURCES.sglang36798, SOURCES.releaseNotes580],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && switchState(engine, 'enable-hierarchical-cache') === true
        ? {
            evidence: '--enable-hierarchical-cache',
            changes: remove('enable-hierarchical-cache', ...namesWith(engine, 'hicache-')),
          }
        : null,
  }),
  defineRule({
    id: 'sglang-multicast',
    severity: 'warning',
    engine: 'sglang',
    title: 'Collectives that want multicast',
    consequence:
      'Multicast is not supported under confidential computing: symmetric memory disables itself ' +
      'and NCCL does the work, with NVLink SHARP refused.',
    remedy: 'Leave these options out.',
    sources: [SOURCES.sglang30364],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => {
      const names = ['enable-torch-symm-mem', 'enable-symm-mem', 'enable-nccl-nvls'];
      const found = names.filter((name) => switchState(engine, name) === true);
      return confidential && found.length > 0
        ? { evidence: found.map((name) => `--${name}`).join(', '), changes: remove(...found) }
        : null;
    },
  }),
  defineRule({
    id: 'sglang-fused-all-reduce',
    severity: 'info',
    engine: 'sglang',
    title: 'FlashInfer’s fused all-reduce turns itself off',
    consequence: 'Its workspace’s check for multicast fails, and the fusion is silently not used.',
    remedy: 'A build with #31447 keeps it; without one it is an option without effect.',
    sources: [SOURCES.sglang31447],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => {
      const asked =
        switchState(engine, 'enable-flashinfer-allreduce-fusion') === true ||
        optionText(engine, 'flashinfer-allreduce-fusion-backend') !== undefined;
      return confidential && asked ? { evidence: 'the fusion is asked for' } : null;
    },
  }),
  defineRule({
    id: 'sglang-custom-all-reduce',
    severity: 'warning',
    engine: 'sglang',
    title: 'The custom all-reduce is on',
    consequence: 'It shares buffers by CUDA IPC, which protected PCIe does not support.',
    remedy: '--disable-custom-all-reduce',
    sources: [SOURCES.forumIpc, SOURCES.launchFlags],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => (confidential ? customAllReduce(engine) : null),
  }),
  defineRule({
    id: 'sglang-no-graphs',
    severity: 'error',
    engine: 'sglang',
    title: 'CUDA graphs are off',
    consequence: EAGER_COST,
    remedy: 'Leave graphs on.',
    planned: { before: 'sglang-overlap', after: 'sglang-overlap', captures: true },
    sources: [SOURCES.bridgeB200, SOURCES.eagerOnH200],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => {
      const off = GRAPH_BACKENDS.filter((name) => optionText(engine, name) === 'disabled');
      if (switchState(engine, 'disable-cuda-graph') === true) off.unshift('disable-cuda-graph');
      return confidential && off.length > 0
        ? { evidence: off.map((name) => `--${name}`).join(', '), changes: remove(...off) }
        : null;
    },
  }),
  defineRule({
    id: 'sglang-weights-on-the-host',
    severity: 'error',
    engine: 'sglang',
    title: 'Weights are kept in host memory',
    consequence: 'They cross the bridge in every step, at 4 to 15 GB/s on a confidential B300.',
    remedy: 'More GPUs, or a smaller format of weights.',
    sources: [SOURCES.tinfoilBandwidth, SOURCES.inference],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && (optionNumber(engine, 'cpu-offload-gb') ?? 0) > 0
        ? {
            evidence: `--cpu-offload-gb ${optionNumber(engine, 'cpu-offload-gb')}`,
            changes: remove('cpu-offload-gb'),
          }
        : null,
  }),
  defineRule({
    id: 'sglang-rdma-disaggregation',
    severity: 'warning',
    engine: 'sglang',
    title: 'Prefill and decode apart, with KV moved by RDMA',
    consequence: 'GPUDirect RDMA is restricted under confidential computing: it may not start.',
    remedy: 'Serve both in one engine, or test the transfer on this machine first.',
    sources: [SOURCES.platformLimits],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => {
      const mode = optionText(engine, 'disaggregation-mode');
      return confidential && (mode === 'prefill' || mode === 'decode')
        ? { evidence: `--disaggregation-mode ${mode}` }
        : null;
    },
  }),
];
