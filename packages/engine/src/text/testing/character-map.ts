/** Characters maps as SentencePiece writes them, for tests. */

interface Branch {
  readonly next: Map<number, Branch>;
  value: number | undefined;
}

/** The base64 form of a map from texts to texts. */
export function characterMap(replacements: Readonly<Record<string, string>>): string {
  const root: Branch = { next: new Map(), value: undefined };
  const texts: number[] = [];
  for (const [from, to] of Object.entries(replacements)) {
    let branch = root;
    for (const byte of Buffer.from(from)) {
      const next = branch.next.get(byte) ?? { next: new Map(), value: undefined };
      branch.next.set(byte, next);
      branch = next;
    }
    branch.value = texts.length;
    texts.push(...Buffer.from(to), 0);
  }
  const units: number[] = [0];
  const taken = new Set([0]);
  /** Places the children of the unit at `at`, and says where in the unit. */
  const place = (branch: Branch, at: number) => {
    const labels = [...branch.next.keys(), ...(branch.value === undefined ? [] : [0])];
    let offset = 1;
    while (labels.some((label) => taken.has(at ^ offset ^ label))) offset += 1;
    for (const label of labels) taken.add(at ^ offset ^ label);
    units[at] =
      ((units[at] ?? 0) | (offset << 10) | (branch.value === undefined ? 0 : 1 << 8)) >>> 0;
    if (branch.value !== undefined) units[at ^ offset] = (branch.value | (1 << 31)) >>> 0;
    for (const [label, next] of branch.next) {
      const child = at ^ offset ^ label;
      units[child] = label;
      place(next, child);
    }
  };
  place(root, 0);
  const bytes = Buffer.alloc(4 + 4 * units.length);
  bytes.writeUInt32LE(4 * units.length, 0);
  for (let i = 0; i < units.length; i++) bytes.writeUInt32LE(units[i] ?? 0, 4 + 4 * i);
  return Buffer.concat([bytes, Buffer.from(texts)]).toString('base64');
}
