import { fromUtf8 } from '../core/bytes.ts';
import { AttestError, demand } from '../core/errors.ts';
import type { UnreadableFile } from '../result/result.ts';
import { type DocumentKind, type EvidenceFile, type Recognised, recognise } from './recognise.ts';

/** A file that was given, and whether it was named itself: then it must be evidence. */
export type GivenFile = EvidenceFile & { readonly isNamed: boolean };

/** What was given, by kind, and what of it could not be read. */
export class Documents {
  /** What was set aside, one sentence each. */
  readonly notes: readonly string[];
  readonly #all: readonly Recognised[];
  readonly #unreadable: UnreadableFile[] = [];

  constructor(files: readonly GivenFile[]) {
    const notes: string[] = [];
    const all: Recognised[] = [];
    for (const file of files) {
      const unknown = `${file.name} is no evidence of a kind that is known here`;
      const known = this.#attempt(file.name, () => {
        const found = recognise(file);
        demand(found !== null || !file.isNamed, 'malformed', unknown);
        return { found };
      });
      if (known === null) continue;
      if (known.found !== null) all.push(known.found);
      else notes.push(unknown);
    }
    this.#all = all;
    this.notes = notes;
  }

  get unreadable(): readonly UnreadableFile[] {
    return this.#unreadable;
  }

  of(kind: DocumentKind): readonly Recognised[] {
    return this.#all.filter((one) => one.kind === kind);
  }

  /** For kinds that a machine has one of. Throws AttestError 'malformed' for two. */
  only(kind: DocumentKind): Recognised | null {
    const [first = null, second] = this.of(kind);
    const names = `${first?.name} and ${second?.name}`;
    demand(second === undefined, 'malformed', `${names}: one ${kind} at a time, one machine each`);
    return first;
  }

  /** What `read` makes of a document; null if it cannot be read, which is kept as `unreadable`. */
  async read<T>(document: Recognised, read: () => T | Promise<T>): Promise<T | null> {
    try {
      return await within(document, read);
    } catch (error) {
      this.#keep(document.name, error);
      return null;
    }
  }

  /** Of the one document of its kind; null where there is none, too. */
  async readOnly<T>(
    kind: DocumentKind,
    read: (document: Recognised) => T | Promise<T>,
  ): Promise<T | null> {
    const document = this.only(kind);
    return document && this.read(document, () => read(document));
  }

  #attempt<T>(name: string, read: () => T): T | null {
    try {
      return read();
    } catch (error) {
      this.#keep(name, error);
      return null;
    }
  }

  #keep(name: string, error: unknown): void {
    if (!(error instanceof AttestError)) throw error;
    this.#unreadable.push({ name, code: error.code, message: error.message });
  }
}

/** What `read` makes of a document; an error of its reading names the document. */
export async function within<T>(
  { name }: { readonly name: string },
  read: () => T | Promise<T>,
): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof AttestError)) throw error;
    if (error.message.startsWith(name)) throw error;
    throw new AttestError(error.code, `${name}: ${error.message}`, { cause: error });
  }
}

export const textOf = ({ bytes, name }: Recognised): string => fromUtf8(bytes, name);
