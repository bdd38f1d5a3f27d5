import { availableParallelism } from 'node:os';
import { ModelError } from '@bridgekeeper/engine/models';
import {
  isChunkSize,
  type Seal,
  type SealFault,
  type SealProgress,
  sealModel,
  verifyModel,
} from '@bridgekeeper/engine/seal';
import {
  digest,
  flag,
  integer,
  kindOf,
  onOff,
  readSealKey,
  requiredArgument,
  SETTINGS,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { CliIo } from '../io.ts';
import { progressBar } from '../progress-bar.ts';
import { watchSilence } from '../silence.ts';
import type { CliCommand } from './command.ts';
import { locateModel } from './locate-model.ts';
import { stopSignal } from './stop-signal.ts';

const size = integer(1, 2 ** 31);

const chunkSize = kindOf('n', 'a multiple of 8192, at most 256M', (value) => {
  const bytes = size.parse(value);
  return bytes !== undefined && isChunkSize(bytes) ? bytes : undefined;
});

const FLAGS = {
  model: requiredArgument(text('folder'), SETTINGS.model.help),
  revision: SETTINGS.revision,
  downloadDir: SETTINGS.downloadDir,
  out: flag(text('folder'), undefined, 'make this folder, with copies of what loading reads'),
  encrypt: flag(onOff(), false, 'encrypt the copies'),
  keyFile: flag(
    text('file'),
    undefined,
    'the key: 32 random bytes, as they are, in hex or in base64',
  ),
  keyCommand: flag(
    text('command'),
    undefined,
    'a command that prints the key; it is run without a shell',
  ),
  chunkBytes: flag(chunkSize, 4 * 2 ** 20, 'bytes verified at a time'),
  threads: flag(integer(1, 1024), undefined, 'threads to work with; default: all cores'),
  verify: flag(onOff(), false, 'compare the folder with its manifest, writing nothing'),
  root: flag(digest(), undefined, 'with --verify: the root that the manifest must have'),
  json: flag(onOff(), false, 'as one JSON document'),
};

type Flags = Values<typeof FLAGS>;

export const SEAL: CliCommand<typeof FLAGS> = {
  name: 'seal',
  summary: 'write a manifest by which loading verifies every byte of a model',
  flags: FLAGS,
  async run({ values }, io) {
    checkCombination(values);
    return runSeal({ ...values, model: locateModel(values, io).folder }, io);
  },
};

/** What both of the command's tasks need. */
interface Task {
  readonly flags: Flags;
  readonly threads: number;
  readonly userKey: Uint8Array | undefined;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: SealProgress) => void;
  /** Since the task began. */
  readonly seconds: () => number;
}

function checkCombination({ verify, encrypt, out, root, ...flags }: Flags): void {
  const fail = (message: string): never => {
    throw new UsageError('bad-combination', message);
  };
  const hasKey = (flags.keyFile ?? flags.keyCommand) !== undefined;
  if (verify) {
    if (encrypt || out !== undefined)
      fail('--verify writes nothing: leave --out and --encrypt out');
    return;
  }
  if (root !== undefined) fail('--root is what --verify compares with');
  if (encrypt && out === undefined) fail('--encrypt: name the folder of the copies with --out');
  if (encrypt && !hasKey) fail('--encrypt: give --key-file or --key-command');
  if (!encrypt && hasKey) fail('a key is given, but not --encrypt');
}

