import { fromUtf8 } from '../core/bytes.ts';
import { AttestError, demand, type UnreadableFile } from '../core/errors.ts';
import { readCborWrapper, readJsonWrapper, type Wrapped } from './cmw.ts';
import { readComposite } from './composite.ts';
import { type DocumentKind, type EvidenceFile, type Recognised, recognise } from './recognise.ts';

/** A file that was given, and whether it was named itself: then it must be evidence. */
export type GivenFile = EvidenceFile & { readonly isNamed: boolean };

/** What was given, by kind, and what of it could not be read. */
export class Documents {
  /** What was set aside, one sentence each. */
  readonly notes: readonly string[];
  readonly #all: readonly Recognised[];
  readonly #unreadable: UnreadableFile[];

  /** `lost`: files that were given and could not even be opened. */
  constructor(files: readonly GivenFile[], lost: readonly UnreadableFile[]) {
    this.#unreadable = [...lost];
    const notes: string[] = [];
    const all: Recognised[] = [];
    for (const file of files) {
      const unknown = `${file.name} is no evidence of a kind that is known here`;
      const known = this.#attempt(file.name, () => {
        const found = recognise(file);
        demand(found !== null || !file.isNamed, 'malformed', unknown);
        return { found, inside: found && unwrap(found) };
      });
      if (known === null) continue;
      const { found, inside } = known;
      if (inside !== null) all.push(...this.#unwrapped(file.name, inside));
      else if (found !== null) all.push(found);
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

  /** What a wrapper holds; a wrapper in a wrapper is not opened. */
  #unwrapped(name: string, inside: readonly Wrapped[]): Recognised[] {
    const documents: Recognised[] = [];
    for (const { label, type, bytes } of inside) {
      const place = label === '' ? name : `${name}/${label}`;
      const found = this.#attempt(place, () => {
        const one = recognise({ name: place, bytes });
        const isKnown = one !== null && unwrap(one) === null;
        const unknown = `${place} is of the type ${type}, and holds nothing that is read here`;
        demand(isKnown, 'unsupported-version', unknown);
        return one;
      });
      if (found !== null) documents.push(found);
    }
    return documents;
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
    const { code, message } = error;
    const isNamed = message.startsWith(name);
    this.#unreadable.push({ name, code, message: isNamed ? message : `${name}: ${message}` });
  }
}

/** What a document that holds others holds; null: it holds none. Throws AttestError. */
function unwrap({ kind, bytes, json }: Recognised): Wrapped[] | null {
  if (kind === 'composite') return readComposite(json);
  if (kind !== 'wrapper') return null;
  return json === undefined ? readCborWrapper(bytes) : readJsonWrapper(json);
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
