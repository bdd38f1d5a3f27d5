import { type DeviceBuffer, elementMatrix, type Graph, slice } from '@bridgekeeper/device';
import { measureRates, runToEnd } from '@bridgekeeper/engine/measure';
import type { MeasuredRun } from '@bridgekeeper/report';
import type { Workbench } from '../workbench.ts';
import { free } from './work.ts';

/** What never crosses: a copy on the device and a large matrix product. */
export async function measureLocal({ device, limits }: Workbench): Promise<MeasuredRun[]> {
  const repeats = limits.fewRepeats.most;
  const { localBytes: copyBytes, matmulWidth } = limits;
  const rates = await measureRates({ device, copyBytes, matmulWidth, repeats });
  const parameters = { measure: 'local', copyBytes, matmulWidth };
  return [{ parameters, metrics: { ...rates }, repeats, spread: {} }];
}

/** A product so small that it is all start and end. */
const SMALL_WIDTH = 256;
const SMALL_PRODUCTS = 1_000;
const SMALL_PRODUCTS_CPU = 20;

/** A long graph of small matrix products, as one launch. */
export async function measureSmallProducts(bench: Workbench): Promise<MeasuredRun[]> {
  const { device, stream, limits } = bench;
  const { element, kind } = device.info;
  const buffers: DeviceBuffer[] = [];
  const allocate = (bytes: number) => {
    const buffer = device.allocate(bytes, 'probe, products');
    buffers.push(buffer);
    return slice(buffer);
  };
  const elements = SMALL_WIDTH ** 2;
  const bytes = elements * (element === 'f32' ? 4 : 2);
  const matrix = (seed: number) => {
    const out = allocate(bytes);
    stream.launch('fill-uniform', { out, elements, type: element, mean: 0, spread: 1, seed });
    return out;
  };
  const product = {
    ...elementMatrix(matrix(1)),
    input: matrix(2),
    norm: null,
    normOffset: 0 as const,
    epsilon: 0,
    activation: 'silu' as const,
    bias: null,
    epilogue: 'store' as const,
    out: allocate(bytes),
    outType: element,
    workspace: allocate(256),
    count: SMALL_WIDTH,
    inputs: SMALL_WIDTH,
    outputs: SMALL_WIDTH,
  };
  const products = kind === 'cpu' ? SMALL_PRODUCTS_CPU : SMALL_PRODUCTS;
  try {
    const multiply = () => stream.launch('linear', product);
    await device.prepare(stream, multiply);
    runToEnd(device.refine(stream, multiply));
    const graph = device.capture(stream, 'probe, products', () => {
      for (let i = 0; i < products; i++) stream.launch('linear', product);
    });
    const parameters = { measure: 'small-products', products, width: SMALL_WIDTH };
    const run = await bench.sampler.measure(parameters, limits.fewRepeats, async () => ({
      productNs: (await bench.timeNs(() => stream.launchGraph(graph))) / products,
    }));
    return [run];
  } finally {
    await stream.synchronize();
    free(bench, buffers);
  }
}

/** Copies of the larger kind in a graph. */
const NODES = 20;

/** The same bytes as few large and as many small copies in a graph: the difference is starts. */
export async function measureNodes(bench: Workbench): Promise<MeasuredRun[]> {
  const { device, stream, limits } = bench;
  const wholeBytes = Math.floor(limits.localBytes / 4);
  const input = slice(device.allocate(wholeBytes, 'probe, nodes'));
  const out = slice(device.allocate(wholeBytes, 'probe, nodes'));
  const graphOf = (nodes: number, bytes: number) =>
    device.capture(stream, 'probe, nodes', () => {
      for (let i = 0; i < nodes; i++) stream.launch('copy', { input, out, bytes });
    });
  const graphNs = (graph: Graph) => bench.timeNs(() => stream.launchGraph(graph));
  try {
    const halves = graphOf(2 * NODES, wholeBytes / 2);
    const wholes = graphOf(NODES, wholeBytes);
    const parameters = { measure: 'nodes', wholeBytes };
    const run = await bench.sampler.measure(parameters, limits.fewRepeats, async () => {
      const wholesNs = await graphNs(wholes);
      const halvesNs = await graphNs(halves);
      return { wholesNs, halvesNs, startNs: (halvesNs - wholesNs) / NODES };
    });
    return [run];
  } finally {
    await stream.synchronize();
    free(bench, [input.buffer, out.buffer]);
  }
}
