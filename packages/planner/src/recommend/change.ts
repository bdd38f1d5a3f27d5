import type { EngineFlags, EngineName, Scenario } from '../simulate/scenario.ts';
import { summariseWorkload } from '../workload/workload.ts';

/** The engines that are advised on. */
export const FAMILIES = ['vllm', 'sglang', 'tensorrt-llm', 'bridgekeeper'] as const;
export type Family = (typeof FAMILIES)[number];

export const FAMILY_TITLES: Readonly<Record<Family, string>> = {
  vllm: 'vLLM',
  sglang: 'SGLang',
  'tensorrt-llm': 'TensorRT-LLM',
  bridgekeeper: 'Bridgekeeper',
};

/** Where each family begins: as it is delivered. */
export const DELIVERED: Readonly<Record<Family, EngineName>> = {
  vllm: 'vllm-v1-async',
  sglang: 'sglang-overlap',
  'tensorrt-llm': 'trtllm-overlap',
  bridgekeeper: 'bridgekeeper-resident',
};

export function familyOf(engine: EngineName): Family {
  if (engine.startsWith('vllm-')) return 'vllm';
  if (engine.startsWith('sglang-')) return 'sglang';
  return engine.startsWith('trtllm-') ? 'tensorrt-llm' : 'bridgekeeper';
}

/** Something that can be done about an engine, and what a plan makes of it. */
export interface Change {
  readonly id: string;
  readonly family: Family;
  readonly title: string;
  /** How it is set, or which build it is. */
  readonly shown: string;
  /** Words that it adds to the command line; undefined: flags and engine say it. */
  readonly adds?: string;
  /** Whether it needs a build that is not released. */
  readonly needsPatch: boolean;
  readonly reason: string;
  readonly source: string;
  /** Of changes with the same key one is made at most. */
  readonly excludes: string;
  readonly engine: EngineName | null;
  readonly flags: Partial<EngineFlags>;
}

/** The longest request of a load, rounded up to what people write. */
function neededTokens(scenario: Pick<Scenario, 'workload'>): number {
  const { requestTokensMax } = summariseWorkload(scenario.workload);
  return Math.ceil(Math.max(1, requestTokensMax) / 1024) * 1024;
}

const FULL_GRAPHS = `--compilation-config '{"cudagraph_mode": "FULL_AND_PIECEWISE"}'`;
const BRIDGE = 'The Serialized Bridge (Phala), arXiv 2606.23969';
const ROWS_COPIED =
  'every step uploads whole rows of the block table, 4 bytes for each block of the longest ' +
  'request that is allowed';

/** What of a scenario says which changes make sense. */
interface Circumstances {
  readonly hasCc: boolean;
  /** The longest request of the load; undefined: the flags allow no longer one. */
  readonly shorter: number | undefined;
  readonly flags: EngineFlags;
}

type Maybe = Change | false;

/** What may be tried on this scenario, of its engine's family. Nothing that it does already. */
export function changesFor(scenario: Scenario): readonly Change[] {
  const { engine, flags, law } = scenario;
  const family = familyOf(engine);
  const needed = neededTokens(scenario);
  const circumstances: Circumstances = {
    hasCc: law?.confidential ?? false,
    shorter: needed < flags.maxModelTokens ? needed : undefined,
    flags,
  };
  const smallerKv: Change = {
    id: 'kv-fp8',
    family,
    title: 'KV in FP8',
    shown: '--kv-cache-dtype fp8',
    needsPatch: false,
    reason: 'half the bytes of KV: more requests fit, and attention reads less',
    source: 'follows from its size; try what it does to answers',
    excludes: 'kv',
    engine: null,
    flags: { kvFormat: 'fp8-e4m3' },
  };
  const all = [...CHANGES[family](circumstances), smallerKv];
  return all.filter(
    (change): change is Change =>
      change !== false &&
      change.engine !== engine &&
      !(change.id === 'kv-fp8' && flags.kvFormat !== 'element'),
  );
}

const CHANGES: Readonly<Record<Family, (of: Circumstances) => readonly Maybe[]>> = {
  vllm: vllmChanges,
  sglang: sglangChanges,
  'tensorrt-llm': tensorrtChanges,
  bridgekeeper: ownChanges,
};

