import { readCheckpoint, readSignedNote } from '@bridgekeeper/attest/log';
import { FabricError } from '../errors.ts';
import { type LogEntry, readLogEntry } from './entries.ts';
import { TILE_HASHES, tilePath } from './tiles.ts';

/** A log as a reader got it; that it was signed for is for `verifyEntries` to say. */
export interface ReadLog {
  readonly entries: readonly LogEntry[];
  readonly checkpoint: string;
}

const ENTRIES_MAX = 2 ** 22;
const BUNDLE_BYTES_MAX = TILE_HASHES * (2 + 65_535);
const CHECKPOINT_BYTES_MAX = 64 * 1024;

/** What is at a path of a log; rejects where it cannot be had, or is larger. */
export type FetchTile = (path: string, bytesMax: number) => Promise<Buffer>;

/** All entries that a log has published (C2SP tlog-tiles). Throws FabricError 'log-broken'. */
export async function readLogTiles(fetch: FetchTile): Promise<ReadLog> {
  try {
    const checkpoint = (await fetch('/checkpoint', CHECKPOINT_BYTES_MAX)).toString();
    const { size } = readCheckpoint(readSignedNote(checkpoint, 'the checkpoint'));
    if (size > ENTRIES_MAX) throw new Error(`it has ${size} entries, more than are read here`);
    const entries: LogEntry[] = [];
    while (entries.length < size) {
      const index = entries.length / TILE_HASHES;
      const width = Math.min(TILE_HASHES, size - entries.length);
      const end = width === TILE_HASHES ? '' : `.p/${width}`;
      const path = `/tile/entries/${tilePath(index)}${end}`;
      const bytes = await fetch(path, BUNDLE_BYTES_MAX);
      let at = 0;
      for (let i = 0; i < width; i++) {
        const length = at + 2 <= bytes.length ? bytes.readUInt16BE(at) : bytes.length;
        if (at + 2 + length > bytes.length) throw new Error(`${path} is cut off`);
        entries.push(demandEntry(bytes.subarray(at + 2, at + 2 + length), entries.length, path));
        at += 2 + length;
      }
      if (at !== bytes.length) throw new Error(`${path} has more than its entries`);
    }
    return { entries, checkpoint };
  } catch (cause) {
    if (cause instanceof FabricError) throw cause;
    throw new FabricError('log-broken', `the log: ${(cause as Error).message}`, { cause });
  }
}

/** Throws FabricError 'log-broken' for an entry that this version does not know. */
export function demandEntry(bytes: Buffer, index: number, where: string): LogEntry {
  const entry = readLogEntry(bytes.toString());
  if (entry !== null) return entry;
  throw new FabricError('log-broken', `${where}: entry ${index} is none that is known here`);
}
