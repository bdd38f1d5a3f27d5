import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { MeasuredProfileFile } from './assume-profile.ts';

type Variables = Readonly<Record<string, string | undefined>>;

/** Where the profile measured on the machine with that GPU lies, by the XDG base directories. */
export function measuredProfilePath(gpuUuid: string, variables: Variables = process.env): string {
  const base = variables.XDG_CONFIG_HOME || join(homedir(), '.config');
  // Encoded, so that whatever a driver answers stays a name inside the folder.
  return join(base, 'bridgekeeper', 'profiles', `${encodeURIComponent(gpuUuid)}.json`);
}

/** Reads that file. Throws the file system's error, unless there simply is none. */
export function readMeasuredProfile(
  gpuUuid: string,
  variables: Variables = process.env,
): MeasuredProfileFile {
  const path = measuredProfilePath(gpuUuid, variables);
  try {
    return { path, text: readFileSync(path, 'utf8') };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { path, text: null };
    throw error;
  }
}
