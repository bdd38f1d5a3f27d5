// The loads of `bench plan`, request by request and launch by launch, on a GPU or predicted:
//   node docs/results/planner/launches.mjs <folder of qwen3-8b> <cuda|predicted> <law|off> \
//     <policy> <loads>
// Times in ms from the first arrival. On a GPU the products' algorithms are named, too.
import { resolve } from 'node:path';

const [folder, where, law, policy, loads] = process.argv.slice(2);
const packages = resolve(import.meta.dirname, '../../../packages');
const load = (path) => import(`${packages}/${path}`);
const planner = await load('planner/dist/index.js');
const { workloadOf, warmUp } = await load('bench/dist/plan/loads.js');
const products = new Map();
const launches = [];
const onLaunch = (launch) => launches.push(launch);

const { engine, clock } = await (where === 'cuda' ? onGpu() : predicted());
const runs = [];
for (const name of loads.split(',')) {
  const unseen = new planner.LoadObserver({ warmupRequests: 0, slo: null });
  await planner.driveEngine(engine, clock, warmUp(), unseen, `before ${name}`, false);
  const seen = [];
  const observer = new (class extends planner.LoadObserver {
    ended(watched, nowNs) {
      seen.push({ ...watched, endedNs: nowNs });
      super.ended(watched, nowNs);
    }
  })({ warmupRequests: 0, slo: null });
  launches.length = 0;
  const beganNs = clock.nowNs();
  await planner.driveEngine(engine, clock, workloadOf(name), observer, name, false);
  const ms = (ns) => Number(((ns - beganNs) / 1e6).toFixed(3));
  const { ttftMs, itlMs, outputTokensPerSecond } = observer.summary();
  runs.push({
    load: name,
    outputTokensPerSecond,
    ttftMs,
    itlMsP50: itlMs.p50,
    chunkTokens: engine.stats().chunkTokens,
    // Arrival, first token, end.
    requests: seen
      .toSorted((a, b) => a.arrivedNs - b.arrivedNs)
      .map(({ arrivedNs, firstNs, endedNs }) => [ms(arrivedNs), ms(firstNs), ms(endedNs)]),
    // On the device from, until; decode steps, their rows, tokens of prompts.
    launches: brief(
      launches.map(({ startedNs, doneNs, steps, rows, promptTokens }) => [
        ms(startedNs),
        ms(doneNs),
        steps,
        rows,
        promptTokens,
      ]),
    ),
  });
}
await engine.shutdown(0);
const algorithms = [...products].map(([key, names]) => ({ product: key, algorithms: [...names] }));
const about = { where, law, policy, date: new Date().toISOString() };
console.log(JSON.stringify({ ...about, runs, algorithms }));

/** Those with prompts one by one, with the decode steps between two of them together. */
function brief(all) {
  const kept = [];
  for (const launch of all) {
    const last = kept.at(-1);
    const isMore = launch[4] === 0 && last !== undefined && last[4] === 0 && last[3] === launch[3];
    if (isMore) {
      last[1] = launch[1];
      last[2] += launch[2];
    } else kept.push(launch);
  }
  return kept;
}

async function onGpu() {
  await watchProducts();
  const { buildEngine, configureEngine, readSealPolicy, settingsWith } = await load(
    'server/dist/index.js',
  );
  const settings = settingsWith({
    model: folder,
    loadFormat: 'dummy',
    device: 'cuda',
    law: law === 'off' ? 'off' : `emulate:${law}`,
    policy,
    maxNumSeqs: 128,
    maxModelLen: 2048,
    maxNumBatchedTokens: 2048,
    enablePrefixCaching: false,
  });
  const sealPolicy = await readSealPolicy(settings);
  return buildEngine(configureEngine(settings, sealPolicy), { onLaunch });
}

/** Which algorithm each product has: id, tile, stages and cluster as cuBLASLt numbers them. */
async function watchProducts() {
  const { CublasLt } = await load('native/dist/index.js');
  const { Matmul, matmulKey } = await load('device/dist/cuda/matmul/matmul.js');
  let current = null;
  const { launch } = Matmul.prototype;
  Matmul.prototype.launch = function (shape, operands, algorithm) {
    current = algorithm === undefined ? matmulKey(shape) : null;
    return launch.call(this, shape, operands, algorithm);
  };
  const { isSupported } = CublasLt.prototype;
  CublasLt.prototype.isSupported = function (name, ...args) {
    if (name === 'cublasLtMatmul' && current !== null) {
      const algorithm = args[12];
      const names = products.get(current) ?? new Set();
      names.add(nameOf(this, algorithm, isSupported));
      products.set(current, names);
      current = null;
    }
    return isSupported.call(this, name, ...args);
  };
}

function nameOf(lt, algorithm, isSupported) {
  const value = Buffer.alloc(8);
  const written = Buffer.alloc(8);
  return [0, 1, 2, 6, 8]
    .map((attribute) => {
      value.fill(0);
      const bytes = attribute === 8 ? 2 : 4;
      const name = 'cublasLtMatmulAlgoConfigGetAttribute';
      try {
        const isKnown = isSupported.call(lt, name, algorithm, attribute, value, bytes, written);
        return isKnown ? value.readInt32LE(0) : '?';
      } catch {
        return '?';
      }
    })
    .join('/');
}

async function predicted() {
  const { openModelDevice, VirtualClock } = await load('device/dist/index.js');
  const { createEngine } = await load('engine/dist/index.js');
  const { profileLaw, referenceProfile } = await load('bridge/dist/index.js');
  const { reachedByOwn, rooflineOf } = await load('planner/dist/gpus/gpu.js');
  const gpu = planner.knownGpu('h200');
  const model = planner.knownModel('qwen3-8b');
  const profile = law === 'off' ? null : referenceProfile(law);
  const own = new VirtualClock();
  own.runFreely();
  const flags = planner.DEFAULT_FLAGS;
  const device = openModelDevice({
    clock: own,
    law: profile === null ? null : profileLaw(profile),
    roofline: rooflineOf(gpu),
    reached: reachedByOwn(gpu, false),
  });
  const { idleTollNs = 0, queuedTollNs = 0 } = profile?.crossings.d2h.pinned ?? {};
  const engine = await createEngine({
    device,
    policy,
    bridge: profile,
    burst: {
      tollNs: idleTollNs + queuedTollNs,
      interTokenLimitNs: flags.interTokenLimitMs * 1e6,
    },
    model: model.name,
    spec: model.spec,
    dummy: true,
    maxModelTokens: 2048,
    maxRows: 128,
    maxBatchTokens: 2048,
    pageTokens: 16,
    kvFormat: flags.kvFormat,
    memoryUtilization: flags.memoryUtilization,
    prefixCaching: false,
    chunkedPrefill: true,
    maxWaiting: 1000,
    seed: 0,
    onLaunch,
  });
  return { engine, clock: own };
}
