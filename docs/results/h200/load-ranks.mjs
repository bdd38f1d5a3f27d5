// Loads a model's weights `repeats` times, and says where the time went on each GPU:
// node docs/results/h200/load-ranks.mjs <folder> <GPUs> <law> [device] [repeats]
const P = new URL('../../../packages', import.meta.url);
const server = await import(`${P}/server/dist/index.js`);
const loader = await import(`${P}/engine/dist/loader/load.js`);
const { ReaderPool } = await import(`${P}/engine/dist/loader/reading/reads.js`);
const { openCheckpoint } = await import(`${P}/engine/dist/checkpoint/checkpoint.js`);
const { readModelSpec } = await import(`${P}/engine/dist/models/folder.js`);
const { Traffic } = await import(`${P}/engine/dist/traffic/traffic.js`);
const [model, gpus, law, kind = 'cuda', repeats = '3'] = process.argv.slice(2);
const tensorParallelSize = Number(gpus);
const settings = server.settingsWith({ model, device: kind, law, tensorParallelSize });
const config = server.configureEngine(settings, { mode: 'off' });
const strategy = config.loading.value;
const readers = new ReaderPool();
readers.grow(strategy.readers * tensorParallelSize);
const device = await server.openDevice(config);
const spec = await readModelSpec(model);
for (let i = 0; i < Number(repeats); i++) {
  const traffic = new Traffic({ device, profile: config.bridge.value });
  const source = await openCheckpoint(model);
  const started = device.clock.nowNs();
  const { STAGING: staging } = process.env;
  const more = staging === undefined ? {} : { stagingBytes: Number(staging) * 2 ** 20 };
  const options = { spec, source, device, traffic, readers, strategy, ...more };
  const loaded = await loader.loadWeights(options);
  const seconds = (device.clock.nowNs() - started) / 1e9;
  await source.close();
  const { bytes, readySeconds, streamSeconds, gpus } = loaded.report;
  console.log(JSON.stringify({ gpus: tensorParallelSize, law, load: i, strategy, seconds, bytes, gbPerSecond: bytes / 1e9 / seconds, readySeconds, streamSeconds, besideSeconds: seconds - readySeconds - streamSeconds, each: gpus }));
  for (const buffer of loaded.buffers) device.free(buffer);
  await traffic.closeReserved();
}
await readers.close();
await device.close();
