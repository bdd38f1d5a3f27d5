import { UsageError } from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';

/** The text of a file that was named by `name`, such as `--hosts`. Throws UsageError 'bad-file'. */
export function readGivenFile(name: string, path: string, io: CliIo): string {
  try {
    return io.readFile(path);
  } catch (cause) {
    const message = `${name}: ${path} cannot be read: ${(cause as Error).message}`;
    throw new UsageError('bad-file', message, { cause });
  }
}
