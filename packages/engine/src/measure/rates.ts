import {
  type Device,
  type DeviceBuffer,
  elementMatrix,
  type Stream,
  slice,
} from '@bridgekeeper/device';

/** What a device does at best, measured on it: what floors are worked out from. */
export interface DeviceRates {
  /** A copy on the device, bytes read plus written. */
  readonly copyBytesPerSecond: number;
  /** A product of square matrices in the device's element type. */
  readonly matmulFlopsPerSecond: number;
}

export interface RatesOptions {
  readonly device: Device;
  /** Bytes that one copy reads: far more than any cache. */
  readonly copyBytes: number;
  /** Rows, columns and inner dimension of the product. */
  readonly matmulWidth: number;
  readonly repeats: number;
}

/** Measures with the host's clock: each rate is the median of `repeats` batches. */
export async function measureRates(options: RatesOptions): Promise<DeviceRates> {
  const { device, copyBytes, matmulWidth: width, repeats } = options;
  const stream = device.createStream('rates');
  const buffers: DeviceBuffer[] = [];
  const allocate = (bytes: number, label: string) => {
    const buffer = device.allocate(bytes, label);
    buffers.push(buffer);
    return slice(buffer);
  };
  const elements = width * width;
  const outType = device.info.element;
  const bytes = elements * (outType === 'f32' ? 4 : 2);
  const random = (seed: number) => {
    const out = allocate(bytes, 'rates matrix');
    stream.launch('fill-uniform', { out, elements, type: outType, mean: 0, spread: 1, seed });
    return out;
  };
  try {
    const input = allocate(copyBytes, 'rates copy');
    const out = allocate(copyBytes, 'rates copy');
    const copyNs = await medianNs(device, stream, repeats, () => {
      stream.launch('copy', { input, out, bytes: copyBytes });
    });
    const product = {
      ...elementMatrix(random(1)),
      input: random(2),
      norm: null,
      normOffset: 0 as const,
      epsilon: 0,
      activation: 'silu' as const,
      bias: null,
      epilogue: 'store' as const,
      out: allocate(bytes, 'rates product'),
      outType,
      workspace: allocate(256, 'rates none'),
      count: width,
      inputs: width,
      outputs: width,
    };
    const multiply = () => stream.launch('linear', product);
    await device.prepare(stream, multiply);
    runToEnd(device.refine(stream, multiply));
    const matmulNs = await medianNs(device, stream, repeats, multiply);
    return {
      copyBytesPerSecond: (2 * copyBytes * 1e9) / copyNs,
      matmulFlopsPerSecond: (2 * width ** 3 * 1e9) / matmulNs,
    };
  } finally {
    await stream.synchronize();
    for (const buffer of buffers) device.free(buffer);
  }
}

/** Runs what would be done in slices to its end, on a device that does nothing else. */
export function runToEnd(slices: Generator<undefined, unknown>): void {
  while (slices.next().done !== true);
}

/** Launches in a batch: enough that waiting for its end does not count. */
const BATCH = 10;

async function medianNs(
  device: Device,
  stream: Stream,
  repeats: number,
  launch: () => void,
): Promise<number> {
  const times = await timesNs(device, stream, repeats, launch, BATCH);
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!;
}

/** Time of one launch in each of `repeats` batches that are waited for, after one that warms up. */
export async function timesNs(
  device: Device,
  stream: Stream,
  repeats: number,
  launch: () => void,
  batch: number,
): Promise<number[]> {
  const times: number[] = [];
  for (let repeat = 0; repeat <= repeats; repeat++) {
    await stream.synchronize();
    const startedNs = device.clock.nowNs();
    for (let i = 0; i < batch; i++) launch();
    await stream.synchronize();
    if (repeat > 0) times.push((device.clock.nowNs() - startedNs) / batch);
  }
  return times;
}
