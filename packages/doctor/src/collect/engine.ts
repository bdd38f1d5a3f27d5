import { posix } from 'node:path';
import { CommandError, quoteWord } from '@bridgekeeper/server';
import { parse as parseYaml } from 'yaml';
import {
  ENGINE_TITLES,
  type EngineCommand,
  type EngineFile,
  type EngineName,
  readEngineCommand,
} from '../command/engine-command.ts';
import { optionText } from '../command/queries.ts';
import { type Facts, known, type Observed, unknown } from '../facts.ts';
import { parseVersion, type Version } from '../version.ts';
import { listFolder, readBounded } from './read-bounded.ts';

/** The only variables that are read of a running process: those that some rule looks at. */
export const ENGINE_VARIABLES: readonly string[] = [
  'CUDA_LAUNCH_BLOCKING',
  'FLASHINFER_AUTOTUNE_TIMER',
  'NCCL_NVLS_ENABLE',
  'NCCL_P2P_DISABLE',
  'PYTORCH_ALLOC_CONF',
  'PYTORCH_CUDA_ALLOC_CONF',
  'SGLANG_CONFIDENTIAL_COMPUTE',
  'VLLM_ALLREDUCE_USE_FLASHINFER',
  'VLLM_ALLREDUCE_USE_SYMM_MEM',
  'VLLM_USE_V2_MODEL_RUNNER',
];

export interface EngineFacts extends Pick<Facts, 'engine' | 'engineVersion'> {
  /** What could not be read, and what that means for the findings. */
  readonly notes: readonly string[];
}

const VERSION_HINT = 'give it with --engine-version';

/** Takes a planned command apart. Throws CommandError. */
export function readPlannedEngine(
  source: string,
  variables: ReadonlyMap<string, string>,
): EngineFacts {
  const { command, notes } = withFile(readEngineCommand(source, { variables }), '');
  return {
    engine: known(command, '--engine-command'),
    engineVersion: taggedVersion(command),
    notes,
  };
}

/** Takes a running engine's command apart. `root` stands before /proc. Throws CommandError. */
export function readRunningEngine(pid: number, root = ''): EngineFacts {
  const folder = `${root}/proc/${pid}`;
  const line = readBounded(`${folder}/cmdline`);
  if (!line.ok) throw new CommandError('no-engine', `process ${pid}: ${line.reason}`);
  const words = line.text.split('\0').filter((word, index, all) => word || index < all.length - 1);
  const source = words.map((word) => quoteWord(word, 'single')).join(' ');
  const environment = readBounded(`${folder}/environ`);
  const variables = new Map<string, string>();
  for (const pair of environment.ok ? environment.text.split('\0') : []) {
    const name = pair.slice(0, pair.indexOf('='));
    if (ENGINE_VARIABLES.includes(name)) variables.set(name, pair.slice(name.length + 1));
  }
  const { command, notes } = withFile(readEngineCommand(source, { variables }), `${folder}/cwd`);
  return {
    engine: known(command, `process ${pid}`),
    engineVersion: installedVersion(command, folder),
    notes: environment.ok
      ? notes
      : [...notes, `${environment.reason}: variables are taken as not set`],
  };
}

/** Adds the settings of the file that `--config` names. */
function withFile(command: EngineCommand, folder: string) {
  const path = optionText(command, 'config');
  if (path === undefined) return { command, notes: [] };
  const reading = readBounded(posix.isAbsolute(path) || !folder ? path : posix.join(folder, path));
  const because = reading.ok ? 'it is not a YAML map' : reading.reason;
  const settings = reading.ok ? parseSettings(reading.text) : null;
  if (settings === null) {
    return { command, notes: [`the settings in ${path} are not checked: ${because}`] };
  }
  const file: EngineFile = { path, settings };
  return { command: { ...command, file }, notes: [] };
}

function parseSettings(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = parseYaml(text);
    const isMap = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isMap ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function taggedVersion({ engine, taggedVersion: tag }: EngineCommand): Observed<Version> {
  const version = tag === null ? null : parseVersion(tag);
  const title = ENGINE_TITLES[engine];
  if (version === null) return unknown(`the command does not say which ${title}: ${VERSION_HINT}`);
  return known(version, 'the tag of the image');
}

const DISTRIBUTIONS: Readonly<Record<EngineName, string>> = {
  vllm: 'vllm',
  sglang: 'sglang',
  'tensorrt-llm': 'tensorrt_llm',
};

/** The version that pip noted beside the Python that runs the engine. */
function installedVersion(command: EngineCommand, folder: string): Observed<Version> {
  const name = DISTRIBUTIONS[command.engine];
  const pattern = new RegExp(`^${name}-(\\d[^-]*)\\.dist-info$`);
  const programs = command.words.slice(0, 2).map(({ text }) => text);
  for (const program of programs.filter(posix.isAbsolute)) {
    const lib = `${folder}/root${posix.dirname(posix.dirname(program))}/lib`;
    for (const python of listFolder(lib).filter((entry) => entry.startsWith('python'))) {
      for (const packages of ['site-packages', 'dist-packages']) {
        const entries = listFolder(`${lib}/${python}/${packages}`);
        const text = entries.map((entry) => pattern.exec(entry)?.[1]).find(Boolean);
        const version = text === undefined ? null : parseVersion(text);
        if (version !== null) return known(version, `${name}-${text}.dist-info`);
      }
    }
  }
  return unknown(`no ${name} is installed beside the process’s program: ${VERSION_HINT}`);
}
