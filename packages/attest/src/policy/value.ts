import type { ClaimValue } from '../claims/claim.ts';
import type { Requirement } from './policy.ts';

/** Why a value does not meet a requirement, as the start of a sentence; null: it does. */
export function valueFault(value: ClaimValue | undefined, wanted: Requirement): string | null {
  const { oneOf, includes, atLeast, atMost } = wanted;
  if (oneOf?.length === 0 || includes?.length === 0)
    return 'the policy does not say yet what it is';
  if (oneOf !== undefined && !oneOf.some((one) => one === value)) {
    return `must be ${oneOf.map(shownValue).join(' or ')}`;
  }
  if (includes !== undefined) {
    const held = new Set(isList(value) ? value : []);
    const missing = includes.filter((one) => !held.has(one));
    if (missing.length > 0) return `must include ${missing.join(', ')}`;
  }
  if (atLeast !== undefined && !isAtLeast(value, atLeast)) {
    return `must be at least ${shownFloor(atLeast)}`;
  }
  if (atMost !== undefined && !(typeof value === 'number' && value <= atMost)) {
    return `must be at most ${atMost}`;
  }
  return null;
}

/**
 * Whether a requirement says of the whole value what it is to be: the value itself, every entry of
 * a list, or the least that it may be.
 */
export function isCompared(value: ClaimValue | undefined, wanted: Requirement): boolean {
  const { oneOf, includes, atLeast, atMost } = wanted;
  if (oneOf !== undefined || atMost !== undefined) return true;
  if (!isList(value)) return atLeast !== undefined;
  const floors = typeof atLeast === 'object' ? Object.keys(atLeast) : [];
  return value.every((one) => includes?.includes(one) || floors.includes(partOf(one).name));
}

/** For messages; long values are cut. */
export function shownValue(value: ClaimValue | undefined): string {
  if (value === undefined) return 'without a value';
  const text = isList(value) ? value.join(', ') : String(value);
  return text.length <= 100 ? text : `${text.slice(0, 97)}...`;
}

type Floor = NonNullable<Requirement['atLeast']>;

function shownFloor(floor: Floor): string {
  if (typeof floor !== 'object') return String(floor);
  return Object.entries(floor)
    .map(([name, least]) => `${name}=${least}`)
    .join(', ');
}

const isList = (value: ClaimValue | undefined): value is readonly string[] => Array.isArray(value);

function isAtLeast(value: ClaimValue | undefined, floor: Floor): boolean {
  if (typeof floor === 'number') return typeof value === 'number' && value >= floor;
  if (typeof floor === 'string') return typeof value === 'string' && isVersionOf(value, floor);
  if (!isList(value)) return false;
  const parts = value.map(partOf);
  return Object.entries(floor).every(([name, least]) => {
    const own = parts.filter((part) => part.name === name);
    return own.length === 1 && own[0]!.number >= least;
  });
}

/** Of `snp=8`; NaN is at least nothing. */
function partOf(text: string): { name: string; number: number } {
  const at = text.indexOf('=');
  const digits = text.slice(at + 1);
  return { name: text.slice(0, at), number: /^\d+$/.test(digits) ? Number(digits) : Number.NaN };
}

const isVersionOf = (version: string, least: string) => compareVersions(version, least) >= 0;

/**
 * Below 0 where `a` is the older version. Part by part, a missing part being 0. Parts are decimal,
 * unless either version has a hexadecimal digit above 9 somewhere, as those of VBIOS do. Versions
 * with a part that is no number are incomparable: never at least as high.
 */
export function compareVersions(a: string, b: string): number {
  const radix = /[a-f]/i.test(a + b) ? 16 : 10;
  const numbers = (text: string) => text.split('.').map((part) => Number.parseInt(part, radix));
  const [left, right] = [numbers(a), numbers(b)];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return Number.isNaN(difference) ? -1 : difference;
  }
  return 0;
}
