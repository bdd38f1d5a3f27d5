// Where a decode step's time goes, on cuda: the operations of a forward pass by name, each name's
// alone in a captured graph, all but these, and all of them. Dummy weights; lines whose experts are
// drawn at random where the router is not among what runs.
// node docs/results/moe/operations.mjs packages/engine/configs/<model> <lines,lines> <context>
const P = new URL('../../../packages', import.meta.url);
const server = await import(`${P}/server/dist/index.js`);
const measure = await import(`${P}/engine/dist/measure/index.js`);
const { setUpRows } = await import(`${P}/engine/dist/measure/steps.js`);
const { launchForward, slices } = await import(`${P}/engine/dist/runner/forward.js`);
const [model, lines, context = '1024'] = process.argv.slice(2);
const batches = lines.split(',').map(Number);
const max = Math.max(...batches);
const settings = server.settingsWith({
  model,
  loadFormat: 'dummy',
  device: 'cuda',
  law: 'off',
  maxNumSeqs: max,
  maxNumBatchedTokens: Math.max(512, max),
  maxModelLen: Number(context) + 64,
});
const config = server.configureEngine(settings, { mode: 'off' });
const device = await server.openDevice(config);
const rates = await measure.measureRates({
  device,
  copyBytes: 2 ** 31,
  matmulWidth: 8192,
  repeats: 5,
});
const prepared = await measure.prepareModel({
  ...server.engineOptions(config, device),
  maxRows: max,
});
const { spec, parts, traffic } = prepared;
const all = slices(parts.buffers);
const copyGBps = rates.copyBytesPerSecond / 1e9;
console.log(JSON.stringify({ model, context: Number(context), copyGBps }));
const write = (to, words) => traffic.upload(new Uint8Array(words.buffer), to, 'probe');
const random = (below) => Math.floor(Math.random() * below);

async function graphUs(launches) {
  const graph = device.capture(parts.stream, 'operations', () => {
    for (const { name, args } of launches) parts.stream.launch(name, args);
  });
  const times = [];
  for (let i = 0; i < 8; i++) {
    await parts.stream.synchronize();
    const startedNs = device.clock.nowNs();
    parts.stream.launchGraph(graph);
    await parts.stream.synchronize();
    times.push((device.clock.nowNs() - startedNs) / 1e3);
  }
  return times.slice(1).sort((a, b) => a - b)[3];
}

for (const count of batches) {
  await setUpRows(prepared, { batch: count, bucket: count, tokens: Number(context) });
  await write(all.tokenRows, Int32Array.from({ length: count }, (_, i) => i));
  await write(all.positions, new Int32Array(count).fill(Number(context) - 1));
  await write(
    all.tokens,
    Int32Array.from({ length: count }, () => random(spec.vocabularySize)),
  );
  const launches = [];
  const stream = { launch: (name, args) => launches.push({ name, args }) };
  launchForward({ ...parts, stream }, count, [{ first: 0, count, phase: 'decode' }]);
  const named = (name) => launches.filter((launch) => launch.name === name);
  const us = { all: await graphUs(launches) };
  const { experts, expertsPerToken: topK } = spec.layerKinds[0].feedForward;
  const chosen = Int32Array.from(
    Array.from({ length: count }, () => {
      const order = Array.from({ length: experts }, (_, i) => i);
      for (let k = 0; k < topK; k++) {
        const j = k + random(experts - k);
        [order[k], order[j]] = [order[j], order[k]];
      }
      return order.slice(0, topK);
    }).flat(),
  );
  const starts = new Int32Array(experts + 1);
  const order = [];
  for (let expert = 0; expert < experts; expert++) {
    starts[expert] = order.length;
    chosen.forEach((own, i) => {
      if (own === expert) order.push(i);
    });
  }
  starts[experts] = order.length;
  const setRoutes = async () => {
    await write(all.chosen, chosen);
    await write(all.expertStarts, starts);
    await write(all.expertOrder, Int32Array.from(order));
    await write(all.expertWeights, new Float32Array(chosen.length).fill(1 / topK));
  };
  for (const name of new Set(launches.map((launch) => launch.name))) {
    await setRoutes();
    us[name] = await graphUs(named(name));
  }
  await setRoutes();
  us.gateDown = await graphUs(launches.filter(({ name }) => name.startsWith('expert-')));
  us.withoutRoute = await graphUs(launches.filter(({ name }) => name !== 'route'));
  us.withoutExperts = await graphUs(launches.filter(({ name }) => !name.startsWith('expert-')));
  const linears = named('linear');
  us.firstLinears = await graphUs(linears.filter((_, i) => i % 2 === 0));
  us.secondLinears = await graphUs(linears.filter((_, i) => i % 2 === 1));
  for (const name in us) us[name] = Number(us[name].toFixed(1));
  const counts = { launches: launches.length, layers: spec.layers };
  console.log(JSON.stringify({ count, distinctExperts: new Set(chosen).size, ...counts, us }));
}
await device.close();
process.exit(0);
