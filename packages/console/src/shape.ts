/**
 * What a value must be: a kind of value, a list of one shape, an object that has each of these, or
 * what a function says of it.
 */
export type Shape =
  | 'text'
  | 'number'
  | 'flag'
  | readonly [Shape]
  | { readonly [name: string]: Shape }
  | ((value: unknown) => boolean);

/** What is longer is not drawn. */
const ITEMS_MAX = 10_000;

/** Whether a value that came from somewhere can be shown as what it is said to be. */
export function fits(value: unknown, shape: Shape): boolean {
  if (shape === 'text') return typeof value === 'string';
  if (shape === 'number') return Number.isFinite(value);
  if (shape === 'flag') return typeof value === 'boolean';
  if (typeof shape === 'function') return shape(value);
  if (isList(shape)) {
    const [each] = shape;
    return (
      Array.isArray(value) && value.length <= ITEMS_MAX && value.every((item) => fits(item, each))
    );
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.entries(shape).every(([name, inner]) =>
    fits((value as Readonly<Record<string, unknown>>)[name], inner),
  );
}

function isList(shape: Shape): shape is readonly [Shape] {
  return Array.isArray(shape);
}

/** That, or nothing. */
export function orNone(shape: Shape): Shape {
  return (value) => value === undefined || value === null || fits(value, shape);
}
