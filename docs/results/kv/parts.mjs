// What a prompt costs that returns after others have taken its KV from the device, on a modelled
// H200 under the law of a confidential B300: computed again, or brought back from host memory, part
// by part: node docs/results/kv/parts.mjs <built checkout> [prompt tokens] [rounds]
// For windowed models the pages of all layers are beside it, as they were moved before.
import { resolve } from 'node:path';

const [root, promptTokens = '8192', rounds = '14'] = process.argv.slice(2);
const packages = resolve(root, 'packages');
const load = (path) => import(`${packages}/${path}`);
const planner = await load('planner/dist/index.js');
const { rooflineOf } = await load('planner/dist/gpus/gpu.js');
const { openModelDevice, VirtualClock } = await load('device/dist/index.js');
const { profileLaw, referenceProfile } = await load('bridge/dist/index.js');
const { readModelSpec } = await load('engine/dist/models/folder.js');
const { poolPageBytes } = await load('engine/dist/runner/shapes.js');
const { engineOptions, request, withEngine } = await load('engine/dist/testing/run.js');

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
  const spec = await readModelSpec(`${packages}/engine/configs/${name}`);
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
    for (let round = 0; round < Number(rounds); round++) {
      for (let of = 1; of <= OTHERS; of++) await ask(1 + ((round * OTHERS + of) % (2 * OTHERS)));
      const before = crossed('kv-restore');
      const { ttftMs } = await ask(0);
      warm.push({ ttftMs, restoredMiB: (crossed('kv-restore') - before) / 2 ** 20 });
    }
    const { kv } = engine.stats();
    const { recomputed } = kv.total;
    const parts = kv.parts.map(({ part, bytes, places }) => ({ part, bytes, places }));
    const moved = kv.parts.map(({ part, moved }) => ({ part, ...moved }));
    const spilledMiB = crossed('kv-spill') / 2 ** 20;
    return { coldTtftMs: cold.ttftMs, warm, parts, spilledMiB, recomputed, moved };
  });
}

const tiersOf = (policy) => ({ hostBytes: 64 * 2 ** 30, disk: null, spillLaneShare: 0.5, policy });
const rows = [];
for (const name of ['gpt-oss-120b', 'gemma-4-31b', 'qwen3.6-27b-fp8']) {
  const isWindowed = name !== 'qwen3.6-27b-fp8';
  const shape = { pageTokens: 16, kvFormat: 'element', maxModelTokens: length + 1024 };
  const spec = await readModelSpec(`${packages}/engine/configs/${name}`);
  const pages = ROOM * (length / shape.pageTokens) * 1.15;
  const { context, window } = poolPageBytes(spec, shape, 2);
  const settings = [
    ['computed again', {}],
    ...['lru', 'priced'].flatMap((policy) => {
      const tiers = tiersOf(policy);
      const whole = [`${policy}, pages of all layers`, { tiers, hasOnePool: true }];
      return [...(isWindowed ? [whole] : []), [`${policy}, part by part`, { tiers }]];
    }),
  ];
  for (const [how, more] of settings) {
    // As much as so many contexts take, with a window or some states each.
    const kvBytes = pages * (more.hasOnePool ? context + window : context + window / 4) * 1.3;
    const result = await measure(name, { kvBytes, ...more });
    rows.push({ model: name, how, law: LAW, promptTokens: length, ...result });
  }
}
console.log(JSON.stringify(rows, undefined, 1));
