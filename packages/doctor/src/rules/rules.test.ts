import { settingsWith } from '@bridgekeeper/server';
import { describe, expect, test } from 'vitest';
import { ENGINE_VARIABLES } from '../collect/engine.ts';
import { correct } from '../command/correct.ts';
import type { FactName, FactValues } from '../facts.ts';
import { unknown } from '../facts.ts';
import { diagnose } from '../rule.ts';
import { engineFacts, factsWith } from '../testing/facts.ts';
import { RULES } from './index.ts';
import { SOURCES } from './sources.ts';

type Case = Partial<FactValues>;
const SETTINGS = {
  environment: 'production',
  ccFeature: 1,
  devTools: false,
  multiGpuMode: 'none',
} as const;
const cc = (more: Partial<FactValues['confidentialSettings']>): Case => ({
  confidentialSettings: { ...SETTINGS, ...more },
});
const vllm = (options: string, version?: string) => engineFacts(`vllm serve m ${options}`, version);
const vllmWith = (variable: string, options = '') =>
  engineFacts(`${variable} vllm serve m ${options}`);
const sglang = (options: string) => engineFacts(`sglang serve --model-path m ${options}`);
const tensorrt = (settings: Readonly<Record<string, unknown>>) =>
  engineFacts('trtllm-serve m --config engine.yaml', '1.2.0', settings);
const open = (facts: Case): Case => ({ ...facts, confidential: false, guest: 'plain' });
const offload = (connector: string) => `--kv-transfer-config '{"kv_connector":"${connector}"}'`;
const NO_FUSION = `--compilation-config '{"pass_config":{"fuse_allreduce_rms":false}}'`;

