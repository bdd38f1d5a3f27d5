// Time to the first token of short prompts, one at a time, on one GPU and several, with a law and
// without; operation by operation on each GPU in turn, or as one graph.
// node docs/results/h200/short-prompts.mjs <model> <gpus> <law> [device] [tokens,tokens] [captured]
// captured: tokens of the longest prompt that is one graph; 0: none is, as in builds before
const [model, gpus, law, deviceName = 'cuda', list = '16,64,256,1024', captured] =
  process.argv.slice(2);
const capturedPrompts = captured === undefined ? undefined : Number(captured);
const P = new URL('../../../packages', import.meta.url);
const server = await import(`${P}/server/dist/index.js`);
const { createEngine, GREEDY } = await import(`${P}/engine/dist/index.js`);
const counts = list.split(',').map(Number);
const settings = server.settingsWith({
  model,
  loadFormat: 'dummy',
  device: deviceName,
  law,
  tensorParallelSize: Number(gpus),
  maxNumSeqs: 4,
  maxNumBatchedTokens: 2048,
  maxModelLen: Math.max(...counts) + 16,
  enablePrefixCaching: false,
});
const config = server.configureEngine(settings, { mode: 'off' });
const device = await server.openDevice(config);
const engine = await createEngine({ ...server.engineOptions(config, device), capturedPrompts });
const nowMs = () => device.clock.nowNs() / 1e6;
let id = 0;
const ttftMs = (tokens) =>
  new Promise((resolve, reject) => {
    const startedMs = nowMs();
    let firstMs;
    const promptTokens = Uint32Array.from({ length: tokens }, (_, i) => (i * 7 + id * 13) % 1000);
    const sampling = { ...GREEDY, maxTokens: 4 };
    engine.submit({ id: `${id++}`, tenant: 't', promptTokens, sampling }, (event) => {
      if (event.tokens.length > 0) firstMs ??= nowMs();
      if (event.finish?.reason === 'error') reject(new Error(event.finish.message));
      else if (event.finish !== undefined) resolve(firstMs - startedMs);
    });
  });
for (const tokens of counts) {
  const times = [];
  for (let i = 0; i < 13; i++) times.push(await ttftMs(tokens));
  const sorted = times.slice(3).sort((a, b) => a - b);
  const [p50, most] = [sorted[5], sorted[9]].map((ms) => +ms.toFixed(2));
  console.log(JSON.stringify({ model: model.split('/').at(-1), gpus: device.info.ranks, law, captured: captured ?? 'default', tokens, ttftMsP50: p50, ttftMsMax: most }));
}
await engine.shutdown(0);
process.exit(0);
