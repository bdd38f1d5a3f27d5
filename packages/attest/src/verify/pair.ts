/** Shorter common beginnings of names say nothing. */
const COMMON_MIN = 4;

interface Named {
  readonly name: string;
}

/**
 * The partner of each item by what their names have in common at the beginning, as in
 * `switchReport.txt` and `switchChain.txt`; if there is one candidate alone, it is that. null where
 * no candidate is nearer than all others.
 */
export function pairByName<A extends Named, B extends Named>(
  items: readonly A[],
  candidates: readonly B[],
): Map<A, B | null> {
  const isClear = items.length === 1 && candidates.length === 1;
  return new Map(
    items.map((item) => [item, isClear ? candidates[0]! : nearest(item.name, candidates)]),
  );
}

function nearest<B extends Named>(name: string, candidates: readonly B[]): B | null {
  let best: B | null = null;
  let bestLength = COMMON_MIN - 1;
  for (const candidate of candidates) {
    const length = commonLength(name, candidate.name);
    if (length === bestLength) best = null;
    if (length <= bestLength) continue;
    best = candidate;
    bestLength = length;
  }
  return best;
}

function commonLength(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return length;
}