/** For every rule: facts that make it fire, and facts close to them that do not. */
const CASES: Readonly<Record<string, { fires: readonly Case[]; silent: readonly Case[] }>> = {
  'gpu-not-confidential': {
    fires: [{ confidential: false }, { confidential: false, guest: 'sev-snp' }],
    silent: [{}, { confidential: false, guest: 'plain' }],
  },
  'cc-developer-tools': { fires: [cc({ devTools: true })], silent: [{}] },
  'cc-simulated': { fires: [cc({ environment: 'simulation' })], silent: [{}] },
  'nvlink-encryption-alone': {
    fires: [cc({ ccFeature: 0, multiGpuMode: 'nvlink-encryption' })],
    silent: [cc({ multiGpuMode: 'nvlink-encryption' }), cc({ ccFeature: 0 })],
  },
  'gpus-not-ready': { fires: [{ gpusReady: false }], silent: [{}, open({ gpusReady: false })] },
  'mig-under-cc': {
    fires: [{ mig: [{ index: 3, on: true }] }],
    silent: [{}, open({ mig: [{ index: 3, on: true }] })],
  },
  'protected-pcie-nvlink-plain': {
    fires: [cc({ ccFeature: 0, multiGpuMode: 'protected-pcie' })],
    silent: [cc({ multiGpuMode: 'nvlink-encryption' })],
  },
  'keys-rotate': { fires: [{ keyRotationAttackerAdvantage: 2 ** 40 }], silent: [{}] },
  'driver-without-cc-settings': { fires: [cc({ multiGpuMode: null })], silent: [{}] },
  'driver-before-multi-gpu-cc': {
    fires: [{ driverVersion: [580, 95, 5] }, { driverVersion: [580], gpuKind: 'b200' }],
    silent: [
      { driverVersion: [590, 48, 1] },
      { driverVersion: [580], gpuCount: 1 },
      { driverVersion: [580], gpuKind: 'h100' },
    ],
  },
  'single-gpu-cc-only': {
    fires: [{ gpuKind: 'rtx-pro-6000', gpuCount: 2 }],
    silent: [{ gpuKind: 'rtx-pro-6000', gpuCount: 1 }, {}],
  },
  'part-of-a-hopper-board': {
    fires: [{ gpuKind: 'h200', gpuCount: 4 }],
    silent: [{ gpuKind: 'h200' }, { gpuKind: 'h100', gpuCount: 1 }, { gpuCount: 4 }],
  },
  'contexts-near-limit': {
    fires: [
      { gpuProcesses: [{ index: 0, pids: Array.from({ length: 18 }, (_, pid) => pid + 2) }] },
    ],
    silent: [{ gpuProcesses: [{ index: 0, pids: [2, 3] }] }, vllm('-tp 8')],
  },
  'gpu-shared': {
    fires: [{ gpuProcesses: [{ index: 1, pids: [77] }] }],
    silent: [{}, open({ gpuProcesses: [{ index: 1, pids: [77] }] })],
  },
  'persistence-off': {
    fires: [{ persistence: [{ index: 0, on: false }] }],
    silent: [{}, open({ persistence: [{ index: 0, on: false }] })],
  },
  'cpu-without-aes': {
    fires: [{ cpuFlags: new Set(['sse2']) }],
    silent: [{}, open({ cpuFlags: new Set(['sse2']) })],
  },
  'cpu-without-vector-aes': {
    fires: [{ cpuFlags: new Set(['aes', 'vaes']) }],
    silent: [{}, { cpuFlags: new Set(['sse2']) }],
  },
  'memory-locking-limited': {
    fires: [{ memlockBytes: 8 * 2 ** 20 }],
    silent: [{}, { memlockBytes: 2 ** 40 }],
  },
  'hugepages-never': {
    fires: [{ transparentHugepages: 'never' }],
    silent: [{}, { transparentHugepages: 'always' }],
  },
  'swap-in-confidential-guest': {
    fires: [{ swapBytes: 2 ** 30 }],
    silent: [{}, { swapBytes: 2 ** 30, guest: 'plain' }],
  },
  'host-tier-beyond-memory': {
    fires: [{ ...vllm('--kv-offloading-size 180'), memoryBytes: 2 ** 37 }],
    silent: [vllm('--kv-offloading-size 180'), { memoryBytes: 2 ** 30 }],
  },
  'own-policy-overlap': {
    fires: [{ settings: settingsWith({ policy: 'overlap' }) }],
    silent: [{}, open({ settings: settingsWith({ policy: 'overlap' }) })],
  },
  'own-law-on-top': {
    fires: [{ settings: settingsWith({ law: 'emulate:b300-cc' }) }],
    silent: [{}, open({ settings: settingsWith({ law: 'emulate:b300-cc' }) })],
  },
  'own-server-open': {
    fires: [{ settings: settingsWith({ host: '0.0.0.0' }) }],
    silent: [
      {},
      { settings: settingsWith({ host: '0.0.0.0', apiKey: ['k'] }) },
      { settings: settingsWith({ host: '0.0.0.0', uds: '/s' }) },
      { settings: settingsWith({ host: '127.0.0.2' }) },
    ],
  },
  'nccl-multicast': {
    fires: [vllmWith('NCCL_NVLS_ENABLE=1')],
    silent: [vllmWith('NCCL_NVLS_ENABLE=0'), open(vllmWith('NCCL_NVLS_ENABLE=1'))],
  },
  'nccl-peer-to-peer-off': {
    fires: [vllmWith('NCCL_P2P_DISABLE=1', '-tp 2')],
    silent: [vllmWith('NCCL_P2P_DISABLE=1'), vllmWith('NCCL_P2P_DISABLE=0', '-tp 2')],
  },
  'launches-block': {
    fires: [vllmWith('CUDA_LAUNCH_BLOCKING=1')],
    silent: [vllmWith('CUDA_LAUNCH_BLOCKING=0'), open(vllmWith('CUDA_LAUNCH_BLOCKING=1'))],
  },
  'pytorch-registers-host-memory': {
    fires: [
      vllmWith('PYTORCH_CUDA_ALLOC_CONF=pinned_use_cuda_host_register:True'),
      vllmWith('PYTORCH_ALLOC_CONF=a:b,pinned_use_cuda_host_register:True'),
    ],
    silent: [
      vllmWith('PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True'),
      vllmWith('PYTORCH_CUDA_ALLOC_CONF=pinned_use_cuda_host_register:False'),
    ],
  },
  'autotuner-times-with-events': {
    fires: [vllmWith('FLASHINFER_AUTOTUNE_TIMER=cudaevent')],
    silent: [vllmWith('FLASHINFER_AUTOTUNE_TIMER=auto'), vllm('')],
  },
  'vllm-stale-inputs-by-default': {
    fires: [vllm('', '0.25.0'), vllm('', '0.30.1')],
    silent: [
      vllm('', '0.24.9'),
      vllmWith('VLLM_USE_V2_MODEL_RUNNER=0'),
      open(vllm('')),
      sglang(''),
    ],
  },
  'vllm-stale-inputs-asked-for': {
    fires: [vllmWith('VLLM_USE_V2_MODEL_RUNNER=1')],
    silent: [vllmWith('VLLM_USE_V2_MODEL_RUNNER=0'), open(vllmWith('VLLM_USE_V2_MODEL_RUNNER=1'))],
  },
  'vllm-async-scheduling-by-default': {
    fires: [vllm('', '0.14.0')],
    silent: [vllm('', '0.13.0'), vllm('--no-async-scheduling'), open(vllm(''))],
  },
  'vllm-async-scheduling-asked-for': {
    fires: [vllm('--async-scheduling', '0.11.0'), vllm('--async_scheduling')],
    silent: [vllm('--no-async-scheduling'), vllm(''), open(vllm('--async-scheduling'))],
  },
  'vllm-async-scheduling-off-in-vain': {
    fires: [open(vllm('--no-async-scheduling'))],
    silent: [open(vllm('')), vllm('--no-async-scheduling')],
  },
  'vllm-eager': {
    fires: [vllm('--enforce-eager')],
    silent: [vllm('--no-enforce-eager'), vllm(''), open(vllm('--enforce-eager'))],
  },
  'vllm-no-graph-mode': {
    fires: [
      vllm(`--compilation-config '{"cudagraph_mode":"NONE"}'`),
      vllm('-cc.cudagraph_mode=NONE'),
      vllm(`-O '{"cudagraph_mode": 0}'`),
    ],
    silent: [vllm(`-cc '{"cudagraph_mode":"FULL"}'`), vllm('-O3'), vllm('-cc not-json')],
  },
  'vllm-slower-since-0.26': {
    fires: [vllm('', '0.29.0'), vllm('', '0.29.1')],
    silent: [vllm('', '0.26.0'), vllm('', '0.30.0'), open(vllm('', '0.29.0'))],
  },
  'vllm-kv-offload': {
    fires: [
      vllm('--kv-offloading-size=180'),
      vllm(offload('OffloadingConnector')),
      vllm('--kv-transfer-config.kv_connector SimpleCPUOffloadConnector'),
      vllm(`--kv-transfer-config '{"kv_connector":"MultiConnector","kv_connector_extra_config":
        {"connectors":[{"kv_connector":"OffloadingConnector"},{"kv_connector":"X"}]}}'`),
    ],
    silent: [
      vllm('--kv-offloading-size 0'),
      vllm(offload('LMCacheConnectorV1')),
      vllm('--kv-offloading-size 180', '0.26.0'),
      open(vllm('--kv-offloading-size 180')),
    ],
  },
  'vllm-rdma-connector': {
    fires: [vllm(offload('NixlConnector'))],
    silent: [vllm(offload('OffloadingConnector')), open(vllm(offload('NixlConnector')))],
  },
  'vllm-weights-on-the-host': {
    fires: [vllm('--cpu-offload-gb 10')],
    silent: [vllm('--cpu-offload-gb 0'), open(vllm('--cpu-offload-gb 10'))],
  },
  'vllm-slow-loader': {
    fires: [vllm(''), vllm('--load-format safetensors'), vllm('--load_format=auto')],
    silent: [vllm('--load-format runai_streamer'), vllm('--load-format dummy'), open(vllm(''))],
  },
  'vllm-registering-loader': {
    fires: [vllm('--load-format instanttensor')],
    silent: [vllm('--load-format fastsafetensors'), open(vllm('--load-format instanttensor'))],
  },
  'vllm-flashinfer-all-reduce-by-default': {
    fires: [vllm('-tp 2', '0.29.0')],
    silent: [
      vllm('-tp 2', '0.28.0'),
      vllm(''),
      vllmWith('VLLM_ALLREDUCE_USE_FLASHINFER=0', '-tp 2'),
    ],
  },
  'vllm-flashinfer-all-reduce-asked-for': {
    fires: [vllmWith('VLLM_ALLREDUCE_USE_FLASHINFER=1', '--tensor-parallel-size=2')],
    silent: [vllmWith('VLLM_ALLREDUCE_USE_FLASHINFER=1'), vllm('-tp 2')],
  },
  'vllm-fused-all-reduce': {
    fires: [vllm('-tp 2'), vllm('-tp=2 -cc.pass_config.fuse_allreduce_rms true')],
    silent: [
      vllm(`-tp 2 ${NO_FUSION}`),
      vllm('-tp 2 -cc.pass_config.fuse_allreduce_rms=false'),
      vllm('-tp 2 --enforce-eager'),
      vllm(''),
    ],
  },
  'vllm-symmetric-memory': {
    fires: [vllm('-tp 2'), vllmWith('VLLM_ALLREDUCE_USE_SYMM_MEM=1', '-tp 2')],
    silent: [vllmWith('VLLM_ALLREDUCE_USE_SYMM_MEM=0', '-tp 2'), vllm(''), open(vllm('-tp 2'))],
  },
  'vllm-custom-all-reduce': {
    fires: [vllm('-tp 2')],
    silent: [vllm('-tp 2 --disable-custom-all-reduce'), vllm(''), sglang('--tp 2')],
  },
  'sglang-overlap-schedule': {
    fires: [sglang('')],
    silent: [sglang('--disable-overlap-schedule'), open(sglang('')), vllm('')],
  },
  'sglang-told-it-is-open': {
    fires: [engineFacts('SGLANG_CONFIDENTIAL_COMPUTE=0 sglang serve --model m')],
    silent: [engineFacts('SGLANG_CONFIDENTIAL_COMPUTE=1 sglang serve --model m'), sglang('')],
  },
  'sglang-hicache': {
    fires: [sglang('--enable-hierarchical-cache --hicache-ratio 2')],
    silent: [sglang(''), open(sglang('--enable-hierarchical-cache'))],
  },
  'sglang-multicast': {
    fires: [sglang('--enable-torch-symm-mem'), sglang('--enable-nccl-nvls --enable-symm-mem')],
    silent: [sglang(''), open(sglang('--enable-nccl-nvls'))],
  },
  'sglang-fused-all-reduce': {
    fires: [
      sglang('--enable-flashinfer-allreduce-fusion'),
      sglang('--flashinfer-allreduce-fusion-backend auto'),
    ],
    silent: [sglang(''), open(sglang('--enable-flashinfer-allreduce-fusion'))],
  },
  'sglang-custom-all-reduce': {
    fires: [sglang('--tp 8'), sglang('--tp-size=8')],
    silent: [sglang('--tp 8 --disable-custom-all-reduce'), sglang('')],
  },
  'sglang-no-graphs': {
    fires: [sglang('--disable-cuda-graph'), sglang('--cuda-graph-backend-decode=disabled')],
    silent: [sglang('--cuda-graph-backend-decode full'), open(sglang('--disable-cuda-graph'))],
  },
  'sglang-weights-on-the-host': {
    fires: [sglang('--cpu-offload-gb 20')],
    silent: [sglang(''), open(sglang('--cpu-offload-gb 20'))],
  },
  'sglang-rdma-disaggregation': {
    fires: [sglang('--disaggregation-mode prefill')],
    silent: [sglang('--disaggregation-mode null'), open(sglang('--disaggregation-mode decode'))],
  },
  'tensorrt-llm-host-kv': {
    fires: [tensorrt({ kv_cache_config: { host_cache_size: 2 ** 35 } })],
    silent: [
      tensorrt({ kv_cache_config: { host_cache_size: 0 } }),
      engineFacts('trtllm-serve m'),
      open(tensorrt({ kv_cache_config: { host_cache_size: 1 } })),
    ],
  },
  'tensorrt-llm-kv-manager-v2': {
    fires: [tensorrt({ kv_cache_config: { use_kv_cache_manager_v2: true } })],
    silent: [tensorrt({ kv_cache_config: { use_kv_cache_manager_v2: 'auto' } }), tensorrt({})],
  },
  'tensorrt-llm-old-backend': {
    fires: [engineFacts('trtllm-serve serve m --backend tensorrt')],
    silent: [engineFacts('trtllm-serve m --backend pytorch'), engineFacts('trtllm-serve m')],
  },
  'tensorrt-llm-no-graphs': {
    fires: [tensorrt({ cuda_graph_config: null })],
    silent: [tensorrt({ cuda_graph_config: {} }), tensorrt({})],
  },
};

