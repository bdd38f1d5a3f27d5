import { basename, dirname, join, resolve } from 'node:path';
import {
  isReferenceProfileName,
  type Profile,
  REFERENCE_PROFILE_NAMES,
  referenceProfile,
} from '@bridgekeeper/bridge';
import {
  enginesOf,
  isSpec,
  knownGpu,
  knownModel,
  nearestNames,
  PlanError,
  type PlannedModel,
  type PlanRequest,
  readPlannedModel,
  readSpec,
  readTrace,
  specWorkload,
  traceWorkload,
  type Workload,
} from '@bridgekeeper/planner';
import { chooseLaw, UsageError } from '@bridgekeeper/server';
import type { CliIo } from '../io.ts';

type Gpu = PlanRequest['gpu'];

/** A folder or a config.json where there is one of that name, else a name that is known. */
export function readModel(name: string | undefined, io: CliIo): PlannedModel {
  if (name === undefined) {
    throw new UsageError('bad-combination', '--model: say which, such as --model gpt-oss-120b');
  }
  const isFile = name.endsWith('.json');
  const path = isFile ? name : join(name, 'config.json');
  const text = readIfThere(path, io);
  if (text === undefined) {
    if (isFile) throw new UsageError('bad-file', `--model ${name}: there is no such file`);
    return knownModel(name);
  }
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (error) {
    throw new UsageError('bad-file', `--model: ${path} is not JSON`, { cause: error });
  }
  const title = basename(resolve(isFile ? dirname(name) : name)) || 'model';
  const folder = isFile ? dirname(name) : name;
  return readPlannedModel(title, folder, `config.json of ${title}`, config);
}

function readIfThere(path: string, io: CliIo): string | undefined {
  try {
    return io.readFile(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new UsageError('bad-file', `${path} cannot be read (${code})`, { cause: error });
  }
}

export function chooseGpu(name: string | undefined): Gpu {
  if (name !== undefined) return knownGpu(name);
  throw new UsageError('bad-combination', '--gpu: say which, such as --gpu b300');
}

/** The laws by their names; null is law off. Throws UsageError. */
export function chooseLaws(names: readonly string[], gpu: Gpu): readonly (Profile | null)[] {
  return names.map((name) => {
    if (name === 'auto') return referenceProfile(gpu.confidential.law);
    if (name === 'off' || name.startsWith('emulate:')) return chooseLaw(name, 'model').value;
    if (isReferenceProfileName(name)) return referenceProfile(name);
    if (/[/\\.]/.test(name)) return chooseLaw(name, 'model').value;
    const near = nearestNames(name, REFERENCE_PROFILE_NAMES).join(', ');
    const message = `--law ${name}: is no reference profile and no file; nearest: ${near}`;
    throw new UsageError('bad-value', message);
  });
}

export interface LoadOptions {
  readonly workload: string;
  readonly requests: number;
  readonly traceChunkTokens: number;
  readonly skipTooLong: boolean;
  readonly seed: number;
}

/** The load in words or of a trace, each of whose requests the model takes. */
export function readLoad(options: LoadOptions, mostTokens: number, io: CliIo): Workload {
  const workload = isSpec(options.workload)
    ? specWorkload(readSpec(options.workload), options.seed)
    : traceOf(options, io);
  const tooLong = ({ promptTokens, outputTokens }: Workload['requests'][number]) =>
    promptTokens + outputTokens > mostTokens;
  const { requests } = workload;
  const kept = requests.filter((request) => !tooLong(request));
  if (kept.length === requests.length) return workload;
  const count = `${requests.length - kept.length} of ${requests.length} requests`;
  if (!options.skipTooLong || kept.length === 0) {
    throw new PlanError(
      'bad-workload',
      `--workload ${workload.name}: ${count} are longer than the ${mostTokens} tokens that the ` +
        'model takes; --skip-too-long leaves them out',
    );
  }
  const firstNs = kept[0]!.atNs;
  return {
    ...workload,
    name: `${workload.name}, without ${count} that are too long`,
    requests: kept.map((request) => ({ ...request, atNs: request.atNs - firstNs })),
  };
}

function traceOf({ workload, requests, traceChunkTokens }: LoadOptions, io: CliIo): Workload {
  const text = readIfThere(workload, io);
  if (text === undefined) {
    // Words that are no load are seldom the name of a file.
    if (workload.includes(' ')) readSpec(workload);
    const message =
      `--workload ${workload}: there is no such file; a load in words begins with how often, as ` +
      'in "4 req/s, 1024+128"';
    throw new UsageError('bad-file', message);
  }
  const records = readTrace(text, { where: `--workload ${basename(workload)}` });
  return traceWorkload(basename(workload), records, { requests, chunkTokens: traceChunkTokens });
}

/**
 * What the host of the engine that was observed takes of the time that its description has. Throws
 * UsageError for what is no such document, or one that does not tell.
 */
export function readObserved(path: string, io: CliIo): PlanRequest['observed'] {
  const where = `--observed ${basename(path)}`;
  const text = readIfThere(path, io);
  if (text === undefined) throw new UsageError('bad-file', `${where}: there is no such file`);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new UsageError('bad-file', `${where}: is not JSON`, { cause });
  }
  const { engine, explanation } = (document ?? {}) as { engine?: unknown; explanation?: unknown };
  if (typeof engine !== 'string' || explanation === undefined) {
    throw new UsageError('bad-file', `${where}: is no document of plan observe`);
  }
  const { hostNs, predictedHostNs } = (explanation ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof hostNs !== 'number' || typeof predictedHostNs !== 'number') {
    const message = `${where}: was observed without --model and --gpu: the host’s part is not told`;
    throw new UsageError('bad-file', message);
  }
  if (!(hostNs > 0 && predictedHostNs >= LEAST_HOST_NS)) {
    const message =
      `${where}: no step waited for the host of ${engine}, so what it takes was not seen; ` +
      'observe one that does not schedule ahead';
    throw new UsageError('bad-file', message);
  }
  return { engine: enginesOf([engine])[0]!, hostFactor: hostNs / predictedHostNs };
}

/** Of a step; what is less says nothing. */
const LEAST_HOST_NS = 20e3;
