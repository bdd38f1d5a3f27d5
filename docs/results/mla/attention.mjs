// Latent attention and the products around it on cuda, alone in captured graphs, against the bytes
// of the latent vectors at the measured copy rate. Random values; layers change from launch to
// launch, so that what is read is not in the cache.
// node docs/results/mla/attention.mjs <model folder, of which the device alone is opened> \
//   <heads,heads> <rows,rows> <tokens,tokens> [prompt tokens]
const P = new URL('../../../packages', import.meta.url);
const server = await import(`${P}/server/dist/index.js`);
const measure = await import(`${P}/engine/dist/measure/index.js`);
const { slice, elementMatrix } = await import(`${P}/device/dist/index.js`);
const [model, heads = '128', rows = '8,32,128', tokens = '1024,8192', prompt = '0'] =
  process.argv.slice(2);
const list = (text) => text.split(',').map(Number);
const settings = server.settingsWith({ model, loadFormat: 'dummy', device: 'cuda', law: 'off' });
const config = server.configureEngine(settings, { mode: 'off' });
const device = await server.openDevice(config);
const stream = device.createStream('latent attention');
const rates = await measure.measureRates({
  device,
  copyBytes: 2 ** 31,
  matmulWidth: 8192,
  repeats: 5,
});
const RANK = 512;
const ROTARY = 64;
const KEY = 128;
const VALUE = 128;
const WIDTH = RANK + ROTARY;
const PAGE = 64;
const COLD_BYTES = 256e6;
console.log(
  JSON.stringify({
    gpu: device.info.name,
    copyGBps: Math.round(rates.copyBytesPerSecond / 1e9),
    matmulTflops: Math.round(rates.matmulFlopsPerSecond / 1e12),
  }),
);

async function filled(elements, spread, type = 'bf16', label = 'values') {
  const buffer = device.allocate(elements * (type === 'bf16' ? 2 : 4), label);
  stream.launch('fill-uniform', { out: slice(buffer), elements, type, mean: 0, spread, seed: 1 });
  return slice(buffer);
}
async function words(values) {
  const buffer = device.allocate(values.length * 4, 'words');
  const host = device.allocateHost(values.length * 4, 'pinned', 'words');
  host.bytes.set(new Uint8Array(Int32Array.from(values).buffer));
  await device.inlineLane.copy({
    ...{ direction: 'h2d', device: slice(buffer), host, hostOffsetBytes: 0, stream },
    ...{ purpose: 'probe', tenant: 'measurement' },
  });
  device.freeHost(host);
  return slice(buffer);
}

async function graphUs(launches) {
  for (const [name, args] of launches.slice(0, 1)) stream.launch(name, args);
  await stream.synchronize();
  const graph = device.capture(stream, 'latent attention', () => {
    for (const [name, args] of launches) stream.launch(name, args);
  });
  const times = [];
  for (let i = 0; i < 12; i++) {
    await stream.synchronize();
    const startedNs = device.clock.nowNs();
    stream.launchGraph(graph);
    await stream.synchronize();
    times.push((device.clock.nowNs() - startedNs) / 1e3 / launches.length);
  }
  return times.slice(2).sort((a, b) => a - b)[5];
}

const round = (value, digits = 1) => Number(value.toFixed(digits));

/** A batch: of decode rows, or of one prompt. */
async function measureBatch(heads, tokenRows, positions, rowCount, contextTokens) {
  const buffers = [];
  const keep = (slice) => {
    buffers.push(slice.buffer);
    return slice;
  };
  const count = tokenRows.length;
  const perRow = Math.ceil(contextTokens / PAGE);
  const pages = rowCount * perRow;
  const layerBytes = pages * PAGE * WIDTH * 2;
  const layers = Math.min(16, Math.max(1, Math.ceil(COLD_BYTES / layerBytes)));
  const pageElements = layers * PAGE * WIDTH;
  const order = Array.from({ length: pages }, (_, i) => (i * 7919) % pages);
  const isPermutation = new Set(order).size === pages;
  const common = {
    kv: keep(await filled(pages * pageElements, 1, 'bf16', 'pages')),
    pageTable: keep(await words(isPermutation ? order : order.map((_, i) => i))),
    tokenRows: keep(await words(tokenRows)),
    positions: keep(await words(positions)),
    pageElements,
    pageTokens: PAGE,
    pagesPerRow: perRow,
    projected: keep(await filled(count * heads * (KEY + ROTARY), 1)),
    projectedStride: KEY + ROTARY,
    turnedFrom: KEY,
    queries: keep(await filled(count * heads * WIDTH, 1)),
    latents: keep(await filled(count * WIDTH, 1)),
    norm: keep(await filled(RANK, 1)),
    epsilon: 1e-6,
    rope: keep(await filled(contextTokens * ROTARY, 1, 'f32')),
    out: keep(await filled(count * heads * RANK, 1)),
    count,
    heads,
    rank: RANK,
    rotaryDim: ROTARY,
    scale: 1 / Math.sqrt(KEY + ROTARY),
  };
  const launches = Array.from({ length: Math.max(8, layers) }, (_, i) => [
    'latent-attention',
    { ...common, layerElement: (i % layers) * PAGE * WIDTH },
  ]);
  const us = await graphUs(launches);
  const read = rowCount * contextTokens * WIDTH * 2;
  const pairs = positions.reduce((sum, position) => sum + position + 1, 0);
  const flops = 2 * pairs * heads * (RANK + WIDTH);
  const floorUs = (read / rates.copyBytesPerSecond) * 1e6;
  const matmulUs = (flops / rates.matmulFlopsPerSecond) * 1e6;
  const weight = keep(await filled(heads * (KEY + VALUE) * RANK, 0.05));
  const values = keep(await filled(count * heads * VALUE, 1));
  const product = (more) => [
    'head-linear',
    {
      ...elementMatrix(weight),
      ...{ count, heads, headRows: KEY + VALUE, columns: RANK, ...more },
    },
  ];
  const ofQueries = product({
    ...{ input: common.projected, inputStride: KEY + ROTARY, out: common.queries },
    ...{ outStride: WIDTH, firstRow: 0, rows: KEY, isTransposed: true },
  });
  const ofValues = product({
    ...{ input: common.out, inputStride: RANK, out: values, outStride: VALUE },
    ...{ firstRow: KEY, rows: VALUE, isTransposed: false },
  });
  const queriesUs = await graphUs(Array(8).fill(ofQueries));
  const valuesUs = await graphUs(Array(8).fill(ofValues));
  for (const buffer of buffers) device.free(buffer);
  return {
    ...{ heads, lines: count, rows: rowCount, contextTokens, layers },
    us: round(us),
    floorUs: round(floorUs),
    partOfFloor: round(floorUs / us, 3),
    matmulUs: round(matmulUs),
    tflops: round(flops / us / 1e6),
    queriesUs: round(queriesUs),
    valuesUs: round(valuesUs),
  };
}

for (const h of list(heads)) {
  for (const contextTokens of list(tokens)) {
    for (const rowCount of list(rows)) {
      const own = Array.from({ length: rowCount }, (_, i) => i);
      const last = own.map(() => contextTokens - 1);
      console.log(JSON.stringify(await measureBatch(h, own, last, rowCount, contextTokens)));
    }
  }
  for (const length of list(prompt).filter((length) => length > 0)) {
    const own = Array.from({ length }, (_, i) => i);
    const result = await measureBatch(h, Array(length).fill(0), own, 1, length);
    console.log(JSON.stringify({ prompt: true, ...result }));
  }
}
await device.close();
process.exit(0);