const judge = (facts: Case, id: string) =>
  diagnose(
    factsWith(facts),
    RULES.filter((rule) => rule.id === id),
  );

test('every rule has a case that fires and one that does not, and no case is of no rule', () => {
  expect(Object.keys(CASES).sort()).toEqual(RULES.map(({ id }) => id).sort());
  for (const [id, { fires, silent }] of Object.entries(CASES)) {
    expect(fires.length, id).toBeGreaterThan(0);
    expect(silent.length, id).toBeGreaterThan(0);
  }
});

describe.each(Object.entries(CASES))('%s', (id, { fires, silent }) => {
  test.each(fires.map((facts, index) => [index + 1, facts] as const))('fires, %d', (_, facts) => {
    const { findings, notChecked } = judge(facts, id);
    expect(notChecked).toEqual([]);
    expect(findings.map((finding) => finding.id)).toEqual([id]);
    expect(findings[0]!.evidence.length).toBeGreaterThan(5);
  });

  test.each(silent.map((facts, index) => [index + 1, facts] as const))(
    'is silent, %d',
    (_, facts) => {
      expect(judge(facts, id)).toEqual({ findings: [], notChecked: [] });
    },
  );

  test('does not fire on a command once its changes are made', () => {
    for (const facts of fires) {
      const engine = facts.engine;
      const changes = judge(facts, id).findings[0]!.changes;
      if (engine === undefined || changes.some(({ kind }) => kind === 'set-in-file')) continue;
      if (changes.length === 0) continue;
      const { command } = correct(engine, changes);
      const version = facts.engineVersion!.join('.');
      const again = { ...facts, ...engineFacts(command, version) };
      expect(judge(again, id).findings, command).toEqual([]);
    }
  });

  test('says nothing of what is not known', () => {
    const rule = RULES.find((each) => each.id === id)!;
    for (const name of rule.needs as readonly FactName[]) {
      const facts = { ...factsWith(fires[0]), [name]: unknown('no reason') };
      const { findings, notChecked } = diagnose(facts, [rule]);
      expect(findings).toEqual([]);
      expect(notChecked[0]).toMatchObject({ because: 'no reason', rules: [{ id }] });
    }
  });
});

