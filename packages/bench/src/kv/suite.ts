import {
  aloneNs,
  type Profile,
  REFERENCE_PROFILE_NAMES,
  referenceProfile,
} from '@bridgekeeper/bridge';
import { TIER_POLICY_NAMES } from '@bridgekeeper/engine/measure';
import { columns, type MeasuredRun, summarise, threeDigits } from '@bridgekeeper/report';
import {
  flag,
  integer,
  listOf,
  MODEL_FLAG,
  measuredDevice,
  number,
  oneOf,
  onOff,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server';
import type { Suite, SuiteIo } from '../suite.ts';
import { runEngine } from './engine-run.ts';
import { generateTraffic, TRAFFIC_KINDS } from './generate.ts';
import {
  type PagedRequest,
  type ReplayPolicyName,
  type ReplayPrices,
  type ReplayScore,
  type ReplaySizes,
  replay,
} from './replay.ts';
import { readPagedTrace } from './trace.ts';

const MIB = 2 ** 20;
/** Of what is made up. */
const MAX_PROMPT_TOKENS = 2 ** 17;

const FLAGS = {
  trace: flag(text('file'), undefined, 'requests or conversations to replay; see the reference'),
  generate: flag(oneOf(...TRAFFIC_KINDS), undefined, 'traffic to make up in place of a trace'),
  sessions: flag(integer(1, 2 ** 20), 1000, 'sessions that are made up'),
  sessionRate: flag(number(0.001, 2 ** 20), 1, 'sessions that begin in a second'),
  save: flag(text('file'), undefined, "write what was made up there, in Mooncake's format"),
  through: flag(oneOf('tree', 'engine'), 'tree', 'the prefix tree alone, or the whole engine'),
  sizes: flag(
    listOf('sizes', text('device/host')),
    ['700/2800', '700/10000', '2800/30000'],
    'pages',
  ),
  laws: flag(
    listOf('laws', oneOf(...REFERENCE_PROFILE_NAMES)),
    ['h100-native', 'b300-cc', 'h100-cc'],
    'reference profiles whose crossings are paid',
  ),
  policies: flag(
    listOf('policies', oneOf(...TIER_POLICY_NAMES)),
    TIER_POLICY_NAMES,
    'tier policies',
  ),
  from: flag(number(0, 1), 0, 'share of the requests that is left out at the start'),
  to: flag(number(0, 1), 1, 'share of the requests at which it ends'),
  requests: flag(integer(1, 2 ** 24), undefined, 'at most; default: all'),
  pageTokens: flag(integer(1, 1024), 512, 'tokens of a page'),
  chunkTokens: flag(integer(1, 2 ** 16), 512, "tokens that one of the trace's hash_ids stands for"),
  pageMib: flag(number(0.001, 2 ** 20), 64, 'MiB of a page, in the tree'),
  load: flag(
    number(0.01, 1),
    0.7,
    'of the rate that one device could compute: sets the time scale',
  ),
  jitter: flag(onOff(), true, 'spread arrivals over their second'),
  seed: flag(integer(0, 2 ** 32 - 1), 1, 'of what is drawn'),
  model: { ...MODEL_FLAG, help: 'of the engine; dummy weights' },
};

type KvValues = Values<typeof FLAGS>;

/**
 * What keeping KV below the device is worth: a trace's prompts under each policy, size and law,
 * beside the best that could be had.
 */
export const KV_SUITE: Suite<typeof FLAGS> = {
  name: 'kv',
  summary: 'KV tiers by policy, size and law over a trace, in virtual time',
  flags: FLAGS,
  async run(values, progress, io) {
    const { pageTokens, chunkTokens, jitter: jitters, seed } = values;
    const options = { pageTokens, chunkTokens, jitters, seed };
    const all = readPagedTrace(textOf(values, io), options);
    const part = all.slice(Math.floor(all.length * values.from), Math.ceil(all.length * values.to));
    const requests = part.slice(0, values.requests);
    if (requests.length === 0) throw new UsageError('bad-file', '--trace: there is no request');
    const runs: MeasuredRun[] = [];
    const add = (run: MeasuredRun) => {
      runs.push(run);
      progress(lineOf(run));
    };
    if (values.through === 'engine') await runEngines(requests, values, add);
    else runTrees(requests, values, add);
    const name = values.through === 'engine' ? 'model' : 'none: the prefix tree alone';
    return { device: measuredDevice('model', name), runs, text: tableOf(runs) };
  },
};

/** The trace that is named, or made up. */
function textOf(values: KvValues, io: SuiteIo): string {
  const { trace, generate: kind, save, sessions, sessionRate, chunkTokens, seed } = values;
  if ((trace === undefined) === (kind === undefined)) {
    throw new UsageError('bad-combination', 'give either --trace or --generate');
  }
  if (trace !== undefined) return io.readFile(trace);
  const made = generateTraffic({
    kind: kind!,
    sessions,
    sessionsPerSecond: sessionRate,
    chunkTokens,
    maxTokens: MAX_PROMPT_TOKENS,
    seed,
  });
  if (save !== undefined) io.writeFile(save, made);
  return made;
}

/**
 * As a simulation of Mooncake's traces for Llama-3.1-8B publishes it: a page of 512 tokens with
 * `index` such pages before it takes 28.7 + 0.888 index ms to compute.
 */
function recomputeSeconds(index: number, pageTokens: number): number {
  const pages = pageTokens / 512;
  return pages * (0.0287 + 0.000888 * pages * index);
}

function pricesOn({ crossings }: Profile, { pageMib, pageTokens }: KvValues): ReplayPrices {
  const bytes = pageMib * MIB;
  const least = (direction: 'h2d' | 'd2h') =>
    Math.min(...Object.values(crossings[direction]).map((cost) => aloneNs(cost, bytes))) / 1e9;
  return {
    recomputeSeconds: (index) => recomputeSeconds(index, pageTokens),
    spillSeconds: least('d2h'),
    restoreSeconds: least('h2d'),
  };
}

function runTrees(
  requests: readonly PagedRequest[],
  values: KvValues,
  add: (run: MeasuredRun) => void,
): void {
  const timeScale = timeScaleOf(requests, values);
  const scaled = requests.map((each) => ({ ...each, atSeconds: each.atSeconds * timeScale }));
  const distinct = requests.reduce((sum, { ids }) => sum + ids.length, 0);
  for (const law of values.laws) {
    const prices = pricesOn(referenceProfile(law), values);
    for (const sizes of values.sizes.map(sizesOf)) {
      const deviceOnly = replay(scaled, { ...sizes, hostPages: 0 }, prices, 'lru');
      const ideal = replay(scaled, { ...sizes, hostPages: distinct }, prices, 'lru');
      const score = (policy: string, of: ReplayScore) =>
        add(runOf({ law, policy, ...sizes, timeScale }, of, deviceOnly, ideal, values));
      score('device only', deviceOnly);
      for (const policy of [...values.policies, 'clairvoyant'] as readonly ReplayPolicyName[]) {
        score(policy, replay(scaled, sizes, prices, policy));
      }
      score('infinite host', ideal);
    }
  }
}

function runOf(
  parameters: MeasuredRun['parameters'],
  score: ReplayScore,
  deviceOnly: ReplayScore,
  ideal: ReplayScore,
  { pageMib }: KvValues,
): MeasuredRun {
  const savedSeconds = score.savedSeconds - deviceOnly.savedSeconds;
  const metrics = {
    hitFraction: score.hitPages / score.pages,
    hitOfReusableFraction: score.hitPages / Math.max(1, ideal.hitPages),
    savingsOfIdealFraction: score.savedSeconds / Math.max(1e-9, ideal.savedSeconds),
    spilledPages: score.spilledPages,
    restoredPages: score.restoredPages,
    spilledBytes: score.spilledPages * pageMib * MIB,
    restoredBytes: score.restoredPages * pageMib * MIB,
    laneSeconds: score.laneSeconds,
    savedSeconds,
    netSeconds: savedSeconds - score.laneSeconds,
  };
  return summarise({ through: 'tree', ...parameters }, [metrics]);
}

async function runEngines(
  requests: readonly PagedRequest[],
  values: KvValues,
  add: (run: MeasuredRun) => void,
): Promise<void> {
  for (const law of values.laws) {
    for (const sizes of values.sizes.map(sizesOf)) {
      const common = { law, ...sizes };
      for (const policy of ['device only', ...values.policies]) {
        const { load, pageTokens, seed, model } = values;
        const options = { ...sizes, law, policy, load, pageTokens, seed, model };
        const { timeScale, metrics } = await runEngine(requests, options);
        add(summarise({ through: 'engine', ...common, policy, timeScale }, [metrics]));
      }
    }
  }
}

/** By how much slower than recorded it is replayed, so that one device has so much to compute. */
function timeScaleOf(requests: readonly PagedRequest[], { load, pageTokens }: KvValues): number {
  let seconds = 0;
  for (const { ids } of requests) {
    for (let index = 0; index < ids.length; index++) seconds += recomputeSeconds(index, pageTokens);
  }
  const lasts = requests.at(-1)!.atSeconds - requests[0]!.atSeconds;
  return Number((seconds / load / Math.max(1, lasts)).toPrecision(4));
}

function sizesOf(size: string): ReplaySizes {
  const [device, host, ...more] = size.split('/').map(Number);
  const isWhole = [device, host].every((pages) => Number.isInteger(pages) && pages! > 0);
  if (!isWhole || more.length > 0) {
    throw new UsageError('bad-value', `--sizes ${size}: pages of device and host, as 700/2800`);
  }
  return { devicePages: device!, hostPages: host! };
}

const SHOWN = {
  hitFraction: 'hits',
  hitOfReusableFraction: 'of reusable',
  savingsOfIdealFraction: 'of ideal savings',
  spilledPages: 'written',
  restoredPages: 'read',
  laneSeconds: 'lane s',
  savedSeconds: 'saved s',
  netSeconds: 'net s',
  meanTtftMs: 'TTFT mean ms',
  p99TtftMs: 'TTFT p99 ms',
} as const;

function lineOf({ parameters, metrics }: MeasuredRun): string {
  const { law, devicePages, hostPages, policy } = parameters;
  const shown = Object.entries(SHOWN).flatMap(([metric, label]) =>
    metrics[metric] === undefined ? [] : [`${label} ${threeDigits(metrics[metric])}`],
  );
  return `${law}, ${devicePages}/${hostPages}, ${policy}: ${shown.join(', ')}`;
}

function tableOf(runs: readonly MeasuredRun[]): string {
  const shown = Object.entries(SHOWN).filter(([metric]) => metric in (runs[0]?.metrics ?? {}));
  const heads = ['law', 'device/host', 'policy', ...shown.map(([, label]) => label)];
  const rows = runs.map(({ parameters, metrics }) => [
    String(parameters.law),
    `${parameters.devicePages}/${parameters.hostPages}`,
    String(parameters.policy),
    ...shown.map(([metric]) => threeDigits(metrics[metric] ?? Number.NaN)),
  ]);
  const scale = runs[0]?.parameters.timeScale;
  return [`time scale ${scale}: so much slower than recorded`, ...columns([heads, ...rows])].join(
    '\n',
  );
}
