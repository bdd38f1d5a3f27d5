// Times of each operation of a layer over all layers of a dummy model whose layers are alike, on cuda:
// node docs/results/moe/operations.mjs packages/engine/configs/<model> <lines,lines> <context> [decode|prefill]
const P = new URL('../../../packages', import.meta.url);
const server = await import(`${P}/server/dist/index.js`);
const measure = await import(`${P}/engine/dist/measure/index.js`);
const dev = await import(`${P}/device/dist/index.js`);
const { slices } = await import(`${P}/engine/dist/runner/forward.js`);
const [model, batchList, ctx = '1024', phase = 'decode'] = process.argv.slice(2);
const batches = batchList.split(',').map(Number);
const max = Math.max(...batches);
const settings = server.settingsWith({ model, loadFormat: 'dummy', device: 'cuda', law: 'off', maxNumSeqs: Math.min(max, 128), maxNumBatchedTokens: Math.max(512, max), maxModelLen: Number(ctx) + 64 });
const config = server.configureEngine(settings, { mode: 'off' });
const device = await server.openDevice(config);
const rates = await measure.measureRates({ device, copyBytes: 2 ** 31, matmulWidth: 8192, repeats: 5 });
const m = await measure.prepareModel({ ...server.engineOptions(config, device), maxRows: Math.min(max, 128) });
const { spec, parts } = m; const { weights, stream, buffers, shape } = parts;
const S = slices(buffers);
console.log(JSON.stringify({ model, copyGBps: rates.copyBytesPerSecond / 1e9, tflops: rates.matmulFlopsPerSecond / 1e12 }));
const up = (to, arr) => m.traffic.upload(new Uint8Array(arr.buffer), to, 'probe');
const ff = spec.layerKinds[0].feedForward;
async function graphTime(f) { const g = device.capture(stream, 'ops', () => { for (let l = 0; l < spec.layers; l++) f(l); }); const t = []; for (let i = 0; i < 8; i++) { await stream.synchronize(); const s = device.clock.nowNs(); stream.launchGraph(g); await stream.synchronize(); t.push((device.clock.nowNs() - s) / spec.layers / 1e3); } return t.slice(1).sort((a, b) => a - b)[3]; }
const pages = Math.ceil((Number(ctx) + 1) / shape.pageTokens);
const perRow = Math.ceil(shape.maxModelTokens / shape.pageTokens);
for (const count of batches) {
  // random routing
  const { experts, expertsPerToken: topK } = ff;
  const chosen = new Int32Array(count * topK);
  for (let i = 0; i < count; i++) { const p = Array.from({ length: experts }, (_, e) => e); for (let k = 0; k < topK; k++) { const j = k + Math.floor(Math.random() * (experts - k)); [p[k], p[j]] = [p[j], p[k]]; chosen[i * topK + k] = p[k]; } }
  const starts = new Int32Array(experts + 1), order = [];
  for (let e = 0; e < experts; e++) { starts[e] = order.length; chosen.forEach((c, i) => { if (c === e) order.push(i); }); } starts[experts] = order.length;
  const hit = new Set(chosen).size;
  const setRoutes = async () => { await up(S.chosen, chosen); await up(S.expertStarts, starts); await up(S.expertOrder, Int32Array.from(order)); await up(S.expertWeights, new Float32Array(chosen.length).fill(1 / topK)); };
  if (phase === 'decode') {
    await up(S.tokenRows, Int32Array.from({ length: count }, (_, i) => i)); await up(S.positions, new Int32Array(count).fill(Number(ctx) - 1));
    const table = new Int32Array(Math.min(max, 128) * perRow).fill(-1); for (let r = 0; r < count; r++) for (let p = 0; p < pages; p++) table[r * perRow + p] = (r * pages + p) % shape.kvPages; await up(S.pageTable, table);
  } else { await up(S.tokenRows, new Int32Array(count)); await up(S.positions, Int32Array.from({ length: count }, (_, i) => i)); const table = new Int32Array(perRow).fill(-1); for (let p = 0; p < perRow; p++) table[p] = p; await up(S.pageTable, table); }
  stream.launch('fill-uniform', { out: S.residual, elements: count * spec.hiddenSize, type: 'bf16', mean: 0, spread: 1, seed: 3 });
  stream.launch('fill-uniform', { out: S.normed, elements: count * spec.hiddenSize, type: 'bf16', mean: 0, spread: 1, seed: 4 });
  stream.launch('fill-uniform', { out: S.activated, elements: count * topK * ff.intermediateSize, type: 'bf16', mean: 0, spread: 1, seed: 5 });
  stream.launch('fill-uniform', { out: S.attended, elements: count * spec.heads * spec.headDim, type: 'bf16', mean: 0, spread: 1, seed: 6 });
  const groups = { chosen: S.chosen, starts: S.expertStarts, order: S.expertOrder, count, experts, topK };
  const lin = (w, more) => stream.launch('linear', { norm: null, epsilon: 1e-5, bias: null, epilogue: 'store', outType: 'bf16', workspace: S.workspace, count, ...w, ...more });
  const ops = {
    qkv: (l) => lin(weights.layers[l].qkv, { input: S.residual, norm: weights.layers[l].inputNorm, bias: weights.layers[l].qkvBias, out: S.qkv }),
    attention: (l) => stream.launch('attention', { qkv: S.qkv, sinks: weights.layers[l].sinks, queryNorm: weights.layers[l].queryNorm, keyNorm: weights.layers[l].keyNorm, epsilon: 1e-5, rope: S.rope, kv: S.kv, kvFormat: shape.kvFormat, pageTable: S.pageTable, tokenRows: S.tokenRows, positions: S.positions, layer: l, layers: spec.layers, kvHeads: spec.kvHeads, headDim: spec.headDim, pageTokens: shape.pageTokens, pagesPerRow: perRow, out: S.attended, count, heads: spec.heads, scale: 0.1, window: spec.layerKinds[l].window, phase }),
    output: (l) => lin(weights.layers[l].output, { input: S.attended, bias: weights.layers[l].outputBias, epilogue: 'add', out: S.residual }),
    route: (l) => stream.launch('route', { ...groups, input: S.residual, norm: weights.layers[l].postNorm, epsilon: 1e-5, normed: S.normed, router: weights.layers[l].feedForward.router.weight, routerBias: weights.layers[l].feedForward.routerBias, softmaxOver: ff.softmaxOver, tokenRows: S.tokenRows, weights: S.expertWeights, width: spec.hiddenSize, workspace: S.workspace }),
    gate: (l) => { const { outputs, ...g } = weights.layers[l].feedForward.expertGateUp; stream.launch('expert-gate', { ...groups, ...g, ...ff.gate, input: S.normed, bias: weights.layers[l].feedForward.expertGateUpBias, out: S.activated, inner: outputs / 2, isInterleaved: ff.stored === 'mxfp4 stack' }); },
    down: (l) => stream.launch('expert-down', { ...groups, ...weights.layers[l].feedForward.expertDown, input: S.activated, bias: weights.layers[l].feedForward.expertDownBias, weights: S.expertWeights, out: S.residual, workspace: S.workspace }),
  };
  const bytes = { gate: hit * dev.expertMatrixBytes(weights.layers[0].feedForward.expertGateUp, weights.layers[0].feedForward.expertGateUp.outputs, 2), down: hit * dev.expertMatrixBytes(weights.layers[0].feedForward.expertDown, spec.hiddenSize, 2), qkv: dev.matrixBytes(weights.layers[0].qkv, 2), output: dev.matrixBytes(weights.layers[0].output, 2) };
  const out = {};
  for (const [name, f] of Object.entries(ops)) {
    if (name === 'gate') await setRoutes();
    f(0); await stream.synchronize();
    const us = await graphTime(f);
    out[name] = us.toFixed(1) + (bytes[name] ? ` (${(100 * bytes[name] / rates.copyBytesPerSecond * 1e6 / us).toFixed(0)}%)` : '');
    if (name === 'route') { await stream.synchronize(); }
  }
  await setRoutes();
  out.gateDown = (await graphTime((l) => { ops.gate(l); ops.down(l); })).toFixed(1);
  out.layer = (await graphTime((l) => { for (const name in ops) ops[name](l); })).toFixed(1);
  console.log(JSON.stringify({ count, hit, us: out }));
}
await device.close();
process.exit(0);
