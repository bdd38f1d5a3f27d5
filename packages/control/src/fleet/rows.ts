/**
 * Rows by id, and by the groups that they are in. A draft lies over a base and leaves it as it is
 * until the draft is folded into it, so that what failed to be written was never so.
 */
export interface Row {
  readonly version: number;
}

export class Rows<T extends Row> {
  readonly #base: Rows<T> | null;
  readonly #own = new Map<string, T | null>();
  readonly #groups = new Map<string, Set<string>>();
  readonly #groupsOf: (row: T) => readonly string[];

  constructor(groupsOf: (row: T) => readonly string[], base: Rows<T> | null = null) {
    this.#groupsOf = groupsOf;
    this.#base = base;
  }

  draft(): Rows<T> {
    return new Rows(this.#groupsOf, this);
  }

  get(id: string): T | undefined {
    const own = this.#own.get(id);
    if (own !== undefined) return own ?? undefined;
    return this.#base?.get(id);
  }

  put(id: string, row: T): void {
    const groups = this.#groupsOf(row);
    const before = this.#own.get(id);
    // A row that stays in a group keeps its place there: who walks through it meets it once.
    if (before !== undefined && before !== null) this.#ungroup(id, before, groups);
    this.#own.set(id, row);
    for (const group of groups) {
      const ids = this.#groups.get(group);
      if (ids === undefined) this.#groups.set(group, new Set([id]));
      else ids.add(id);
    }
  }

  remove(id: string): void {
    const before = this.#own.get(id);
    if (before !== undefined && before !== null) this.#ungroup(id, before, []);
    if (this.#base === null) this.#own.delete(id);
    else this.#own.set(id, null);
  }

  *entries(): Iterable<[string, T]> {
    for (const [id, row] of this.#own) if (row !== null) yield [id, row];
    if (this.#base === null) return;
    for (const entry of this.#base.entries()) if (!this.#own.has(entry[0])) yield entry;
  }

  *values(): Iterable<T> {
    for (const [, row] of this.entries()) yield row;
  }

  *inGroup(group: string): Iterable<T> {
    for (const [, row] of this.groupEntries(group)) yield row;
  }

  *groupEntries(group: string): Iterable<[string, T]> {
    for (const id of this.#groups.get(group) ?? []) {
      const row = this.#own.get(id);
      if (row !== undefined && row !== null) yield [id, row];
    }
    if (this.#base === null) return;
    for (const entry of this.#base.groupEntries(group)) {
      if (!this.#own.has(entry[0])) yield entry;
    }
  }

  /** What the draft changed; null: it went. */
  changes(): Iterable<[string, T | null]> {
    return this.#own.entries();
  }

  /** Writes the draft into its base. */
  fold(): void {
    const base = this.#base!;
    for (const [id, row] of this.#own) {
      if (row === null) base.remove(id);
      else base.put(id, row);
    }
  }

  #ungroup(id: string, row: T, kept: readonly string[]): void {
    for (const group of this.#groupsOf(row)) {
      if (!kept.includes(group)) this.#groups.get(group)?.delete(id);
    }
  }
}
