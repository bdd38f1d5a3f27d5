import { createRequire } from 'node:module';
import { weightBytes } from '@bridgekeeper/engine/loader';
import {
  countParameters,
  describeModel,
  ModelError,
  type ModelSpec,
  weightTensors,
} from '@bridgekeeper/engine/models';
import { PlanError } from '../errors.ts';
import { nearestNames, plain } from '../nearest.ts';
import { readGenericModel } from './generic.ts';
import { type ModelTables, tablesOf } from './tables.ts';

/** A model as plans need it: its sizes, and where they are from. Plain data. */
export interface PlannedModel {
  readonly name: string;
  /** What engines are told to serve: a repository of Hugging Face, or a path. */
  readonly path: string;
  /** Where its sizes are from. */
  readonly source: string;
  readonly spec: ModelSpec;
  /** What the engine prices otherwise than the model is; empty: it runs this architecture. */
  readonly approximations: readonly string[];
  readonly parameters: number;
  readonly activeParameters: number;
  /** Whether tokens are routed to experts. */
  readonly hasExperts: boolean;
  /** On the device, as the checkpoint stores them. */
  readonly weightBytes: number;
  /** KV of one more token in layers that keep every token, in bf16. */
  readonly kvBytesPerToken: number;
  /** Of GPUs that share the model each has a part of it; all of it, where all heads share it. */
  readonly isKvDivided: boolean;
  /** What a request keeps whatever its length, at most: windows and recurrent state. */
  readonly stateBytesPerRequest: number;
  /** What engines keep of it on the host, and tell the device of, in each step. */
  readonly tables: ModelTables;
}

/** One entry of data/models.json. */
interface KnownModel {
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly repository: string;
  readonly source: string;
  /** The keys of config.json that sizes follow from. */
  readonly config: Readonly<Record<string, unknown>>;
}

const require = createRequire(import.meta.url);
const BF16_BYTES = 2;

let known: readonly KnownModel[] | undefined;

function knownModels(): readonly KnownModel[] {
  known ??= (require('../../data/models.json') as { models: readonly KnownModel[] }).models;
  return known;
}

/** The names of --model that need no files, in the order of the data. */
export function knownModelNames(): readonly string[] {
  return knownModels().map(({ name }) => name);
}

/**
 * A model by a name that is known, with or without its owner's (`Qwen/Qwen3-8B`), in any spelling.
 * Throws PlanError `unknown-model` with the nearest names.
 */
export function knownModel(name: string): PlannedModel {
  const wanted = plain(name.split('/').at(-1)!);
  const spellings = (model: KnownModel) => [model.name, ...(model.aliases ?? [])].map(plain);
  const exact = knownModels().find((model) => spellings(model).includes(wanted));
  const found =
    exact ?? knownModels().find((model) => spellings(model).includes(withoutTuning(wanted)));
  if (found !== undefined) {
    return describePlanned(found.name, found.repository, found.source, found.config);
  }
  const near = nearestNames(name.split('/').at(-1)!, knownModelNames()).join(', ');
  throw new PlanError(
    'unknown-model',
    `--model ${name}: no model of that name is known, and there is no such folder or file. ` +
      `Nearest: ${near}. Give a folder with config.json, or config.json itself, for any other`,
  );
}

/** Tuned for chats it has the same sizes. */
const withoutTuning = (name: string) =>
  name.replace(/(instruct|base|it|chat|thinking)(\d{4})?$/, '');

/**
 * Reads a config.json, parsed, of the model that lies at `path`. Throws PlanError `bad-model`.
 */
export function readPlannedModel(
  name: string,
  path: string,
  source: string,
  config: unknown,
): PlannedModel {
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw new PlanError('bad-model', `${source}: must hold one JSON object`);
  }
  return describePlanned(name, path, source, config as Readonly<Record<string, unknown>>);
}

function describePlanned(
  name: string,
  path: string,
  source: string,
  config: Readonly<Record<string, unknown>>,
): PlannedModel {
  try {
    return planned(name, path, source, config);
  } catch (error) {
    if (!(error instanceof PlanError || error instanceof ModelError)) throw error;
    throw new PlanError('bad-model', `${source}: ${error.message}`, { cause: error });
  }
}

function planned(
  name: string,
  path: string,
  source: string,
  config: Readonly<Record<string, unknown>>,
): PlannedModel {
  const generic = runsHere(config) ? null : readGenericModel(config);
  const spec = generic?.spec ?? describeModel(config);
  const { total, active } = countParameters(spec);
  const own = kvOf(spec);
  return {
    name,
    path,
    source,
    spec,
    approximations: generic?.approximations ?? [],
    parameters: total,
    activeParameters: active,
    hasExperts: spec.layerKinds.some(({ feedForward }) => feedForward.kind !== 'dense'),
    weightBytes: weightBytes(weightTensors(spec), BF16_BYTES),
    kvBytesPerToken: generic?.kvBytesPerToken ?? own.perToken,
    isKvDivided: generic?.isKvDivided ?? true,
    stateBytesPerRequest: generic?.stateBytesPerRequest ?? own.perRequest,
    tables: generic?.tables ?? tablesOf(layerCounts(spec.layerKinds), config),
  };
}

/**
 * Whether the engine's own reader takes it, and prices know all of its layers, which are of
 * attention with keys and values; what it refuses for other reasons is an error.
 */
function runsHere(config: Readonly<Record<string, unknown>>): boolean {
  try {
    const { deltaNet, latent } = describeModel(config);
    return deltaNet === null && latent === null;
  } catch (error) {
    if (error instanceof ModelError && error.code === 'unsupported') return false;
    throw error;
  }
}

function layerCounts(kinds: ModelSpec['layerKinds']) {
  const sliding = kinds.filter(({ window }) => window > 0).length;
  return { full: kinds.length - sliding, sliding, linear: 0 };
}

/** Of layers that keep keys and values themselves. */
function kvOf({ layerKinds }: ModelSpec) {
  const kv = { perToken: 0, perRequest: 0 };
  for (const { kvHeads, headDim, lineKv, window } of layerKinds) {
    const bytes = lineKv === 'none' ? 0 : 2 * kvHeads * headDim * BF16_BYTES;
    if (window === 0) kv.perToken += bytes;
    kv.perRequest += window * bytes;
  }
  return kv;
}