/** Resolves to the exit code. Throws UsageError and ModelError. */
async function runSeal(flags: Flags, io: CliIo): Promise<0 | 1> {
  const threads = flags.threads ?? availableParallelism();
  const userKey = await readSealKey({ file: flags.keyFile, command: flags.keyCommand });
  const signal = stopSignal(io);
  const startNs = io.nowNs();
  const seconds = () => (io.nowNs() - startNs) / 1e9;
  const silence = watchSilence(HOST_CLOCK.after, (line) => io.err(line));
  silence.expect(flags.out ?? flags.model);
  const onProgress = (progress: SealProgress) => {
    silence.expect(flags.out ?? flags.model);
    io.redraw?.(progressLine(progress, seconds()));
  };
  const task: Task = { flags, threads, userKey, signal, onProgress, seconds };
  try {
    return await (flags.verify ? verify(task, io) : seal(task, io));
  } catch (error) {
    const isMismatch = error instanceof ModelError && error.code === 'seal-mismatch';
    if (!signal.aborted && !isMismatch) throw error;
    io.redraw?.('');
    io.err(`bridgekeeper: ${isMismatch ? error.message : 'interrupted: nothing was written'}`);
    return 1;
  } finally {
    silence.end();
    userKey?.fill(0);
  }
}

async function seal(task: Task, io: CliIo): Promise<0> {
  const { flags, seconds } = task;
  const { model, out, chunkBytes } = flags;
  const made = await sealModel(model, { ...task, out, chunkBytes });
  io.redraw?.('');
  report(made, task, io, {}, [`sealed: ${summary(made, seconds())}`, ...identity(made)]);
  return 0;
}

/** More faults than these are counted. */
const FAULTS_SHOWN = 20;

async function verify(task: Task, io: CliIo): Promise<0 | 1> {
  const { flags, seconds } = task;
  const { model, root } = flags;
  const { seal: found, faults } = await verifyModel(model, { ...task, root });
  io.redraw?.('');
  const isIntact = faults.length === 0;
  const verdict = isIntact
    ? [`verified: ${summary(found, seconds())}`, ...identity(found)]
    : [...faultLines(faults), `NOT what was sealed: ${faults.length} differences`];
  report(found, task, io, { verified: isIntact, faults }, verdict);
  return isIntact ? 0 : 1;
}

function faultLines(faults: readonly SealFault[]): string[] {
  const more = faults.length - FAULTS_SHOWN;
  const shown = faults.slice(0, FAULTS_SHOWN).map(({ message }) => message);
  return more > 0 ? [...shown, `and ${more} more`] : shown;
}

function report(
  found: Seal,
  { flags, threads, seconds }: Task,
  io: CliIo,
  more: object,
  lines: readonly string[],
): void {
  if (!flags.json) {
    for (const line of lines) io.out(line);
    return;
  }
  const { root, chunkBytes, encryption } = found;
  const counts = { files: found.files.length, chunks: chunksOf(found), bytes: bytesOf(found) };
  const document = {
    root,
    ...counts,
    chunkBytes,
    encryption,
    ...more,
    threads,
    seconds: seconds(),
  };
  io.out(JSON.stringify(document));
}

function summary(found: Seal, seconds: number): string {
  const bytes = bytesOf(found);
  const size = `${found.files.length} files, ${gigabytes(bytes)} GB in ${chunksOf(found)} chunks`;
  return `${size}, ${seconds.toFixed(1)} s (${gigabytes(bytes / seconds)} GB/s)`;
}

function identity({ root, encryption }: Seal): string[] {
  return [
    `root ${root}`,
    ...(encryption === null ? [] : [`encrypted with AES-256-GCM, key id ${encryption.keyId}`]),
  ];
}

const bytesOf = ({ files }: Seal) => files.reduce((total, { bytes }) => total + bytes, 0);
const chunksOf = ({ files }: Seal) => files.reduce((total, { chunks }) => total + chunks.length, 0);
const gigabytes = (bytes: number) => (bytes / 1e9).toFixed(2);

function progressLine({ bytesDone, bytesTotal }: SealProgress, seconds: number): string {
  const rate = gigabytes(bytesDone / Math.max(1e-3, seconds));
  const done = `${gigabytes(bytesDone)} of ${gigabytes(bytesTotal)} GB`;
  return `${progressBar(bytesDone, bytesTotal)} ${done}, ${rate} GB/s`;
}
