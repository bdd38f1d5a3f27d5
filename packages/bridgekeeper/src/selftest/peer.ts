import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { SequenceLogprobs } from '@bridgekeeper/engine/selftest';
import { z } from 'zod';

const SCRIPT = fileURLToPath(new URL('../../reference/transformers-peer.py', import.meta.url));

const greeting = z.union([
  z.object({ ready: z.object({ torch: z.string(), transformers: z.string() }) }),
  z.object({ skipped: z.string() }),
]);
const answer = z.union([
  z.object({ vocabulary: z.number(), logits: z.array(z.string()) }),
  z.object({ error: z.string() }),
]);

export type PeerErrorCode =
  /** It answered with an error of its own. */
  | 'failed'
  /** Its process ended. */
  | 'ended'
  /** It answered with something else. */
  | 'unreadable';

/** The reference framework failed or does not keep to the protocol. */
export class PeerError extends Error {
  override readonly name = 'PeerError';
  readonly code: PeerErrorCode;

  constructor(code: PeerErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * Hugging Face transformers in a process of its own, by the script in `reference/`, which says what
 * the protocol is.
 */
export class TransformersPeer {
  /** Versions, for the report. */
  readonly name: string;
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(name: string, process: ChildProcess, lines: AsyncIterator<string>) {
    this.name = name;
    this.#process = process;
    this.#lines = lines;
  }

  /** Resolves to the peer, or to why there is none. `python` is the interpreter. */
  static async open(python: string): Promise<TransformersPeer | { readonly skipped: string }> {
    const child = spawn(python, [SCRIPT], {
      stdio: ['pipe', 'pipe', 'ignore'],
      // Products are small here, and others run beside it.
      env: { ...process.env, OMP_NUM_THREADS: '1' },
    });
    // What is written to a process that ended shows in its missing answer.
    child.stdin.on('error', () => undefined);
    const fault = await once(child, 'spawn').then(
      () => undefined,
      (error: Error) => error.message,
    );
    if (fault !== undefined) return { skipped: `${python} cannot be run: ${fault}` };
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const first = await nextLine(lines, greeting);
    if ('skipped' in first) return first;
    const { torch, transformers } = first.ready;
    return new TransformersPeer(`transformers ${transformers}, torch ${torch}`, child, lines);
  }

  /** Throws PeerError. */
  async logprobs(
    folder: string,
    sequences: readonly (readonly number[])[],
  ): Promise<SequenceLogprobs[]> {
    this.#process.stdin!.write(`${JSON.stringify({ folder, sequences })}\n`);
    const found = await nextLine(this.#lines, answer);
    if ('error' in found) throw new PeerError('failed', `${this.name}: ${found.error}`);
    return found.logits.map((text) => {
      const bytes = Uint8Array.from(Buffer.from(text, 'base64'));
      const all = new Float64Array(bytes.buffer);
      return Array.from({ length: all.length / found.vocabulary }, (_, position) =>
        logSoftmax(all.subarray(position * found.vocabulary, (position + 1) * found.vocabulary)),
      );
    });
  }

  /** The script ends when its input does. */
  async close(): Promise<void> {
    const { exitCode, signalCode, stdin } = this.#process;
    if (exitCode !== null || signalCode !== null) return;
    const ended = once(this.#process, 'exit');
    stdin!.end();
    await ended;
  }
}

async function nextLine<T>(lines: AsyncIterator<string>, schema: z.ZodType<T>): Promise<T> {
  const { value, done } = await lines.next();
  if (done === true)
    throw new PeerError('ended', 'the reference framework ended without an answer');
  try {
    return schema.parse(JSON.parse(value));
  } catch (cause) {
    const shown = value.slice(0, 200);
    throw new PeerError('unreadable', `the reference framework answered: ${shown}`, { cause });
  }
}

function logSoftmax(logits: Float64Array): Float64Array {
  const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const total = logits.reduce((sum, value) => sum + Math.exp(value - most), 0);
  return logits.map((value) => value - most - Math.log(total));
}
