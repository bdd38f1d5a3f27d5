const isView = (value: object): value is Uint8Array => ArrayBuffer.isView(value);

/**
 * What a thread gets of a message: a copy that shares nothing but shared memory, as
 * `structuredClone` makes it, in a fraction of its time for the plain messages that threads of the
 * product send. Things that are twice in a message are two in the copy.
 */
export function copied<T>(value: T): T {
  if (typeof value !== 'object' || value === null) {
    if (typeof value === 'function' || typeof value === 'symbol') return structuredClone(value);
    return value;
  }
  if (Array.isArray(value)) return value.map(copied) as T;
  if (isView(value)) {
    const isPlain = value instanceof Uint8Array && value.buffer instanceof ArrayBuffer;
    return isPlain ? (Uint8Array.from(value) as T) : structuredClone(value);
  }
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return structuredClone(value);
  const copy: Record<string, unknown> = {};
  for (const [name, part] of Object.entries(value)) copy[name] = copied(part);
  return copy as T;
}
