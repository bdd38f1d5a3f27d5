import { Dict, type TemplateValue } from '@bridgekeeper/engine/text';
import { ApiError } from '../http/errors.ts';

/** Of parts of a body as `exactBody` reads it. Each throws ApiError that names the field. */

/** Of a field that is not there, too: it must be. */
export function wantText(value: TemplateValue | undefined, param: string): string {
  if (typeof value === 'string') return value;
  throw new ApiError('invalid_value', `${param} must be a string.`, param);
}

export function wantDict(value: TemplateValue | undefined, param: string): Dict {
  if (value instanceof Dict) return value;
  throw new ApiError('invalid_value', `${param} must be an object.`, param);
}

/** Objects; none where there is no list. */
export function wantDicts(value: TemplateValue | undefined, param: string): Dict[] {
  if (value == null) return [];
  if (!Array.isArray(value)) {
    throw new ApiError('invalid_value', `${param} must be an array.`, param);
  }
  return value.map((each, at) => wantDict(each, `${param}.${at}`));
}

/** One of what is named; `type`, `role` and the like. */
export function wantOneOf<T extends string>(
  value: TemplateValue | undefined,
  known: readonly T[],
  param: string,
): T {
  const text = wantText(value, param);
  const found = known.find((each) => each === text);
  if (found !== undefined) return found;
  const listed = known.map((each) => `"${each}"`).join(', ');
  throw new ApiError('unsupported_value', `${param} must be one of ${listed}.`, param);
}

/** An object of those entries that have a value. */
export function dictOf(entries: Readonly<Record<string, TemplateValue | undefined>>): Dict {
  const given = Object.entries(entries).filter(([, value]) => value !== undefined);
  return new Dict(given as [string, TemplateValue][]);
}

/** The same as `JSON.parse` has it; integers that a double cannot hold stay as they are. */
export function plainValue(value: TemplateValue | undefined): unknown {
  if (typeof value === 'bigint') {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }
  if (Array.isArray(value)) return value.map(plainValue);
  if (!(value instanceof Dict)) return value;
  return Object.fromEntries(
    [...value.entries()].map(([key, each]) => [String(key), plainValue(each)]),
  );
}
