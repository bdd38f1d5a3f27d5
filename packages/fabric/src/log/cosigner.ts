import { type NoteKey, readSignedNote, seenByWitness } from '@bridgekeeper/attest/log';
import { FabricError } from '../errors.ts';

/** A witness that a log sends its checkpoints to. */
export interface WitnessPlace {
  /** Such as `http://127.0.0.1:7380`; `/add-checkpoint` is below it. */
  readonly url: string;
  readonly key: NoteKey;
}

/** POSTs a body and resolves to what came back, bounded in time and bytes. */
export type PostToWitness = (
  url: string,
  body: string,
) => Promise<{ readonly status: number; readonly body: string }>;

/** What a cosigner needs of its log. */
export interface CosignedLog {
  checkpoint(): string;
  size(): Promise<number>;
  witnessRequest(old: number): string;
  publish(cosigned: string): void;
}

/**
 * Sends a log's checkpoints to witnesses (C2SP tlog-witness) and publishes what at least `quorum`
 * of them have signed. One round at a time; what fails is tried again in the next one.
 */
export class Cosigner {
  readonly #log: CosignedLog;
  readonly #witnesses: readonly WitnessPlace[];
  readonly #quorum: number;
  readonly #post: PostToWitness;
  /** How many entries each has cosigned, by url. */
  readonly #seen = new Map<string, number>();
  #publishedSize = -1;
  #running: Promise<readonly FabricError[]> | null = null;

  constructor(
    log: CosignedLog,
    witnesses: readonly WitnessPlace[],
    quorum: number,
    post: PostToWitness,
  ) {
    this.#log = log;
    this.#witnesses = witnesses;
    this.#quorum = quorum;
    this.#post = post;
  }

  /** Resolves to what went wrong, also where the checkpoint was published. Never rejects. */
  round(): Promise<readonly FabricError[]> {
    this.#running ??= this.#round().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #round(): Promise<readonly FabricError[]> {
    const size = await this.#log.size();
    if (size === 0 || size === this.#publishedSize) return [];
    const checkpoint = this.#log.checkpoint();
    // The log grows on meanwhile: all are asked about one size, with proofs that are made now.
    const request = new Map<number, string>();
    const requestOf = (old: number) => {
      const made = request.get(old) ?? this.#log.witnessRequest(old);
      request.set(old, made);
      return made;
    };
    const errors: FabricError[] = [];
    const lines = await Promise.all(
      this.#witnesses.map(async (witness) => {
        try {
          return await this.#ask(witness, size, checkpoint, requestOf);
        } catch (error) {
          if (!(error instanceof FabricError)) throw error;
          errors.push(error);
          return '';
        }
      }),
    );
    const signed = lines.filter((line) => line !== '');
    if (signed.length < Math.max(1, this.#quorum)) return errors;
    try {
      this.#log.publish(checkpoint + signed.join(''));
      this.#publishedSize = size;
    } catch (error) {
      if (!(error instanceof FabricError)) throw error;
      errors.push(error);
    }
    return errors;
  }

  async #ask(
    { url, key }: WitnessPlace,
    size: number,
    checkpoint: string,
    requestOf: (old: number) => string,
  ): Promise<string> {
    const known = this.#seen.get(url) ?? 0;
    let answer = await this.#send(url, requestOf(known));
    if (answer.status === 409) {
      const old = Number(/^(0|[1-9]\d{0,14})\n?$/.exec(answer.body)?.[1] ?? Number.NaN);
      if (!(old <= size)) {
        const advice = 'if this log was restored from an older copy, begin a new one';
        throw failed(
          url,
          `it has seen ${answer.body.trim()} entries, this log has ${size}; ${advice}`,
        );
      }
      answer = await this.#send(url, requestOf(old));
    }
    if (answer.status !== 200) {
      throw failed(url, `it answers ${answer.status}: ${shown(answer.body)}`);
    }
    try {
      const note = readSignedNote(checkpoint + answer.body, 'what it answers');
      if ((await seenByWitness(note, key)) === null) throw new Error('it signed with another key');
    } catch (cause) {
      throw failed(url, (cause as Error).message, cause);
    }
    this.#seen.set(url, size);
    return answer.body;
  }

  async #send(url: string, body: string) {
    try {
      return await this.#post(`${url.replace(/\/$/, '')}/add-checkpoint`, body);
    } catch (cause) {
      throw failed(url, `it does not answer: ${(cause as Error).message}`, cause);
    }
  }
}

/** What a stranger sent, fit for a terminal. */
function shown(text: string): string {
  return text
    .trim()
    .replaceAll(/[^\x20-\x7e]/g, '?')
    .slice(0, 200);
}

function failed(url: string, why: string, cause?: unknown): FabricError {
  return new FabricError('witness-failed', `the witness at ${url}: ${why}`, { cause });
}
