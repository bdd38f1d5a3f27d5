import { structuredValue, switchState } from '../command/queries.ts';
import { defineRule, type Verdict } from '../rule.ts';
import { EAGER_COST, SOURCES } from './sources.ts';

const V2_RUNNER = 'VLLM_USE_V2_MODEL_RUNNER';
const ASYNC = 'async-scheduling';

const STALE = {
  severity: 'critical',
  engine: 'vllm',
  consequence:
    'Answers can be garbage, with status 200: the V2 runner reads its inputs through views of ' +
    'pinned host memory, and under confidential computing these views can be stale.',
  remedy: `${V2_RUNNER}=0 takes the V1 runner, which copies its inputs.`,
} as const;

const useV1Runner = (evidence: string): Verdict => ({
  evidence,
  changes: [{ kind: 'set-variable', name: V2_RUNNER, value: '0' }],
});

const OVERLAP = {
  severity: 'warning',
  engine: 'vllm',
  consequence:
    'The copies of one step queue behind the work of the next and block the thread that launches ' +
    'it: on a confidential B300, 3550 tokens/s against 4104 without (dense 27B FP8, 128 requests).',
  remedy:
    '--no-async-scheduling. Without confidential computing it would cost 8 %: keep it to ' +
    'confidential machines, and drop it once the engine drains from a thread of its own.',
  planned: { before: 'vllm-v1-async', after: 'vllm-v1-sync' },
} as const;

const drainFirst = (evidence: string): Verdict => ({
  evidence,
  changes: [{ kind: 'switch', name: ASYNC, on: false }],
});

/** vLLM: how a step is run, and whether its output can be trusted. */
export const VLLM_STEP_RULES = [
  defineRule({
    ...STALE,
    id: 'vllm-stale-inputs-by-default',
    title: 'The default model runner can read stale inputs',
    sources: [SOURCES.vllm57224, SOURCES.vllm57404, SOURCES.vllm44443],
    versions: { from: '0.25.0' },
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && !engine.variables.has(V2_RUNNER)
        ? useV1Runner(`${V2_RUNNER} is not set, and V2 is the default for dense models`)
        : null,
  }),
  defineRule({
    ...STALE,
    id: 'vllm-stale-inputs-asked-for',
    title: 'The V2 model runner is asked for',
    sources: [SOURCES.vllm57224, SOURCES.vllm57404],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && engine.variables.get(V2_RUNNER) === '1'
        ? useV1Runner(`${V2_RUNNER}=1`)
        : null,
  }),
  defineRule({
    ...OVERLAP,
    id: 'vllm-async-scheduling-by-default',
    title: 'Async scheduling is on by default',
    sources: [SOURCES.serializedBridge, SOURCES.vllm52226, SOURCES.vllm27614],
    versions: { from: '0.14.0' },
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && switchState(engine, ASYNC) === undefined
        ? drainFirst('nothing turns async scheduling off')
        : null,
  }),
  defineRule({
    ...OVERLAP,
    id: 'vllm-async-scheduling-asked-for',
    title: 'Async scheduling is asked for',
    sources: [SOURCES.serializedBridge, SOURCES.vllm52226],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && switchState(engine, ASYNC) === true ? drainFirst(`--${ASYNC}`) : null,
  }),
  defineRule({
    id: 'vllm-async-scheduling-off-in-vain',
    severity: 'warning',
    engine: 'vllm',
    title: 'Async scheduling is off without confidential computing',
    consequence: 'About 8 % of throughput: 4145 in place of 4520 tokens/s on an open B300.',
    remedy: 'Leave --no-async-scheduling to confidential machines.',
    planned: { before: 'vllm-v1-sync', after: 'vllm-v1-async' },
    sources: [SOURCES.serializedBridge, SOURCES.inference],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      !confidential && switchState(engine, ASYNC) === false
        ? {
            evidence: 'async scheduling is turned off and confidential computing is off',
            changes: [{ kind: 'remove-option', name: ASYNC }],
          }
        : null,
  }),
  defineRule({
    id: 'vllm-eager',
    severity: 'error',
    engine: 'vllm',
    title: 'CUDA graphs are off',
    consequence: EAGER_COST,
    remedy: 'Leave graphs on.',
    planned: { before: 'vllm-v1-async', after: 'vllm-v1-async', captures: true },
    sources: [SOURCES.eagerOnH200, SOURCES.bridgeB200],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) =>
      confidential && switchState(engine, 'enforce-eager') === true
        ? {
            evidence: '--enforce-eager',
            changes: [{ kind: 'remove-option', name: 'enforce-eager' }],
          }
        : null,
  }),
  defineRule({
    id: 'vllm-no-graph-mode',
    severity: 'error',
    engine: 'vllm',
    title: 'The compilation settings turn CUDA graphs off',
    consequence: EAGER_COST,
    remedy: 'cudagraph_mode FULL_AND_PIECEWISE, or leave it out.',
    planned: { before: 'vllm-v1-async', after: 'vllm-v1-async', captures: true },
    sources: [SOURCES.eagerOnH200, SOURCES.bridgeB200],
    needs: ['engine', 'confidential'],
    check: ({ engine, confidential }) => {
      const path = ['cudagraph_mode'] as const;
      const mode = structuredValue(engine, 'compilation-config', path);
      if (!confidential || (mode !== 'NONE' && mode !== 0)) return null;
      const value = 'FULL_AND_PIECEWISE';
      return {
        evidence: `cudagraph_mode is ${mode}`,
        changes: [{ kind: 'set-inside', name: 'compilation-config', path, value }],
      };
    },
  }),
  defineRule({
    id: 'vllm-slower-since-0.26',
    severity: 'warning',
    engine: 'vllm',
    title: 'A version reported 3.3 times slower under confidential computing',
    consequence:
      'Decoding of one FP8 mixture-of-experts model fell 3.3 times from 0.26.0 to 0.29.0 on a ' +
      'confidential H100; an open H200 saw no loss.',
    remedy: 'Measure 0.26.0 beside it before you settle; the cause is not known.',
    sources: [SOURCES.vllm57680],
    versions: { from: '0.29.0', before: '0.30.0' },
    needs: ['engine', 'confidential', 'engineVersion'],
    check: ({ confidential, engineVersion }) =>
      confidential ? { evidence: `version ${engineVersion.join('.')}` } : null,
  }),
];
