import type { Device } from '@bridgekeeper/device';
import {
  type DeviceRates,
  floorsNs,
  measureRates,
  type PreparedModel,
  prepareModel,
  type StepTime,
  type Work,
} from '@bridgekeeper/engine/measure';
import type { MeasuredRun } from '@bridgekeeper/report';
import {
  configureEngine,
  engineOptions,
  integer,
  measuredDevice,
  openDevice,
  resolveSettings,
  SETTINGS,
  text,
  texts,
  UsageError,
} from '@bridgekeeper/server';
import { SEAL_PARAMETERS, type SealValues, sealPolicyOf } from './seal.ts';
import type { SuiteParameter, SuiteResult } from './suite.ts';

/** What the suites that measure bare steps have in common. */
export const ROOFLINE_PARAMETERS = {
  model: { kind: text('folder'), default: SETTINGS.model.default, help: 'model folder' },
  'load-format': { kind: SETTINGS.loadFormat.kind, default: 'auto', help: 'auto or dummy' },
  device: { kind: SETTINGS.device.kind, default: 'auto', help: 'where the model runs' },
  'kv-cache-dtype': { kind: SETTINGS.kvCacheDtype.kind, default: 'auto', help: 'how KV is stored' },
  repeats: { kind: integer(1, 100), default: '5', help: 'measurements of each' },
  ...SEAL_PARAMETERS,
} satisfies Readonly<Record<string, SuiteParameter>>;

/** A list of whole numbers. */
export const counts = texts('n,n');

export interface RooflineValues extends SealValues {
  readonly model: string;
  readonly 'load-format': string;
  readonly device: string;
  readonly 'kv-cache-dtype': string;
  readonly repeats: number;
}

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
  const flags = {
    model: values.model,
    loadFormat: values['load-format'],
    device: values.device,
    kvCacheDtype: values['kv-cache-dtype'],
    law: 'off',
    maxNumSeqs: String(sizes.maxRows),
    maxNumBatchedTokens: String(sizes.maxBatchTokens),
    maxModelLen: String(sizes.maxModelTokens),
  };
  const { settings } = resolveSettings({ flags, environment: {}, readFile: () => '' });
  const config = configureEngine(settings, await sealPolicyOf(values));
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
    const parameters = {
      model: values.model.split('/').at(-1)!,
      device: config.device.value,
      weights: model.spec.quantization === null ? 'element' : 'fp8-e4m3',
      kv: model.shape.kvFormat,
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

/** Parses a list of counts. Throws UsageError. */
export function countsOf(flag: string, values: readonly string[], most: number): number[] {
  return values.map((value) => {
    const count = Number(value);
    if (Number.isInteger(count) && count >= 0 && count <= most) return count;
    throw new UsageError('bad-value', `--${flag}: ${value} is no whole number up to ${most}`);
  });
}
