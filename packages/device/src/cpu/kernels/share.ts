/** Which of several workers runs a kernel: it does part `part` of `parts`. */
export interface Share {
  readonly part: number;
  readonly parts: number;
}

/** This share's range of `total` items, in whole blocks of `block` but for the last. */
export function rangeOf(
  { part, parts }: Share,
  total: number,
  block = 1,
): readonly [from: number, to: number] {
  const blocks = Math.ceil(total / block);
  const from = Math.floor((blocks * part) / parts) * block;
  const to = Math.floor((blocks * (part + 1)) / parts) * block;
  return [Math.min(from, total), Math.min(to, total)];
}

/** Room for intermediate float64 values that lives from call to call and only grows. */
export class Scratch {
  #values = new Float64Array(0);

  /** At least `length` values, of any content. */
  take(length: number): Float64Array {
    if (this.#values.length < length) this.#values = new Float64Array(length);
    return this.#values;
  }
}
