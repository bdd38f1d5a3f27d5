// Chooses cuBLASLt's algorithms as an idle server does, for so many seconds at most, and keeps them
// where it does: packages/device/algorithms has what several models left there.
// node docs/results/h200/algorithms.mjs <model> <seconds>
const [model, seconds] = process.argv.slice(2);
const P = new URL('../../../packages', import.meta.url);
const server = await import(`${P}/server/dist/index.js`);
const { prepareModel } = await import(`${P}/engine/dist/measure/index.js`);
const settings = server.settingsWith({ model, loadFormat: 'dummy', device: 'cuda', maxModelLen: 8192 });
const config = server.configureEngine(settings, { mode: 'off' });
const device = await server.openDevice(config);
const prepared = await prepareModel(server.engineOptions(config, device));
const until = Date.now() + 1000 * Number(seconds);
let slices = 0;
let done = true;
for (const _ of prepared.runner.refine()) { slices++; if (Date.now() > until) { done = false; break; } }
console.log(JSON.stringify({ model: model.split('/').at(-1), slices, done, prepareSeconds: prepared.prepareSeconds }));
process.exit(0);
