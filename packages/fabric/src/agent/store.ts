import { createHash } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { lockFile } from '@bridgekeeper/native';
import { FabricError } from '../errors.ts';
import { type AgentState, readState } from '../tenancy/state.ts';

/** Where an agent keeps its state. */
export interface Store {
  /** Null: there is none yet. Throws FabricError 'state-broken' or 'disk-failed'. */
  read(): Promise<AgentState | null>;
  /**
   * Resolves once the new state is durable; if it rejects, or the power fails, the old one is.
   * Throws FabricError 'disk-full' or 'disk-failed'.
   */
  replace(state: AgentState): Promise<void>;
}

const STATE_BYTES_MAX = 4 * 2 ** 20;
const DIGEST_CHARACTERS = 64;

/** One file, replaced by renaming: a digest of what follows, a newline, and the state as JSON. */
export class FileStore implements Store {
  readonly #folder: string;
  readonly #path: string;

  constructor(folder: string) {
    this.#folder = folder;
    this.#path = join(folder, 'state');
  }

  async read(): Promise<AgentState | null> {
    const text = this.#readText();
    if (text === null) return null;
    const body = text.slice(DIGEST_CHARACTERS + 1);
    const isWhole = text.slice(0, DIGEST_CHARACTERS + 1) === `${digestOf(body)}\n`;
    const result = isWhole ? readState(JSON.parse(body)) : { wrong: 'its digest does not match' };
    if ('value' in result) return result.value;
    const advice = 'restore it, or move it away when no partition is active and no VM runs';
    throw new FabricError('state-broken', `${this.#path}: ${result.wrong}; ${advice}`);
  }

  async replace(state: AgentState): Promise<void> {
    const body = JSON.stringify(state);
    const fresh = `${this.#path}.new`;
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      const fd = openSync(fresh, 'w', 0o600);
      try {
        writeAll(fd, Buffer.from(`${digestOf(body)}\n${body}`));
        fsyncSync(fd);
      } catch (error) {
        // A part of a file on a full disk is in the way of what is to make room.
        rmSync(fresh);
        throw error;
      } finally {
        closeSync(fd);
      }
      renameSync(fresh, this.#path);
      const folder = openSync(this.#folder, 'r');
      try {
        fsyncSync(folder);
      } finally {
        closeSync(folder);
      }
    } catch (cause) {
      throw diskError(this.#path, cause);
    }
  }

  #readText(): string | null {
    try {
      if (statSync(this.#path).size > STATE_BYTES_MAX) {
        throw new FabricError('state-broken', `${this.#path} is larger than any state can be`);
      }
      return readFileSync(this.#path, 'utf8');
    } catch (cause) {
      if (cause instanceof FabricError) throw cause;
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw diskError(this.#path, cause);
    }
  }
}

/**
 * Makes this process the host's one agent until it ends or gives the lock back. Throws FabricError
 * 'agent-running' or 'disk-failed'.
 */
export function lockAgent(folder: string): { readonly unlock: () => void } {
  const path = join(folder, 'lock');
  let fd: number;
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    fd = openSync(path, 'a', 0o600);
  } catch (cause) {
    throw diskError(path, cause);
  }
  if (lockFile(fd)) return { unlock: () => closeSync(fd) };
  closeSync(fd);
  const message = `${path}: another agent has this host; tell it what is desired instead`;
  throw new FabricError('agent-running', message);
}

function digestOf(body: string): string {
  return createHash('sha256').update(body).digest('hex');
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}

function diskError(path: string, cause: unknown): FabricError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const isFull = code === 'ENOSPC' || code === 'EDQUOT';
  const advice = isFull ? 'make room: nothing is changed on the host until then' : message;
  return new FabricError(isFull ? 'disk-full' : 'disk-failed', `${path}: ${advice}`, { cause });
}
