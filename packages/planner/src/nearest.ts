const NEAREST_MAX = 3;

/**
 * The names most like `name`, nearest first: case, dashes, dots and slashes are no difference, and
 * what has all of its letters in a row is nearest.
 */
export function nearestNames(name: string, known: readonly string[]): readonly string[] {
  const wanted = plain(name);
  return known
    .map((each) => ({ each, far: distance(wanted, plain(each)) }))
    .sort((a, b) => a.far - b.far)
    .slice(0, NEAREST_MAX)
    .map(({ each }) => each);
}

/** The same name for everybody's spelling of it. */
export const plain = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');

function distance(a: string, b: string): number {
  if (a !== '' && (b.includes(a) || a.includes(b))) return Math.abs(a.length - b.length) / 100;
  const pairsOf = (text: string) => new Set(text.split('').map((_, at) => text.slice(at, at + 2)));
  const [first, second] = [pairsOf(a), pairsOf(b)];
  const shared = [...first].filter((pair) => second.has(pair)).length;
  return 2 - (2 * shared) / Math.max(1, first.size + second.size);
}
