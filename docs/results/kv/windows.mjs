// How much KV fits beside a model, as the engine plans it before it loads anything, and how many
// contexts of a length that is: node docs/results/kv/windows.mjs <device bytes> <rows> <lengths>
// PACKAGES=<folder>/packages takes those of another build.
const [deviceBytes, rows, lengths] = process.argv.slice(2);
const own = new URL('../../../packages', import.meta.url).pathname;
const P = process.env.PACKAGES ?? own;
const load = (file) => import(`${P}/engine/dist/${file}`);
const { budgetMemory } = await load('runner/memory.js');
const shapes = await load('runner/shapes.js');
const { readModelSpec } = await load('models/folder.js');
const { weightTensors } = await load('models/weights.js');
const { weightBytes } = await load('loader/tensors/layout.js');
const windows = await load('kv/window-pool.js').catch(() => null);

const models = [];
const ASKED = [
  ['gpt-oss-20b'],
  ['gpt-oss-120b'],
  ['gemma-4-31b'],
  ['gemma-4-31b', 32768],
  ['qwen3-8b'],
];
for (const [name, length] of ASKED) {
  const spec = await readModelSpec(`${own}/engine/configs/${name}`);
  const shape = {
    task: 'generate',
    maxRows: Number(rows),
    maxBatchTokens: 2048,
    maxModelTokens: length ?? spec.maxPositions,
    pageTokens: 32,
    ringSlots: shapes.RING_SLOTS,
    kvFormat: 'element',
    grammarBytes: 0,
    tokenBytes: 0,
    kvStaging: null,
    speculation: null,
    ranks: 1,
  };
  const request = {
    spec,
    shape,
    elementBytes: 2,
    deviceBytes: Number(deviceBytes),
    utilization: 0.9,
    weightBytes: weightBytes(weightTensors(spec), 2),
    kvBytes: undefined,
  };
  const { maxModelTokens } = shape;
  let plan;
  try {
    plan = budgetMemory(request);
  } catch ({ message }) {
    models.push({ name, maxModelTokens, refused: message });
    continue;
  }
  const { kvPages, kvTokens, kvBytes, kvLimit, window = null, concurrency } = plan;
  const sizes = window === null ? null : shapes.windowSizesOf(spec, shape);
  const contexts = lengths.split(',').map((length) => {
    const pages = Math.ceil(Number(length) / shape.pageTokens);
    const byPages = Math.floor(kvPages / pages);
    if (sizes === null) return { tokens: Number(length), contexts: byPages };
    const free = window.pages - windows.windowPagesOfLaunch(sizes);
    const byWindows = Math.floor(free / Math.min(pages, windows.windowPagesOfRow(sizes)));
    return { tokens: Number(length), contexts: Math.min(byPages, byWindows) };
  });
  models.push({ name, maxModelTokens, kvTokens, kvBytes, kvLimit, window, concurrency, contexts });
}
console.log(JSON.stringify(models, undefined, 2));
