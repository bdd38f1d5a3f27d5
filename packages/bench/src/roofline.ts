import type { Device } from '@bridgekeeper/device';
import {
  type DeviceRates,
  floorsNs,
  measureRates,
  type PreparedModel,
  prepareModel,
  runToEnd,
  type StepTime,
  type Work,
} from '@bridgekeeper/engine/measure';
import type { MeasuredRun } from '@bridgekeeper/report';
import {
  configureEngine,
  engineOptions,
  flag,
  integer,
  type Kind,
  listOf,
  MODEL_FLAG,
  measuredDevice,
  openDevice,
  readSealPolicy,
  SETTINGS,
  settingsWith,
  type Values,
} from '@bridgekeeper/server';
import { SEAL_FLAGS } from './seal.ts';
import type { SuiteResult } from './suite.ts';

/** What the suites that measure bare steps have in common. */
export const ROOFLINE_FLAGS = {
  model: MODEL_FLAG,
  loadFormat: flag(SETTINGS.loadFormat.kind, 'auto', 'auto or dummy'),
  device: flag(SETTINGS.device.kind, 'auto', 'where the model runs'),
  kvCacheDtype: flag(SETTINGS.kvCacheDtype.kind, 'auto', 'how KV is stored'),
  tensorParallelSize: flag(SETTINGS.tensorParallelSize.kind, 1, 'GPUs that share the model'),
  enableExpertParallel: flag(
    SETTINGS.enableExpertParallel.kind,
    false,
    'each of these GPUs has some of the experts whole',
  ),
  repeats: flag(integer(1, 100), 5, 'measurements of each'),
  ...SEAL_FLAGS,
};

/** How weights are stored, as parameters of runs have it. */
const WEIGHTS = {
  none: 'element',
  fp8: 'fp8-e4m3',
  'compressed-tensors': 'fp8-e4m3',
  int4: 'int4',
  mxfp4: 'mxfp4',
} as const;

/** Several sizes to measure. */
export const counts = (max: number): Kind<readonly number[]> => listOf('n,n', integer(0, max));

export type RooflineValues = Values<typeof ROOFLINE_FLAGS>;

/** What one run of such a suite works with. */
export interface RooflineBench {
  readonly device: Device;
  readonly model: PreparedModel;
  readonly rates: DeviceRates;
  /** Parameters that every run of it shares. */
  readonly parameters: MeasuredRun['parameters'];
}

export interface RooflineSizes {
  readonly maxRows: number;
  readonly maxBatchTokens: number;
  readonly maxModelTokens: number;
}

/**
 * Opens the device without a law, measures what it does at best, prepares the model and lets
 * `measure` use it.
 */
export async function withModel(
  values: RooflineValues,
  sizes: RooflineSizes,
  measure: (bench: RooflineBench) => Promise<readonly MeasuredRun[]>,
): Promise<SuiteResult> {
  const { model: path, loadFormat, device: kind, kvCacheDtype } = values;
  const { tensorParallelSize, enableExpertParallel } = values;
  const settings = settingsWith({
    model: path,
    loadFormat,
    device: kind,
    kvCacheDtype,
    tensorParallelSize,
    enableExpertParallel,
    law: 'off',
    maxNumSeqs: sizes.maxRows,
    maxNumBatchedTokens: sizes.maxBatchTokens,
    maxModelLen: sizes.maxModelTokens,
  });
  const config = configureEngine(settings, await readSealPolicy(values));
  const device = await openDevice(config);
  try {
    const isGpu = device.info.kind !== 'cpu';
    const rates = await measureRates({
      device,
      copyBytes: isGpu ? 2 ** 31 : 2 ** 26,
      matmulWidth: isGpu ? 8192 : 256,
      repeats: values.repeats,
    });
    const model = await prepareModel(engineOptions(config, device));
    runToEnd(model.runner.refine());
    const parameters = {
      model: path.split('/').at(-1)!,
      device: config.device.value,
      weights: WEIGHTS[model.spec.quantization?.method ?? 'none'],
      kv: model.shape.kvFormat,
      tensorParallel: tensorParallelSize,
      expertParallel: enableExpertParallel,
    };
    const runs = await measure({ device, model, rates, parameters });
    return { runs, device: measuredDevice(device.info.kind, device.info.name) };
  } finally {
    await device.close();
  }
}

/** A step's time as a run: against the floors of its work, and with what it makes a second. */
export function runOf(
  { rates, parameters }: RooflineBench,
  own: MeasuredRun['parameters'],
  { stepNs, minNs, maxNs, launchFraction }: StepTime,
  work: Work,
  repeats: number,
  perSecond: MeasuredRun['metrics'],
): MeasuredRun {
  const { bytesNs, operationsNs } = floorsNs(work, rates);
  const floorNs = Math.max(bytesNs, operationsNs);
  return {
    parameters: { ...parameters, ...own },
    metrics: {
      stepMs: stepNs / 1e6,
      bytesFloorMs: bytesNs / 1e6,
      operationsFloorMs: operationsNs / 1e6,
      floorMs: floorNs / 1e6,
      floorFraction: floorNs / stepNs,
      ...perSecond,
      tflops: work.operations / stepNs / 1e3,
      copyGBps: rates.copyBytesPerSecond / 1e9,
      matmulTflops: rates.matmulFlopsPerSecond / 1e12,
      launchFraction,
    },
    repeats,
    spread: { stepMs: [minNs / 1e6, maxNs / 1e6] },
  };
}