function vllmChanges({ hasCc, shorter, flags }: Circumstances): readonly Maybe[] {
  return [
    hasCc && {
      id: 'vllm-no-async-scheduling',
      family: 'vllm',
      title: 'Turn async scheduling off',
      shown: '--no-async-scheduling',
      adds: '--no-async-scheduling',
      needsPatch: false,
      reason:
        'the copy of the sampled tokens is issued behind the step and blocks the thread that ' +
        'launches the next one; it also pins memory anew each step',
      source: BRIDGE,
      excludes: 'drain',
      engine: 'vllm-v1-sync',
      flags: {},
    },
    shorter !== undefined && {
      id: 'vllm-max-model-len',
      family: 'vllm',
      title: 'Cut the context to this load’s longest request',
      shown: `--max-model-len ${shorter}`,
      needsPatch: false,
      reason: ROWS_COPIED,
      source: 'vLLM, vllm/v1/worker/gpu_model_runner.py @000fc94 and block_table.py @01edfd0',
      excludes: 'length',
      engine: null,
      flags: { maxModelTokens: shorter },
    },
    flags.graphs !== 'full' && {
      id: 'vllm-full-graphs',
      family: 'vllm',
      title: 'One graph for a decode step',
      shown: FULL_GRAPHS,
      adds: FULL_GRAPHS,
      needsPatch: false,
      reason: 'each piece of a graph is launched by itself, and each launch pays a toll',
      source: 'B200 under TDX, arXiv 2608.26575, Table 7',
      excludes: 'graphs',
      engine: null,
      flags: { graphs: 'full' },
    },
    hasCc && {
      id: 'vllm-worker',
      family: 'vllm',
      title: 'A thread of its own for what comes back',
      shown: 'a build that drains from a worker thread',
      needsPatch: true,
      reason: 'the thread that launches is never blocked by a copy, and async scheduling can stay',
      source: `${BRIDGE}; B200 under TDX, arXiv 2608.26575, Table 14`,
      excludes: 'drain',
      engine: 'vllm-v1-worker',
      flags: {},
    },
    hasCc && {
      id: 'vllm-staged',
      family: 'vllm',
      title: 'Inputs staged on an idle stream (#52226)',
      shown: 'a build with #52226',
      needsPatch: true,
      reason: 'inputs no longer wait behind the step that runs',
      source: 'vllm-project/vllm#52226 (open)',
      excludes: 'drain',
      engine: 'vllm-v1-staged',
      flags: {},
    },
    hasCc && {
      id: 'vllm-packed',
      family: 'vllm',
      title: 'Packed metadata and an output worker',
      shown: 'a build with Tinfoil’s patches',
      needsPatch: true,
      reason: 'one or two copies a step in place of nine, and none in the thread that launches',
      source: 'tinfoilsh, patches 0101 to 0119 for vLLM 0.23 to 0.29',
      excludes: 'drain',
      engine: 'vllm-v1-packed',
      flags: {},
    },
  ];
}

function sglangChanges({ hasCc }: Circumstances): readonly Maybe[] {
  return [
    hasCc && {
      id: 'sglang-no-overlap',
      family: 'sglang',
      title: 'Turn the overlap schedule off',
      shown: '--disable-overlap-schedule',
      adds: '--disable-overlap-schedule',
      needsPatch: false,
      reason: 'the copy of the tokens blocks the scheduler until the step ends either way',
      source: 'sgl-project/sglang#15188, and B200 under TDX, arXiv 2608.26575, Table 9',
      excludes: 'drain',
      engine: 'sglang-no-overlap',
      flags: {},
    },
    hasCc && {
      id: 'sglang-worker',
      family: 'sglang',
      title: 'A thread of its own for what comes back (#31447)',
      shown: 'a build with #31447',
      needsPatch: true,
      reason:
        'the scheduler is never blocked by a copy, and overlap can stay; it asks NVML by itself',
      source: 'sgl-project/sglang#31447, #36810 (open)',
      excludes: 'drain',
      engine: 'sglang-worker',
      flags: {},
    },
  ];
}

function tensorrtChanges({ shorter }: Circumstances): readonly Maybe[] {
  return [
    shorter !== undefined && {
      id: 'tensorrt-llm-max-seq-len',
      family: 'tensorrt-llm',
      title: 'Cut the context to this load’s longest request',
      shown: `--max_seq_len ${shorter}`,
      needsPatch: false,
      reason: 'every step uploads block offsets for the longest request that is allowed',
      source: 'TensorRT-LLM, attention metadata of the PyTorch backend',
      excludes: 'length',
      engine: null,
      flags: { maxModelTokens: shorter },
    },
  ];
}

function ownChanges(): readonly Maybe[] {
  return [
    ...(['resident', 'drain-worker', 'drain-first'] as const).map((policy): Change => {
      return {
        id: `bridgekeeper-${policy}`,
        family: 'bridgekeeper',
        title: `Policy ${policy}`,
        shown: `policy: ${policy}`,
        needsPatch: false,
        reason:
          policy === 'resident'
            ? 'steps run on the device without the host, and tokens come back several steps at once'
            : 'tokens come back after each step, with the least delay between them',
        source: 'docs/concepts/steps.md',
        excludes: 'policy',
        engine: `bridgekeeper-${policy}`,
        flags: {},
      };
    }),
  ];
}

/** The scenario with these changes made. */
export function withChanges(scenario: Scenario, changes: readonly Change[]): Scenario {
  let { engine, flags } = scenario;
  for (const change of changes) {
    engine = change.engine ?? engine;
    flags = { ...flags, ...change.flags };
  }
  return { ...scenario, engine, flags };
}
