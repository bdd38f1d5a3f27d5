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
import { fetchTiles, isLogAddress } from '../verify/fetch-log.ts';
import type { CliCommand } from './command.ts';
import { readerTrust } from './fabric-trust.ts';
import { readGivenFile } from './given-file.ts';

const FLAGS = {
  folder: requiredArgument(text('folder|url'), 'the log, as its host gives it out or serves it'),
  logKey: flag(text('vkey'), undefined, 'the key of that log, name+id+key'),
  witnessKey: flag(repeated(text('vkey')), undefined, 'the key of a witness; may be repeated'),
  witnessMin: flag(integer(0, 64), undefined, 'witnesses that must have seen it; default: all'),
  earlier: flag(repeated(text('file')), undefined, 'a checkpoint that you kept; may be repeated'),
  openings: flag(text('file'), undefined, 'what opens your commitments, a JSON list'),
  evidence: flag(text('file'), undefined, 'what your verified evidence says, to compare with'),
  json: flag(onOff(), false, 'as one JSON document'),
};

export const FABRIC_REPLAY: CliCommand<typeof FLAGS> = {
  name: 'fabric replay',
  summary: 'replay a host’s log: was any GPU ever given to two?',
  flags: FLAGS,
  notes: 'Exits with 1 if the log is not what was signed for, or shows what must not be.',
  run: ({ values }, io) => replay(values, io),
};

/** Throws UsageError and FabricError. */
async function replay(values: Values<typeof FLAGS>, io: CliIo): Promise<0 | 1> {
  const {
    gradeOf,
    readLogFolder,
    readLogTiles,
    readOpenings,
    readTenantEvidence,
    replayLog,
    statementsOf,
    verifyEntries,
  } = await import('@bridgekeeper/fabric');
  const textOf = (name: string, path: string) => readGivenFile(name, path, io);
  const openings =
    values.openings === undefined ? [] : readOpenings(textOf('--openings', values.openings));
  if (openings === null) {
    throw new UsageError('bad-file', `--openings: ${values.openings} is no list of openings`);
  }
  const evidence =
    values.evidence === undefined
      ? undefined
      : readTenantEvidence(textOf('--evidence', values.evidence));
  if (evidence === null) {
    throw new UsageError(
      'bad-file',
      `--evidence: ${values.evidence} is not what docs/fabric-log.md says`,
    );
  }
  const trust = await readerTrust(values, { logKey: '--log-key', witnessKey: '--witness-key' });
  const { entries, checkpoint } = isLogAddress(values.folder)
    ? await readLogTiles(fetchTiles(values.folder))
    : readLogFolder(values.folder);
  const earlier = (values.earlier ?? []).map((path) => textOf('--earlier', path));
  const seen = await verifyEntries(entries, checkpoint, earlier, trust);
  const replayed = replayLog(entries.slice(0, seen.size), openings);
  const statements =
    evidence === undefined
      ? []
      : statementsOf(replayed, gradeOf(entries.slice(0, seen.size)), values.logKey!, evidence);
  if (values.json) io.out(JSON.stringify({ ...seen, ...replayed, statements }));
  else {
    io.out(`${seen.size} entries, as ${trust.log.name} signed for`);
    for (const { name } of seen.witnesses) io.out(`seen by ${name}`);
    for (const { isMine, modules, activatedAt, deactivatedAt } of replayed.lives) {
      if (!isMine) continue;
      const until = deactivatedAt === null ? 'now' : `entry ${deactivatedAt}`;
      io.out(`yours: modules ${modules.join(', ')}, from entry ${activatedAt ?? '-'} to ${until}`);
    }
    for (const { index, rule, message } of replayed.findings) {
      io.out(`entry ${index}, ${rule}: ${message}`);
    }
    for (const { about, status, voucher, why } of statements) {
      io.out(`${about}: ${status} (${voucher}): ${why}`);
    }
    if (replayed.findings.length === 0) io.out('no module was ever given to two');
  }
  const isRefused = statements.some(({ status }) => status === 'refused');
  return replayed.findings.length === 0 && !isRefused ? 0 : 1;
}