test('a sound machine has no finding, and a rule with versions asks for the version', () => {
  expect(diagnose(factsWith(), RULES)).toEqual({ findings: [], notChecked: [] });
  const facts = { ...factsWith(vllm('')), engineVersion: unknown('nobody said') };
  const { findings, notChecked } = diagnose(facts, RULES);
  expect(findings.map(({ id }) => id)).toEqual(['vllm-slow-loader']);
  expect(notChecked).toHaveLength(1);
  expect(notChecked[0]!.rules).toContainEqual({
    id: 'vllm-stale-inputs-by-default',
    versions: 'vLLM 0.25.0 and later',
  });
});

test('every source is used, and findings come most severe first', () => {
  const used = new Set(RULES.flatMap(({ sources }) => sources.map(({ name }) => name)));
  expect([...used].sort()).toEqual(
    Object.values(SOURCES)
      .map(({ name }) => name)
      .sort(),
  );
  const many = { ...vllm('-tp 2 --enforce-eager'), persistence: [{ index: 0, on: false }] };
  const severities = diagnose(factsWith(many), RULES).findings.map(({ severity }) => severity);
  const order = ['critical', 'error', 'warning', 'info'];
  expect(severities).toEqual([...severities].sort((a, b) => order.indexOf(a) - order.indexOf(b)));
  expect(severities[0]).toBe('critical');
});

/** Notes which variables are asked for. */
class NotingMap extends Map<string, string> {
  static readonly asked = new Set<string>();

  override get(name: string): string | undefined {
    NotingMap.asked.add(name);
    return super.get(name);
  }

  override has(name: string): boolean {
    NotingMap.asked.add(name);
    return super.has(name);
  }
}

test('of a process’s environment, exactly the variables that rules ask for are read', () => {
  for (const [id, { fires, silent }] of Object.entries(CASES)) {
    for (const facts of [...fires, ...silent]) {
      if (facts.engine === undefined) continue;
      const engine = { ...facts.engine, variables: new NotingMap(facts.engine.variables) };
      judge({ ...facts, engine }, id);
    }
  }
  expect([...NotingMap.asked].sort()).toEqual([...ENGINE_VARIABLES]);
});
