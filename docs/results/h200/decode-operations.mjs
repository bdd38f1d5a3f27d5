// Where the time of a decode step goes: the captured step, the same without the operations of one
// kind, and these alone, on any number of GPUs. What a kind takes alone is its kernels one behind
// another; what a step is shorter without it is what it costs there, beside what overlaps with it.
// node docs/results/h200/decode-operations.mjs <model> <rows,rows> <gpus> [device] [context] [whole]
const [model, list, gpus = '1', deviceName = 'cuda', context = '1024', whole] = process.argv.slice(2);
const P = new URL('../../../packages', import.meta.url);
const server = await import(`${P}/server/dist/index.js`);
const measure = await import(`${P}/engine/dist/measure/index.js`);
const { launchDecodeStep } = await import(`${P}/engine/dist/runner/forward.js`);
const batches = list.split(',').map(Number);
const contextTokens = Number(context);
const STEPS = 16;
const settings = server.settingsWith({
  model,
  loadFormat: 'dummy',
  device: deviceName,
  law: 'off',
  tensorParallelSize: Number(gpus),
  enableExpertParallel: whole !== undefined,
  maxNumSeqs: Math.max(...batches),
  maxNumBatchedTokens: 512,
  maxModelLen: contextTokens + 64,
});
const config = server.configureEngine(settings, { mode: 'off' });
const device = await server.openDevice(config);
const prepared = await measure.prepareModel(server.engineOptions(config, device));
measure.runToEnd(prepared.runner.refine());
const { parts } = prepared;
const { stream } = parts;
const kindOf = (name, { inputs, outputs, width }) =>
  name === 'linear' ? `linear ${inputs} x ${outputs}` : name.startsWith('all-') ? `${name} ${width}` : name;
/** The stream, but only what `takes` says goes on it. */
const only = (takes, seen = () => {}) => {
  const launch = (name, args) => {
    seen(kindOf(name, args));
    if (takes(kindOf(name, args))) stream.launch(name, args);
  };
  return { launch, launchEach: (all) => all.forEach(({ name, args }) => launch(name, args)) };
};
const usOf = async (bucket, takes) => {
  const graph = device.capture(stream, 'part of a step', () =>
    launchDecodeStep({ ...parts, stream: only(takes) }, bucket),
  );
  const times = [];
  for (let i = 0; i < 6; i++) {
    await stream.synchronize();
    const startedNs = device.clock.nowNs();
    for (let step = 0; step < STEPS; step++) stream.launchGraph(graph);
    await stream.synchronize();
    times.push((device.clock.nowNs() - startedNs) / STEPS / 1e3);
  }
  device.discard(graph);
  return times.slice(1).sort((a, b) => a - b)[2];
};
for (const batch of batches) {
  const setting = { batch, contextTokens, repeats: 3, steps: 24 };
  const { stepNs } = await measure.measureDecode(device, prepared, setting);
  const bucket = prepared.runner.bucketOf(batch);
  const counts = new Map();
  const count = (kind) => counts.set(kind, (counts.get(kind) ?? 0) + 1);
  const counting = only(() => true, count);
  const counted = device.capture(stream, 'a step', () =>
    launchDecodeStep({ ...parts, stream: counting }, bucket),
  );
  device.discard(counted);
  const calls = device.info.ranks > 1 && deviceName === 'cuda' ? device.info.ranks : 1;
  const stepUs = await usOf(bucket, () => true);
  const kinds = [];
  for (const [kind, times] of counts) {
    const [without, alone] = [
      await usOf(bucket, (each) => each !== kind),
      await usOf(bucket, (each) => each === kind),
    ];
    kinds.push({ kind, launches: times / calls, costsUs: +(stepUs - without).toFixed(1), aloneUs: +alone.toFixed(1) });
  }
  kinds.sort((a, b) => b.costsUs - a.costsUs);
  const result = { model: model.split('/').at(-1), gpus: device.info.ranks, whole: whole !== undefined, batch, contextTokens };
  console.log(JSON.stringify({ ...result, stepUs: +(stepNs / 1e3).toFixed(1), oneGraphUs: +stepUs.toFixed(1), kinds }));
}
await device.close();
process.exit(0);
