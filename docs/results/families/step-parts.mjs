// Where the time of a step goes: the launches of one forward pass of a dummy model, by kind and
// sizes, each kind captured and timed alone:
// node docs/results/families/step-parts.mjs <model folder> <batch,...> <context> <prompt,...> [device]
const [model, rows, context, prompts, deviceName = 'cuda'] = process.argv.slice(2);
const P = process.env.PACKAGES ?? new URL('../../../packages', import.meta.url);
const server = await import(`${P}/server/dist/index.js`);
const measure = await import(`${P}/engine/dist/measure/index.js`);
const dev = await import(`${P}/device/dist/index.js`);
const { launchForward, launchHead, slices } = await import(`${P}/engine/dist/runner/forward.js`);
const list = (text) => text.split(',').map(Number).filter((value) => value > 0);
const most = Math.max(...list(prompts), 64);
const settings = server.settingsWith({
  model,
  loadFormat: 'dummy',
  device: deviceName,
  law: 'off',
  maxNumSeqs: Math.max(...list(rows)),
  maxNumBatchedTokens: most,
  maxModelLen: Math.max(most, Number(context) + 64),
});
const config = server.configureEngine(settings, { mode: 'off' });
const device = await server.openDevice(config);
const copyBytes = deviceName === 'cuda' ? 2 ** 30 : 2 ** 20;
const matmulWidth = deviceName === 'cuda' ? 8192 : 64;
const rates = await measure.measureRates({ device, copyBytes, matmulWidth, repeats: 3 });
const maxRows = Math.max(...list(rows));
const prepared = await measure.prepareModel({ ...server.engineOptions(config, device), maxRows });
const { parts } = prepared;
const { stream } = parts;
const elementBytes = dev.bytesPerElement(device.info.element);

function keyOf(name, args) {
  if (name === 'linear') return `linear ${args.inputs} -> ${args.outputs} ${args.epilogue}`;
  if (name !== 'attention') return name;
  return `attention of ${args.headDim}, window ${args.window}`;
}

async function microseconds(launches) {
  const graph = device.capture(stream, 'parts', () => {
    for (const [name, args] of launches) stream.launch(name, args);
  });
  const times = [];
  for (let i = 0; i < 6; i++) {
    await stream.synchronize();
    const started = device.clock.nowNs();
    stream.launchGraph(graph);
    await stream.synchronize();
    times.push((device.clock.nowNs() - started) / 1e3);
  }
  return times.slice(1).sort((a, b) => a - b)[2];
}

async function report(what, count, phase) {
  const launches = [];
  const recorder = { launch: (name, args) => launches.push([name, args]) };
  launchForward({ ...parts, stream: recorder }, count, [{ first: 0, count, phase }]);
  const lines = phase === 'decode' ? count : 1;
  launchHead({ ...parts, stream: recorder }, slices(parts.buffers).residual, lines);
  const kinds = new Map();
  for (const launch of launches) {
    const key = keyOf(...launch);
    kinds.set(key, [...(kinds.get(key) ?? []), launch]);
  }
  const all = await microseconds(launches);
  console.log(JSON.stringify({ what, launches: launches.length, microseconds: all }));
  for (const [key, own] of kinds) {
    const us = await microseconds(own);
    const line = { what, key, launches: own.length, microseconds: us };
    if (key.startsWith('linear')) {
      const bytes = own.reduce((sum, [, args]) => sum + dev.matrixBytes(args, elementBytes), 0);
      const operations = own.reduce(
        (sum, [, { inputs, outputs, count }]) => sum + 2 * inputs * outputs * count,
        0,
      );
      line.ofCopyRate = ((bytes / rates.copyBytesPerSecond) * 1e6) / us;
      line.tflops = operations / us / 1e6;
    }
    console.log(JSON.stringify(line));
  }
}

console.log(JSON.stringify({ model, ...rates }));
for (const batch of list(rows)) {
  const setting = { batch, contextTokens: Number(context), repeats: 1, steps: 8 };
  const { stepNs } = await measure.measureDecode(device, prepared, setting);
  await report(`decode ${batch} at ${context}, step ${(stepNs / 1e6).toFixed(2)} ms`, batch, 'decode');
}
for (const tokens of list(prompts)) {
  const { stepNs } = await measure.measurePrefill(device, prepared, {
    tokens,
    prefixTokens: 0,
    repeats: 1,
  });
  await report(`prompt of ${tokens}, ${(stepNs / 1e6).toFixed(2)} ms`, tokens, 'prefill');
}
await device.close();
process.exit(0);
