/**
 * The smallest value that is kept when values are taken from the largest down until their mass
 * reaches `target`: the k-th largest when every mass is 1, the edge of the nucleus when masses are
 * probabilities. All values if their whole mass is less. Both arrays are reordered in [0, count).
 * Expected time is linear in `count`.
 */
export function keptThreshold(
  values: Float64Array,
  masses: Float64Array,
  count: number,
  target: number,
): number {
  let low = 0;
  let high = count;
  let missing = target;
  while (high - low > 1) {
    const pivot = medianOfThree(values, low, high);
    let above = low;
    let below = high;
    let massAbove = 0;
    let massEqual = 0;
    for (let i = low; i < below; ) {
      const value = values[i]!;
      if (value > pivot) {
        massAbove += masses[i]!;
        swap(values, masses, i, above);
        above += 1;
        i += 1;
      } else if (value < pivot) {
        below -= 1;
        swap(values, masses, i, below);
      } else {
        massEqual += masses[i]!;
        i += 1;
      }
    }
    if (massAbove >= missing && above > low) {
      high = above;
    } else if (massAbove + massEqual >= missing || below === high) {
      return pivot;
    } else {
      missing -= massAbove + massEqual;
      low = below;
    }
  }
  return count === 0 ? Number.NEGATIVE_INFINITY : values[low]!;
}

function medianOfThree(values: Float64Array, low: number, high: number): number {
  const a = values[low]!;
  const b = values[(low + high) >> 1]!;
  const c = values[high - 1]!;
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}

function swap(values: Float64Array, masses: Float64Array, i: number, j: number): void {
  const value = values[i]!;
  values[i] = values[j]!;
  values[j] = value;
  const mass = masses[i]!;
  masses[i] = masses[j]!;
  masses[j] = mass;
}
