import type { ClaimValue } from '../claims/claim.ts';
import type { Requirement } from './policy.ts';

/** Why a value does not meet a requirement, as the start of a sentence; null: it does. */
export function valueFault(value: ClaimValue | undefined, wanted: Requirement): string | null {
  const { oneOf, includes, atLeast } = wanted;
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
  if (atLeast !== undefined && !isAtLeast(value, atLeast)) return `must be at least ${atLeast}`;
  return null;
}

/** For messages; long values are cut. */
export function shownValue(value: ClaimValue | undefined): string {
  if (value === undefined) return 'without a value';
  const text = isList(value) ? value.join(', ') : String(value);
  return text.length <= 100 ? text : `${text.slice(0, 97)}...`;
}

const isList = (value: ClaimValue | undefined): value is readonly string[] => Array.isArray(value);

function isAtLeast(value: ClaimValue | undefined, least: number | string): boolean {
  if (typeof least === 'number') return typeof value === 'number' && value >= least;
  return typeof value === 'string' && compareVersions(value, least) >= 0;
}

/**
 * Part by part, a missing part being 0. Parts are decimal, unless either version has a hexadecimal
 * digit above 9 somewhere, as those of VBIOS do.
 */
function compareVersions(a: string, b: string): number {
  const radix = /[a-f]/i.test(a + b) ? 16 : 10;
  const numbers = (text: string) => text.split('.').map((part) => Number.parseInt(part, radix));
  const [left, right] = [numbers(a), numbers(b)];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    // A part that is no number makes the versions incomparable: never at least as high.
    if (difference !== 0) return Number.isNaN(difference) ? -1 : difference;
  }
  return 0;
}
