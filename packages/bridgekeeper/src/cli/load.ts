import type { LoadingStrategy } from '@bridgekeeper/engine/loader';
import type { Rank } from '@bridgekeeper/engine/models';
import {
  flag,
  integer,
  kindOf,
  oneOf,
  onOff,
  requiredArgument,
  SETTINGS,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server';
import type { CliCommand } from './command.ts';
import { locateModel } from './locate-model.ts';

/** What the command line takes; the other settings come from where they come from for `serve`. */
const OWN_FLAGS = {
  model: requiredArgument(text('folder'), SETTINGS.model.help),
  revision: SETTINGS.revision,
  downloadDir: SETTINGS.downloadDir,
  device: SETTINGS.device,
  law: SETTINGS.law,
  modelSeal: SETTINGS.modelSeal,
  sealRoot: SETTINGS.sealRoot,
  sealKeyFile: SETTINGS.sealKeyFile,
  sealKeyCommand: SETTINGS.sealKeyCommand,
  crossedBy: flag(
    oneOf('lanes', 'readers'),
    undefined,
    'readers: the threads that read also copy; no law only',
  ),
  contexts: flag(integer(0, 64), undefined, 'contexts that cross; 0: the launching one'),
  chunkBytes: flag(integer(4096, 2 ** 30, 4096), undefined, 'bytes of a crossing'),
  memory: flag(oneOf('pinned', 'pageable'), undefined, 'host memory that crosses'),
  readers: flag(integer(0, 256), undefined, 'threads that read'),
  direct: flag(onOff(), undefined, 'read past the page cache, not through it'),
  stagingBytes: flag(
    integer(2 ** 20, 2 ** 36),
    undefined,
    'bytes of host memory that weights pass through; unset: of four crossings',
  ),
  rank: flag(
    kindOf('i/n', 'i/n with i from 0 below n', rankOf),
    undefined,
    'only what rank i of n holds under tensor parallelism',
  ),
  check: flag(onOff(), false, 'compare what arrived with the files'),
  race: flag(onOff(), true, 'try other ways at the first load on a machine'),
  path: flag(
    oneOf('bridgekeeper', 'plain'),
    'bridgekeeper',
    'plain: as engines do by default, to compare',
  ),
  json: flag(onOff(), false, 'as one JSON document'),
};
const FLAGS = { ...SETTINGS, ...OWN_FLAGS };

type Flags = Values<typeof FLAGS>;

export const LOAD: CliCommand<typeof FLAGS> = {
  name: 'load',
  summary: 'bring weights to the device, and say where the time went',
  flags: FLAGS,
  offered: Object.keys(OWN_FLAGS),
  async run({ values }, io) {
    // Loaded when it is needed, like every command that opens a device's libraries.
    const { runLoadTask } = await import('../load/task.ts');
    const { rank = null, stagingBytes, path, race: mayRace, check, json } = values;
    const overrides = overridesOf(values);
    const settings = { ...values, model: locateModel(values, io).folder };
    const task = { settings, overrides, rank, stagingBytes, path, mayRace, check, json };
    return runLoadTask(task, io);
  },
};

/** What the flags ask for of a plan. */
function overridesOf(flags: Flags): Partial<LoadingStrategy> {
  const { crossedBy, contexts, chunkBytes, memory, readers, direct } = flags;
  const own = { crossedBy, contexts, chunkBytes, memory, readers, direct };
  // Only lanes have contexts, and a choice of memory.
  const isForLanes = (own.contexts ?? 0) > 0 || own.memory === 'pageable' || own.readers === 0;
  if (isForLanes && own.crossedBy === 'readers') {
    const reason = 'has neither contexts nor pageable memory, and at least one reader';
    throw new UsageError('bad-value', `--crossed-by readers: ${reason}`);
  }
  if (isForLanes) own.crossedBy = 'lanes';
  return Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined));
}

function rankOf(text: string): Rank | undefined {
  const [, index, of] = /^(\d{1,4})\/(\d{1,4})$/.exec(text) ?? [];
  const rank = { index: Number(index), of: Number(of), wholeExperts: false };
  return rank.index < rank.of ? rank : undefined;
}
