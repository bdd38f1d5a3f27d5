import type { LogTrust } from '@bridgekeeper/attest';
import { UsageError } from '@bridgekeeper/server/settings';

/** Whose signatures a reader of a host's log believes, as its flags say. */
export interface TrustFlags {
  readonly logKey?: string | undefined;
  readonly witnessKey?: readonly string[] | undefined;
  /** Absent: all of them. */
  readonly witnessMin?: number | undefined;
}

/** Never from the log itself. `names` are the flags'. Throws UsageError. */
export async function readerTrust(
  { logKey, witnessKey = [], witnessMin }: TrustFlags,
  names: { readonly logKey: string; readonly witnessKey: string },
): Promise<LogTrust> {
  const { AttestError, readNoteKey } = await import('@bridgekeeper/attest/log');
  if (logKey === undefined) {
    throw new UsageError('bad-combination', `${names.logKey}: say whose signature counts`);
  }
  if (witnessKey.length === 0 && witnessMin !== 0) {
    const none = `${names.witnessKey.replace('-key', '-min')} 0 accepts that`;
    const advice = `without, a host can show each reader another log; ${none}`;
    throw new UsageError('bad-combination', `${names.witnessKey}: ${advice}`);
  }
  try {
    const witnesses = await Promise.all(witnessKey.map(readNoteKey));
    const witnessesMin = witnessMin ?? witnesses.length;
    return { log: await readNoteKey(logKey), witnesses, witnessesMin };
  } catch (cause) {
    if (!(cause instanceof AttestError)) throw cause;
    throw new UsageError('bad-value', cause.message, { cause });
  }
}
