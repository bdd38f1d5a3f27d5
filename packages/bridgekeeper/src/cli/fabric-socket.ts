import { chmodSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, request, type Server } from 'node:http';
import { join } from 'node:path';
import type { FabricError } from '@bridgekeeper/fabric';

/** Over a round in which Fabric Manager takes all the time that it has. */
const ANSWER_SECONDS = 180;
const ANSWER_BYTES_MAX = 4 * 2 ** 20;
/** Of a path in a socket's address, with its final zero. */
const PATH_BYTES_MAX = 108;

const socketOf = (folder: string) => join(folder, 'agent.sock');

/** Serves on the socket of a state folder, whose agent this process is. */
export async function serveSocket(folder: string, listener: RequestListener): Promise<Server> {
  const path = socketOf(folder);
  const { FabricError } = await import('@bridgekeeper/fabric');
  if (Buffer.byteLength(path) >= PATH_BYTES_MAX) {
    const message = `${path} is too long for a socket: give --state a shorter one`;
    throw new FabricError('disk-failed', message);
  }
  // The lock says that nobody listens there any more.
  rmSync(path, { force: true });
  const server = createServer(listener);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      reject(new FabricError('disk-failed', `${path}: ${cause.message}`, { cause }));
    });
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  return server;
}

/**
 * What the agent of that state folder answers; null: none listens there. Throws FabricError as the
 * agent did, and 'agent-running' for one that does not answer.
 */
export async function askAgent(
  folder: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<unknown> {
  const { FabricError } = await import('@bridgekeeper/fabric');
  const socketPath = socketOf(folder);
  let answer: { readonly status: number; readonly text: string } | null;
  try {
    answer = await exchange(socketPath, method, path, body);
  } catch (cause) {
    const message = `${socketPath}: the agent does not answer: ${(cause as Error).message}`;
    throw new FabricError('agent-running', message, { cause });
  }
  if (answer === null) return null;
  let read: unknown;
  try {
    read = JSON.parse(answer.text);
  } catch (cause) {
    throw new FabricError('agent-running', `${socketPath}: it is no agent’s`, { cause });
  }
  if (answer.status === 200) return read;
  const { code, message, status } = (read as Answered).error;
  throw new FabricError(code, message, status === null ? undefined : { status });
}

interface Answered {
  readonly error: {
    readonly code: ConstructorParameters<typeof FabricError>[0];
    readonly message: string;
    readonly status: number | null;
  };
}

async function exchange(socketPath: string, method: string, path: string, body: unknown) {
  return new Promise<{ status: number; text: string } | null>((resolve, reject) => {
    const sent = request({ socketPath, method, path, timeout: ANSWER_SECONDS * 1000 });
    sent.on('timeout', () => sent.destroy(new Error(`nothing for ${ANSWER_SECONDS} s`)));
    sent.on('error', (error: NodeJS.ErrnoException) => {
      const isNone = error.code === 'ENOENT' || error.code === 'ECONNREFUSED';
      if (isNone) resolve(null);
      else reject(error);
    });
    sent.on('response', (response) => {
      const pieces: Buffer[] = [];
      let bytes = 0;
      response.on('data', (piece: Buffer) => {
        bytes += piece.length;
        if (bytes > ANSWER_BYTES_MAX) sent.destroy(new Error('it answers too much'));
        else pieces.push(piece);
      });
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(pieces).toString() });
      });
      response.on('error', reject);
    });
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
