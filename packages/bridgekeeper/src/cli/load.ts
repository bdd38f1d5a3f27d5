import type { LoadingStrategy } from '@bridgekeeper/engine/loader';
import type { Rank } from '@bridgekeeper/engine/models';
import {
  integer,
  type Kind,
  oneOf,
  resolveSettings,
  SETTINGS,
  UsageError,
} from '@bridgekeeper/server';
import type { Command } from 'commander';
import type { CliIo } from '../io.ts';
import type { LoadTask } from '../load/task.ts';

const OWN_SETTINGS = [
  'device',
  'law',
  'modelSeal',
  'sealRoot',
  'sealKeyFile',
  'sealKeyCommand',
] as const;

interface Flags extends Readonly<Partial<Record<(typeof OWN_SETTINGS)[number], string>>> {
  readonly crossedBy?: string;
  readonly contexts?: string;
  readonly chunkBytes?: string;
  readonly memory?: string;
  readonly readers?: string;
  readonly direct?: boolean;
  readonly stagingBytes?: string;
  readonly rank?: string;
  readonly check?: true;
  readonly race: boolean;
  readonly path: string;
  readonly json?: true;
}

/** Adds `load` to the program; `setCode` takes its exit code. */
export function addLoadCommand(program: Command, io: CliIo, setCode: (code: number) => void) {
  const command = program
    .command('load')
    .argument('<model>', 'model folder in Hugging Face format')
    .description('bring weights to the device, and say where the time went');
  for (const name of OWN_SETTINGS) {
    const flag = name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    command.option(`--${flag} <${SETTINGS[name].kind.metavar}>`, SETTINGS[name].help);
  }
  command
    .option('--crossed-by <lanes|readers>', 'readers: the threads that read also copy; no law only')
    .option('--contexts <n>', 'contexts that cross; 0: the launching one')
    .option('--chunk-bytes <n>', 'bytes of a crossing')
    .option('--memory <pinned|pageable>', 'host memory that crosses')
    .option('--readers <n>', 'threads that read')
    .option('--direct', 'read past the page cache')
    .option('--no-direct', 'read through the page cache')
    .option('--staging-bytes <n>', 'host memory that weights pass through', '256M')
    .option('--rank <i/n>', 'only what rank i of n holds under tensor parallelism')
    .option('--check', 'compare what arrived with the files')
    .option('--no-race', 'try no other ways at the first load on a machine')
    .option(
      '--path <bridgekeeper|plain>',
      'plain: as engines do by default, to compare',
      'bridgekeeper',
    )
    .option('--json', 'as one JSON document')
    .action(async (model: string, flags: Flags) => setCode(await runLoadCommand(model, flags, io)));
}

/** Resolves to the exit code. Throws UsageError and ModelError. */
async function runLoadCommand(model: string, flags: Flags, io: CliIo): Promise<0 | 1> {
  const given = Object.fromEntries(
    OWN_SETTINGS.flatMap((name) => (flags[name] === undefined ? [] : [[name, flags[name]]])),
  );
  const { settings } = resolveSettings({
    flags: { ...given, model },
    environment: io.environment,
    readFile: io.readFile,
  });
  // Loaded when it is needed, like every command that opens a device's libraries.
  const { runLoadTask } = await import('../load/task.ts');
  const task: LoadTask = {
    settings,
    overrides: overridesOf(flags),
    rank: rankOf(flags.rank),
    stagingBytes: read('--staging-bytes', integer(2 ** 20, 2 ** 36), flags.stagingBytes),
    path: read('--path', oneOf('bridgekeeper', 'plain'), flags.path)!,
    mayRace: flags.race,
    check: flags.check === true,
    json: flags.json === true,
  };
  return runLoadTask(task, io);
}

/** What the flags ask for of a plan. */
function overridesOf(flags: Flags): Partial<LoadingStrategy> {
  const own = {
    crossedBy: read('--crossed-by', oneOf('lanes', 'readers'), flags.crossedBy),
    contexts: read('--contexts', integer(0, 64), flags.contexts),
    chunkBytes: read('--chunk-bytes', integer(4096, 2 ** 30), flags.chunkBytes),
    memory: read('--memory', oneOf('pinned', 'pageable'), flags.memory),
    readers: read('--readers', integer(0, 256), flags.readers),
    direct: flags.direct,
  };
  if (own.chunkBytes !== undefined && own.chunkBytes % 4096 !== 0) {
    throw new UsageError('bad-value', '--chunk-bytes: must be a multiple of 4096');
  }
  // Only lanes have contexts, and a choice of memory.
  const isForLanes = (own.contexts ?? 0) > 0 || own.memory === 'pageable' || own.readers === 0;
  if (isForLanes && own.crossedBy === 'readers') {
    const reason = 'has neither contexts nor pageable memory, and at least one reader';
    throw new UsageError('bad-value', `--crossed-by readers: ${reason}`);
  }
  if (isForLanes) own.crossedBy = 'lanes';
  return Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined));
}

function rankOf(text: string | undefined): Rank | null {
  if (text === undefined) return null;
  const [, index, of] = /^(\d{1,4})\/(\d{1,4})$/.exec(text) ?? [];
  const rank = { index: Number(index), of: Number(of) };
  if (rank.index < rank.of) return rank;
  throw new UsageError('bad-value', `--rank: ${text} is not i/n with i from 0 below n`);
}

function read<T>(flag: string, kind: Kind<T>, given: string | undefined): T | undefined {
  if (given === undefined) return undefined;
  try {
    return kind.parse(given);
  } catch (error) {
    throw new UsageError('bad-value', `${flag}: ${(error as Error).message}`);
  }
}
