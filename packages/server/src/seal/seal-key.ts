import { execFile } from 'node:child_process';
import { USER_KEY_BYTES } from '@bridgekeeper/engine/seal';
import { readPrivateFile } from '../settings/private-file.ts';
import { UsageError } from '../settings/resolve.ts';
import { CommandError, splitWords } from '../settings/shell/words.ts';

/** Where the key of an encrypted model comes from: one of the two, or neither. */
export interface SealKeySource {
  /** A file that others on the machine cannot read. */
  readonly file?: string | undefined;
  /** A key broker: a command, split as a shell does but run without one, that prints the key. */
  readonly command?: string | undefined;
}

/** More than any spelling of a key has. */
const MAX_BYTES = 1024;
const COMMAND_TIMEOUT_MS = 30_000;

/**
 * The key of `USER_KEY_BYTES` bytes that `source` gives, or undefined where it names none. Throws
 * UsageError, whose message never has any of the key in it.
 */
export async function readSealKey(source: SealKeySource): Promise<Uint8Array | undefined> {
  const { file, command } = source;
  if (file !== undefined && command !== undefined) {
    throw new UsageError('bad-combination', 'a key file and a key command: give one of them');
  }
  if (file !== undefined) {
    const bytes = await readPrivateFile(file, 'the key file', MAX_BYTES);
    return parseKey(bytes, `the key file ${file}`);
  }
  if (command !== undefined) return parseKey(await runKeyCommand(command), 'the key command');
  return undefined;
}

/** Reads a key as it is, or written in hex or base64 with white space around it. */
function parseKey(given: Buffer, where: string): Uint8Array {
  const text = given.toString('latin1').trim();
  const isText = /^[\x20-\x7e]*$/.test(text);
  if (/^[0-9a-f]{64}$/i.test(text)) return Uint8Array.from(Buffer.from(text, 'hex'));
  if (/^[\w+/-]{43}=?$/.test(text)) return Uint8Array.from(Buffer.from(text, 'base64'));
  // Bytes that are all letters and digits are a password or half a key, hardly a random one.
  if (given.length === USER_KEY_BYTES && !isText) return Uint8Array.from(given);
  const accepted = `${USER_KEY_BYTES} random bytes, as they are, in hex or in base64`;
  const hint = `openssl rand -hex ${USER_KEY_BYTES} makes them`;
  throw new UsageError('bad-value', `${where} does not hold ${accepted}; ${hint}`);
}

async function runKeyCommand(command: string): Promise<Buffer> {
  const [file, ...args] = wordsOf(command);
  return new Promise((resolve, reject) => {
    const options = {
      encoding: 'buffer' as const,
      timeout: COMMAND_TIMEOUT_MS,
      killSignal: 'SIGKILL' as const,
      maxBuffer: 64 * MAX_BYTES,
    };
    const child = execFile(file!, args, options, (error, output) => {
      if (error === null) resolve(output);
      else reject(new UsageError('bad-value', `the key command ${reasonOf(error)}`));
    });
    child.stdin?.end();
  });
}

/** Why a command gave no key; what it printed stays unsaid. */
function reasonOf(error: { code?: unknown; killed?: boolean; signal?: unknown }): string {
  if (error.code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') return 'printed far more than a key';
  if (error.killed) return `took longer than ${COMMAND_TIMEOUT_MS / 1000} s`;
  if (error.signal) return `was ended by ${error.signal}`;
  if (typeof error.code === 'number') return `failed with exit code ${error.code}`;
  return `cannot be started: ${error.code}`;
}

function wordsOf(command: string): string[] {
  try {
    const { words } = splitWords(command);
    const rest = command.slice(words.at(-1)!.end).trim();
    if (rest === '') return words.map(({ text }) => text);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
  }
  const hint = "for pipes and redirections: sh -c '...'";
  throw new UsageError('bad-value', `the key command must be one plain command; ${hint}`);
}
