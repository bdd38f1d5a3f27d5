import { type Device, DeviceError } from '@bridgekeeper/device';
import { Traffic } from '@bridgekeeper/engine';
import { type LoadingStrategy, type LoadProgress, ReaderPool } from '@bridgekeeper/engine/loader';
import type { Rank } from '@bridgekeeper/engine/models';
import type { SealPolicy } from '@bridgekeeper/engine/seal';
import {
  decimalSize,
  peakResidentBytes,
  rate,
  resultDocument,
  tableOf,
} from '@bridgekeeper/report';
import {
  configureEngine,
  type EngineConfig,
  keepLoadingStrategy,
  type LoadingDecision,
  measuredDevice,
  openDevice,
  readSealPolicy,
  type Settings,
  UsageError,
} from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { CliIo } from '../io.ts';
import { progressBar } from '../progress-bar.ts';
import { readVersion } from '../version.ts';
import { plainRun } from './default-path.ts';
import { describeLoad, loadRun } from './document.ts';
import { runLoad } from './run-load.ts';

/** What `load` was asked to do. */
export interface LoadTask {
  readonly settings: Settings;
  /** What the user sets otherwise than it was decided: nothing is raced then. */
  readonly overrides: Partial<LoadingStrategy>;
  readonly rank: Rank | null;
  readonly stagingBytes: number | undefined;
  readonly path: 'bridgekeeper' | 'plain';
  readonly mayRace: boolean;
  readonly check: boolean;
  readonly json: boolean;
}

/** Everything that one load goes by. */
interface Course extends LoadTask {
  readonly config: EngineConfig;
  readonly decided: LoadingDecision;
  readonly loading: LoadingStrategy;
  readonly seal: SealPolicy;
  readonly readers: ReaderPool;
  readonly startedAt: Date;
}

/** Loads, and shows where the time went. Resolves to the exit code. Throws Usage- or ModelError. */
export async function runLoadTask(task: LoadTask, io: CliIo): Promise<0 | 1> {
  const startedAt = new Date(HOST_CLOCK.unixSeconds() * 1000);
  const { settings, overrides, path } = task;
  const seal = await readSealPolicy(settings);
  const config = configureEngine({ ...settings, policy: 'drain-first' }, seal);
  const { device: kind, law, loading: decided } = config;
  const loading = { ...decided.value, ...overrides };
  if (loading.crossedBy === 'readers' && (law.value !== null || kind.value === 'model')) {
    const reason = 'crossings are for lanes where a law is imposed, and on the model device';
    throw new UsageError('bad-value', `--crossed-by readers: ${reason}`);
  }
  const readers = new ReaderPool();
  // Threads start while the device is being opened.
  if (path === 'bridgekeeper') readers.grow(loading.readers);
  const course = { ...task, config, decided, loading, seal, readers, startedAt };
  const device = await openDevice(config);
  try {
    return await (path === 'plain' ? runPlain : runOwn)(course, device, io);
  } catch (error) {
    io.redraw?.('');
    if (!(error instanceof DeviceError)) throw error;
    io.err(`bridgekeeper: ${error.message}`);
    return 1;
  } finally {
    seal.userKey?.fill(0);
    await readers.close();
    await device.close();
  }
}

async function runPlain(course: Course, device: Device, io: CliIo): Promise<0> {
  const { config, json } = course;
  const parameters = { model: nameOf(config), law: config.law.value?.name ?? 'off' };
  const run = await plainRun(config.model, device, parameters);
  io.out(json ? JSON.stringify(resultOf(course, device, [run]), null, 2) : tableOf([run]));
  return 0;
}

async function runOwn(course: Course, device: Device, io: CliIo): Promise<0 | 1> {
  const { config, decided, loading, readers, seal, rank, stagingBytes, check } = course;
  const law = config.law.value;
  const isChosen = Object.keys(course.overrides).length === 0;
  const traffic = new Traffic({ device, profile: config.bridge.value });
  const outcome = await runLoad({
    model: config.model,
    device,
    traffic,
    readers,
    seal,
    rank,
    stagingBytes,
    check,
    strategy: loading,
    race: isChosen && course.mayRace ? decided.race : null,
    onProgress: (progress) => io.redraw?.(progressLine(progress)),
  });
  io.redraw?.('');
  const { report, checked } = outcome;
  if (report.race.length > 0 && decided.store !== null) {
    keepLoadingStrategy(decided.store.path, decided.store.key, report.strategy);
  }
  const peakBytes = peakResidentBytes();
  const run = loadRun(outcome, { model: nameOf(config) }, law, peakBytes);
  const result = { ...resultOf(course, device, [run]), race: report.race };
  const text = describeLoad(outcome, law, peakBytes);
  io.out(course.json ? JSON.stringify(result, null, 2) : text);
  return (checked?.differing.length ?? 0) === 0 ? 0 : 1;
}

function resultOf(
  { config, startedAt }: Course,
  device: Device,
  runs: Parameters<typeof tableOf>[0],
) {
  const context = { version: readVersion().version, command: 'bridgekeeper load', startedAt };
  return resultDocument(
    'load',
    context,
    measuredDevice(config.device.value, device.info.name),
    runs,
  );
}

/** Without the path, which is the machine's own affair. */
function nameOf({ model }: EngineConfig): string {
  return model.split('/').filter(Boolean).at(-1) ?? model;
}

function progressLine({ bytesDone, bytesTotal, totalSeconds }: LoadProgress): string {
  const done = `${decimalSize(bytesDone)} of ${decimalSize(bytesTotal)}`;
  const soFar = rate(bytesDone / Math.max(1e-3, totalSeconds));
  return `${progressBar(bytesDone, bytesTotal)} read, cross, place: ${done}, ${soFar}`;
}
