import { fromUtf8 } from '../core/bytes.ts';
import { AttestError, demand } from '../core/errors.ts';
import { type DocumentKind, type EvidenceFile, type Recognised, recognise } from './recognise.ts';

/** A file that was given, and whether it was named itself: then it must be evidence. */
export type GivenFile = EvidenceFile & { readonly isNamed: boolean };

/** What was given, by kind. */
export class Documents {
  /** What was set aside, one sentence each. */
  readonly notes: readonly string[];
  readonly #all: readonly Recognised[];

  /** Throws AttestError with a reading code. */
  constructor(files: readonly GivenFile[]) {
    const notes: string[] = [];
    const all: Recognised[] = [];
    for (const file of files) {
      const known = recognise(file);
      const unknown = `${file.name} is no evidence of a kind that is known here`;
      demand(known !== null || !file.isNamed, 'malformed', unknown);
      if (known !== null) all.push(known);
      else notes.push(unknown);
    }
    demand(all.length > 0, 'malformed', 'there is no evidence among what was given');
    this.#all = all;
    this.notes = notes;
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
    throw new AttestError(error.code, `${name}: ${error.message}`, { cause: error });
  }
}

export const textOf = ({ bytes, name }: Recognised): string => fromUtf8(bytes, name);
