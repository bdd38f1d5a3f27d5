// Times of each dense product of a layer over all layers of a dummy model, by lines:
// node docs/results/h200/int4-operations.mjs packages/engine/configs/<model> <lines,lines> [device]
const [model, list, deviceName = 'cuda'] = process.argv.slice(2);
const P = new URL('../../../packages', import.meta.url);
const server = await import(`${P}/server/dist/index.js`);
const measure = await import(`${P}/engine/dist/measure/index.js`);
const dev = await import(`${P}/device/dist/index.js`);
const { slices } = await import(`${P}/engine/dist/runner/forward.js`);
const counts = list.split(',').map(Number);
const max = Math.max(...counts);
const settings = server.settingsWith({ model, loadFormat: 'dummy', device: deviceName, law: 'off', maxNumSeqs: 8, maxNumBatchedTokens: Math.max(64, max), maxModelLen: 128 });
const config = server.configureEngine(settings, { mode: 'off' });
const device = await server.openDevice(config);
const rates = await measure.measureRates({ device, copyBytes: deviceName === 'cuda' ? 2 ** 30 : 2 ** 20, matmulWidth: deviceName === 'cuda' ? 8192 : 64, repeats: 3 });
const m = await measure.prepareModel({ ...server.engineOptions(config, device), maxRows: 8 });
const { spec, parts } = m; const { weights, stream, buffers } = parts;
const S = slices(buffers);
console.log(JSON.stringify({ model, copyGBps: rates.copyBytesPerSecond / 1e9, tflops: rates.matmulFlopsPerSecond / 1e12 }));
const L = spec.layers, elem = device.info.element, eb = dev.bytesPerElement(elem);
async function time(f) { const g = device.capture(stream, 'ops', () => { for (let l = 0; l < L; l++) f(l); }); const t = []; for (let i = 0; i < 8; i++) { await stream.synchronize(); const s = device.clock.nowNs(); stream.launchGraph(g); await stream.synchronize(); t.push((device.clock.nowNs() - s) / L / 1e3); } return t.slice(1).sort((a, b) => a - b)[3]; }
const inner = spec.layerKinds[0].feedForward.intermediateSize;
for (const count of counts) {
  for (const [to, n, seed] of [[S.residual, spec.hiddenSize, 3], [S.activated, inner, 5], [S.attended, spec.heads * spec.headDim, 6]]) stream.launch('fill-uniform', { out: to, elements: count * n, type: elem, mean: 0, spread: 1, seed });
  const lin = (w, more) => stream.launch('linear', { norm: null, normOffset: 0, activation: 'silu', epsilon: 1e-5, bias: null, epilogue: 'store', outType: elem, workspace: S.workspace, count, ...w, ...more });
  const ops = {
    qkv: (l) => lin(weights.layers[l].qkv, { input: S.residual, norm: weights.layers[l].inputNorm, out: S.qkv }),
    output: (l) => lin(weights.layers[l].output, { input: S.attended, epilogue: 'add', out: S.residual }),
    gateUp: (l) => lin(weights.layers[l].feedForward.gateUp, { input: S.residual, norm: weights.layers[l].postNorm, epilogue: 'gate', out: S.activated }),
    down: (l) => lin(weights.layers[l].feedForward.down, { input: S.activated, epilogue: 'add', out: S.residual }),
  };
  const w0 = weights.layers[0];
  const mats = { qkv: w0.qkv, output: w0.output, gateUp: w0.feedForward.gateUp, down: w0.feedForward.down };
  const out = {};
  let all = 0;
  for (const [name, f] of Object.entries(ops)) {
    f(0); await stream.synchronize();
    const us = await time(f);
    const bytes = dev.matrixBytes(mats[name], eb);
    all += bytes;
    const tf = (2 * count * mats[name].inputs * mats[name].outputs) / us / 1e6;
    out[name] = `${us.toFixed(1)} us ${((100 * bytes) / rates.copyBytesPerSecond * 1e6 / us).toFixed(0)} % ${tf.toFixed(0)} TF`;
  }
  const us = await time((l) => { for (const name in ops) ops[name](l); });
  out.layer = `${us.toFixed(1)} us ${((100 * all) / rates.copyBytesPerSecond * 1e6 / us).toFixed(0)} %`;
  console.log(JSON.stringify({ count, ...out }));
}
await device.close();
process.exit(0);
