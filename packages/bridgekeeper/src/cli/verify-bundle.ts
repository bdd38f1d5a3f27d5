import type { LogTrust } from '@bridgekeeper/attest';
import {
  flag,
  integer,
  onOff,
  repeated,
  requiredArgument,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import type { CliCommand, ExitCode } from './command.ts';

const FLAGS = {
  folder: requiredArgument(text('folder'), 'the unpacked bundle'),
  proof: flag(text('file'), undefined, 'the proof that it is in a log (C2SP tlog-proof)'),
  logKey: flag(text('vkey'), undefined, 'the key of that log, name+id+key'),
  witnessKey: flag(repeated(text('vkey')), undefined, 'the key of a witness; may be repeated'),
  witnessMin: flag(integer(0, 64), undefined, 'witnesses that must have seen it; default: all'),
  printEntry: flag(onOff(), false, 'print what belongs into the log, and verify the files alone'),
  json: flag(onOff(), false, 'as one JSON document'),
};

type Flags = Values<typeof FLAGS>;

export const VERIFY_BUNDLE: CliCommand<typeof FLAGS> = {
  name: 'verify-bundle',
  summary: 'verify that a bundle is whole, and that a public log has its digest, without a network',
  flags: FLAGS,
  run: ({ values }, io) => verifyBundle(values, io),
};

/** Resolves to the exit code: 0 it holds, 1 it does not. Throws UsageError. */
async function verifyBundle(flags: Flags, io: CliIo): Promise<ExitCode> {
  const { AttestError, readLogProof, verifyLogProof } = await import('@bridgekeeper/attest');
  const { bundleEntry, readManifest, verifyFiles } = await import('../bundle/verify.ts');
  const trust = flags.printEntry ? null : await trustOf(flags);
  const proof = trust === null ? null : readText(flags.proof!, io);
  try {
    const manifest = await readManifest(flags.folder);
    await verifyFiles(flags.folder, manifest);
    const entry = bundleEntry(manifest);
    if (trust === null) {
      io.out(entry.trimEnd());
      return 0;
    }
    const bytes = new TextEncoder().encode(entry);
    const logged = await verifyLogProof(bytes, readLogProof(proof!), trust);
    const { digest, files } = manifest;
    if (flags.json) {
      io.out(JSON.stringify({ digest, files: files.length, ...logged }));
      return 0;
    }
    io.out(`digest     ${digest}, of ${files.length} files that are as it says`);
    io.out(`log        ${logged.origin}, entry ${logged.index} of ${logged.size}`);
    for (const { name, seenAtSeconds } of logged.witnesses) {
      io.out(`witness    ${name}, at ${new Date(seenAtSeconds * 1000).toISOString()}`);
    }
    return 0;
  } catch (error) {
    const { name, message } = error as Error;
    if (name !== 'BundleError' && !(error instanceof AttestError)) throw error;
    const { code } = error as { readonly code: string };
    if (code === 'unreadable') throw new UsageError('bad-file', message, { cause: error });
    if (flags.json) io.out(JSON.stringify({ error: { name, code, message } }));
    io.err(`bridgekeeper: ${message} [${code}]`);
    return 1;
  }
}

/** Throws UsageError. */
function readText(path: string, io: CliIo): string {
  try {
    return io.readFile(path);
  } catch (cause) {
    const message = `--proof: ${path} cannot be read: ${(cause as Error).message}`;
    throw new UsageError('bad-file', message, { cause });
  }
}

/** Whom to trust is never taken from the proof. Throws UsageError. */
async function trustOf({ proof, logKey, witnessKey = [], witnessMin }: Flags): Promise<LogTrust> {
  const { AttestError, readNoteKey } = await import('@bridgekeeper/attest');
  if (proof === undefined || logKey === undefined) {
    throw new UsageError('bad-combination', '--proof and --log-key: give both');
  }
  const witnessesMin = witnessMin ?? witnessKey.length;
  if (witnessKey.length === 0 && witnessMin !== 0) {
    const advice =
      'without, a log can show each client another truth; --witness-min 0 accepts that';
    throw new UsageError('bad-combination', `--witness-key: ${advice}`);
  }
  try {
    const witnesses = await Promise.all(witnessKey.map(readNoteKey));
    return { log: await readNoteKey(logKey), witnesses, witnessesMin };
  } catch (error) {
    if (!(error instanceof AttestError)) throw error;
    throw new UsageError('bad-value', error.message, { cause: error });
  }
}
