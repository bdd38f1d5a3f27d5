import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { UsageError } from './resolve.ts';

/**
 * Reads a file with secrets of at most `maxBytes`, which others on the machine must not be able to
 * read. Throws UsageError, in which the file is called `what`.
 */
export async function readPrivateFile(
  path: string,
  what: string,
  maxBytes: number,
): Promise<Buffer> {
  const bad = (reason: string) => new UsageError('bad-file', `${what} ${path} ${reason}`);
  let handle: FileHandle | undefined;
  try {
    // Without waiting, should it be a pipe without a writer.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const status = await handle.stat();
    if (!status.isFile()) throw bad('is not a regular file');
    if ((status.mode & 0o007) !== 0) throw bad('is open to everybody: chmod 600 it');
    const buffer = Buffer.alloc(maxBytes + 1);
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
    if (bytesRead > maxBytes) throw bad(`is larger than ${maxBytes} bytes`);
    return buffer.subarray(0, bytesRead);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const reason = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    throw bad(`cannot be read: ${reason}`);
  } finally {
    await handle?.close();
  }
}
