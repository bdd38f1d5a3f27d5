// What a prompt costs that returns after others have taken its KV from the device, on a modelled
// H200 under the law of a confidential B300: computed again, or brought back from host memory, part
// by part. node docs/results/kv/parts.mjs <built checkout> [prompt tokens]
// For windowed models the pages of all layers are beside it, as they were moved before.
import { resolve } from 'node:path';

const [root, promptTokens = '8192'] = process.argv.slice(2);
const packages = resolve(root, 'packages');
const load = (path) => import(`${packages}/${path}`);
const planner = await load('planner/dist/index.js');
const { rooflineOf } = await load('planner/dist/gpus/gpu.js');
const { openModelDevice, VirtualClock } = await load('device/dist/index.js');
const { profileLaw, referenceProfile } = await load('bridge/dist/index.js');
const { engineOptions, generate, request, withEngine } = await load('engine/dist/testing/run.js');

const LAW = 'b300-cc';
const length = Number(promptTokens);
/** The device has room for four such prompts, and six others come in between. */
const ROOM = 4;
const OTHERS = 6;
const promptOf = (of) => Array.from({ length }, (_, i) => (i * 31 + of * 7919) % 5000);

async function measure(name, more) {
  const clock = new VirtualClock();
  clock.runFreely();
  const profile = referenceProfile(LAW);
  const roofline = rooflineOf(planner.knownGpu('h200'));
  const device = openModelDevice({ clock, law: profileLaw(profile), ...roofline });
  const { spec } = planner.knownModel(name);
  const own = {
    spec,
    dummy: true,
    model: name,
    policy: 'resident',
    bridge: profile,
    maxRows: 8,
    maxBatchTokens: 2048,
    maxModelTokens: length + 1024,
    pageTokens: 16,
    availableHostBytes: () => 2 ** 40,
    ...more,
  };
  // Prices of prompts are learnt: the first requests are of the same length as those measured.
  return withEngine(engineOptions(device, own), async (engine) => {
    let asked = 0;
    const ask = async (of) => {
      const startNs = clock.nowNs();
      let firstNs = 0;
      const wanted = request(`r${asked++}`, promptOf(of), { maxTokens: 4 });
      const { finish } = await new Promise((done) => {
        engine.submit(wanted, (event) => {
          if (firstNs === 0 && event.tokens.length > 0) firstNs = clock.nowNs();
          if (event.finish !== undefined) done(event);
        });
      });
      return { ttftMs: (firstNs - startNs) / 1e6, kv: finish.kv ?? [] };
    };
    const crossed = (purpose) =>
      engine.stats().bridge.totals.find((each) => each.purpose === purpose)?.bytes ?? 0;
    const cold = await ask(0);
    const warm = [];
    for (let round = 0; round < 3; round++) {
      for (let of = 1; of <= OTHERS; of++) await ask(1 + ((round * OTHERS + of) % (2 * OTHERS)));
      const before = crossed('kv-restore');
      const { ttftMs } = await ask(0);
      warm.push({ ttftMs, restoredMiB: (crossed('kv-restore') - before) / 2 ** 20 });
    }
    const { kv } = engine.stats();
    const parts = kv.parts.map(({ part, bytes, places }) => ({ part, bytes, places }));
    return { coldTtftMs: cold.ttftMs, warm, parts, spilledMiB: crossed('kv-spill') / 2 ** 20 };
  });
}

const TIERS = { hostBytes: 64 * 2 ** 30, disk: null, spillLaneShare: 0.5, policy: 'lru' };
const kvBytesOf = async (name) => {
  const { kvBytesPerToken, stateBytesPerRequest } = planner.knownModel(name);
  return ROOM * (kvBytesPerToken * length + stateBytesPerRequest) * 1.15;
};
const rows = [];
for (const name of ['gpt-oss-120b', 'gemma-4-31B', 'Qwen3.6-27B-FP8']) {
  const isWindowed = name !== 'Qwen3.6-27B-FP8';
  const kvBytes = await kvBytesOf(name);
  const settings = [
    ['computed again', {}],
    ...(isWindowed ? [['restored, pages of all layers', { tiers: TIERS, hasOnePool: true }]] : []),
    ['restored, part by part', { tiers: TIERS }],
  ];
  for (const [how, more] of settings) {
    const begun = process.cpuUsage();
    const result = await measure(name, { kvBytes: kvBytes * (more.hasOnePool ? 2.2 : 1), ...more });
    const { user, system } = process.cpuUsage(begun);
    process.stderr.write(`${name}, ${how}: ${((user + system) / 1e6).toFixed(0)} s of processor\n`);
    rows.push({ model: name, how, law: LAW, promptTokens: length, ...result });
  }
}
console.log(JSON.stringify(rows, undefined, 1));
