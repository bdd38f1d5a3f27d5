import type { Expression } from '../expression.ts';
import {
  between,
  character,
  choice,
  difference,
  IMPOSSIBLE,
  intersection,
  NOTHING,
  oneOf,
  optional,
  repeat,
  sequence,
  text,
} from './build.ts';
import type { Bound, Case } from './cases.ts';
import { ceilingOf, type Decimal, decimalOf, digitsOf, floorOf, negated } from './decimal.ts';
import { refuse } from './document.ts';

/**
 * Numbers as regular languages. A free number may have an exponent, of two digits: what it means
 * fits a double. A number with bounds, multiples or exclusions has none, and an integer has neither
 * exponent nor fraction.
 */

const DIGIT = between('0', '9');
const NOT_ZERO = between('1', '9');
const DIGITS = repeat(DIGIT, 0, undefined);
const WHOLE = choice(text('0'), sequence(NOT_ZERO, DIGITS));
const MINUS = optional(text('-'));
const FRACTION = optional(sequence(text('.'), repeat(DIGIT, 1, undefined)));
const EXPONENT = optional(sequence(oneOf('eE'), optional(oneOf('+-')), repeat(DIGIT, 1, 2)));
const FREE_INTEGER = sequence(MINUS, WHOLE);
export const FREE_NUMBER = sequence(MINUS, WHOLE, FRACTION, EXPONENT);

/** Of multiples that are written out one by one. */
const MAX_LISTED_MULTIPLES = 1000;
const MAX_SUFFIXES = 2000;
/** An expression of the multiples of a prime is larger than its cube. */
const MAX_PRIME = 7n;

/** The language of a case's numbers. Throws GrammarError 'unsupported' for most multiples. */
export function numberLanguage(subject: Case, pointer: string): Expression {
  const { minimum, maximum, multipleOf, notMultipleOf, isInteger } = subject;
  const excluded = subject.excluded.flatMap((value) => {
    const isNumber = typeof value === 'number' || typeof value === 'bigint';
    return (isNumber ? decimalOf(value) : undefined) ?? [];
  });
  const isPlain = minimum === undefined && maximum === undefined && multipleOf === undefined;
  if (isPlain && excluded.length === 0 && notMultipleOf.length === 0 && isInteger !== false) {
    return isInteger === true ? FREE_INTEGER : FREE_NUMBER;
  }
  const listed = multipleOf && listedMultiples(subject, multipleOf);
  const body = listed ?? inRange(minimum, maximum, isInteger === true);
  const without = [
    ...excluded.map(textsOf),
    ...notMultipleOf.map((divisor) => multiplesOf(divisor, pointer)),
    ...(isInteger === false ? [multiplesOf(ONE, pointer)] : []),
  ];
  const isBound = multipleOf === undefined || listed !== undefined;
  const within = isBound ? [body] : [body, multiplesOf(multipleOf, pointer)];
  return difference(intersection(...within), choice(...without));
}

const ZERO: Decimal = { digits: 0n, scale: 0 };
const ONE: Decimal = { digits: 1n, scale: 0 };

/** All texts of one number, without exponents. */
function textsOf(value: Decimal): Expression {
  const isNegative = value.digits < 0n;
  const [whole, fraction] = digitsOf(isNegative ? negated(value) : value);
  const sign = isNegative ? text('-') : value.digits === 0n ? MINUS : NOTHING;
  const zeros = repeat(text('0'), 0, undefined);
  const tail =
    fraction === ''
      ? optional(sequence(text('.'), text('0'), zeros))
      : sequence(text(`.${fraction}`), zeros);
  return sequence(sign, text(whole), tail);
}

function inRange(minimum: Bound | undefined, maximum: Bound | undefined, isInteger: boolean) {
  const isBelowZero = minimum === undefined || minimum.value.digits < 0n;
  const isAboveZero =
    maximum === undefined ||
    maximum.value.digits > 0n ||
    (maximum.value.digits === 0n && !maximum.isExclusive);
  const options: Expression[] = [];
  if (isBelowZero) {
    const low = maximum && opposite(maximum);
    const high = minimum && opposite(minimum);
    options.push(sequence(text('-'), magnitudes(low, high, isInteger)));
  }
  if (isAboveZero) options.push(magnitudes(minimum, maximum, isInteger));
  return choice(...options);
}

function opposite({ value, isExclusive }: Bound): Bound {
  return { value: negated(value), isExclusive };
}

/** Texts without sign of numbers from `low` to `high`, which need not be positive. */
function magnitudes(
  low: Bound | undefined,
  high: Bound | undefined,
  isInteger: boolean,
): Expression {
  const least =
    low === undefined || low.value.digits < 0n ? { value: ZERO, isExclusive: false } : low;
  if (isInteger) {
    const isWhole = (of: Bound) => of.isExclusive && of.value.scale === 0;
    const first = ceilingOf(least.value) + (isWhole(least) ? 1n : 0n);
    if (high === undefined) return integersFrom(first);
    return integersBetween(first, floorOf(high.value) - (isWhole(high) ? 1n : 0n));
  }
  const [lowWhole, lowFraction] = digitsOf(least.value);
  const above = fractionsFrom(lowFraction, least.isExclusive);
  const first = BigInt(lowWhole);
  if (high === undefined) {
    return choice(sequence(text(lowWhole), above), sequence(integersFrom(first + 1n), FRACTION));
  }
  if (high.value.digits < 0n) return IMPOSSIBLE;
  const [highWhole, highFraction] = digitsOf(high.value);
  const below = fractionsTo(highFraction, high.isExclusive);
  const last = BigInt(highWhole);
  if (first > last) return IMPOSSIBLE;
  if (first === last) return sequence(text(lowWhole), intersection(above, below));
  return choice(
    sequence(text(lowWhole), above),
    sequence(integersBetween(first + 1n, last - 1n), FRACTION),
    sequence(text(highWhole), below),
  );
}

/** Fractions, with their point or none at all, of at least 0.`digits`. */
function fractionsFrom(digits: string, isExclusive: boolean): Expression {
  const some = sequence(text('.'), digitsFrom(digits, isExclusive, true));
  return digits === '' && !isExclusive ? optional(some) : some;
}

function digitsFrom(digits: string, isExclusive: boolean, isFirst = false): Expression {
  if (digits === '') {
    if (isExclusive) return sequence(repeat(text('0'), 0, undefined), NOT_ZERO, DIGITS);
    return isFirst ? repeat(DIGIT, 1, undefined) : DIGITS;
  }
  const first = Number(digits[0]);
  const same = sequence(text(String(first)), digitsFrom(digits.slice(1), isExclusive));
  if (first === 9) return same;
  return choice(same, sequence(between(String(first + 1), '9'), DIGITS));
}

/** Fractions, with their point or none at all, of at most 0.`digits`. */
function fractionsTo(digits: string, isExclusive: boolean): Expression {
  if (digits === '' && isExclusive) return IMPOSSIBLE;
  return optional(sequence(text('.'), digitsTo(digits, isExclusive, true)));
}

function digitsTo(digits: string, isExclusive: boolean, isFirst = false): Expression {
  if (digits === '') {
    if (isExclusive) return IMPOSSIBLE;
    return repeat(text('0'), isFirst ? 1 : 0, undefined);
  }
  const first = Number(digits[0]);
  const rest = digitsTo(digits.slice(1), isExclusive);
  // A fraction that ends here is less, where more digits would follow.
  const ends = digits.length > 1 ? optional(rest) : rest;
  const same = sequence(text(String(first)), ends);
  if (first === 0) return same;
  return choice(same, sequence(between('0', String(first - 1)), DIGITS));
}

/** From `first`, which is not negative, without end. */
function integersFrom(first: bigint): Expression {
  if (first <= 0n) return WHOLE;
  const digits = String(first);
  const nines = BigInt('9'.repeat(digits.length));
  return choice(
    integersBetween(first, nines),
    sequence(NOT_ZERO, repeat(DIGIT, digits.length, undefined)),
  );
}

/** From `first`, which is not negative, to `last`. */
function integersBetween(first: bigint, last: bigint): Expression {
  const options: Expression[] = [];
  for (let low = first; low <= last; ) {
    const { length } = String(low);
    const nines = BigInt('9'.repeat(length));
    const high = nines < last ? nines : last;
    options.push(sameLength(String(low), String(high)));
    low = nines + 1n;
  }
  return choice(...options);
}

/** Numbers of as many digits, with leading zeros. */
function sameLength(low: string, high: string): Expression {
  if (low === '') return NOTHING;
  const rest = low.length - 1;
  const isFull = /^0*$/.test(low.slice(1)) && /^9*$/.test(high.slice(1));
  const [first, last] = [Number(low[0]), Number(high[0])];
  const any = repeat(DIGIT, rest, rest);
  if (isFull) return sequence(between(String(first), String(last)), any);
  if (first === last) {
    return sequence(text(String(first)), sameLength(low.slice(1), high.slice(1)));
  }
  const inner =
    first + 1 <= last - 1 ? [sequence(between(String(first + 1), String(last - 1)), any)] : [];
  return choice(
    sequence(text(String(first)), sameLength(low.slice(1), '9'.repeat(rest))),
    ...inner,
    sequence(text(String(last)), sameLength('0'.repeat(rest), high.slice(1))),
  );
}

/** The multiples between bounds, where they are few. */
function listedMultiples(subject: Case, divisor: Decimal): Expression | undefined {
  const { minimum, maximum, isInteger } = subject;
  if (minimum === undefined || maximum === undefined) return undefined;
  const scale = BigInt(divisor.scale);
  const shift = (value: Decimal): Decimal => {
    const digits = value.digits * 10n ** scale;
    return { digits, scale: value.scale };
  };
  const { digits: step } = divisor;
  const multipleFrom = ceilingOf(shift(minimum.value));
  const first = multipleFrom + ((step - (multipleFrom % step)) % step);
  const last = floorOf(shift(maximum.value));
  if ((last - first) / step > BigInt(MAX_LISTED_MULTIPLES)) return undefined;
  const options: Expression[] = [];
  const unit = 10n ** scale;
  for (let digits = first; digits <= last; digits += step) {
    const isEdge = (of: Bound) =>
      of.isExclusive && shift(of.value).digits === digits * 10n ** BigInt(of.value.scale);
    if (isEdge(minimum) || isEdge(maximum)) continue;
    if (isInteger === true && digits % unit !== 0n) continue;
    const value = { digits, scale: divisor.scale };
    options.push(isInteger === true ? text(String(digits / unit)) : textsOf(trimmed(value)));
  }
  return choice(...options);
}

function trimmed({ digits, scale }: Decimal): Decimal {
  let [least, short] = [digits, scale];
  while (short > 0 && least % 10n === 0n) {
    least /= 10n;
    short -= 1;
  }
  return { digits: least, scale: short };
}

/**
 * All texts, without exponents, of multiples: by their last digits where the divisor divides a
 * power of ten, by remainders for small primes, and by both for products of these.
 */
function multiplesOf(divisor: Decimal, pointer: string): Expression {
  let tens = 1n;
  let rest = divisor.digits;
  for (const prime of [2n, 5n]) {
    for (; rest % prime === 0n; rest /= prime) tens *= prime;
  }
  const parts: Expression[] = [];
  if (rest !== 1n && divisor.scale > 0) refuseMultiples(pointer);
  for (let prime = 3n; rest > 1n; prime += 2n) {
    if (prime > MAX_PRIME) refuseMultiples(pointer);
    let power = 1n;
    for (; rest % prime === 0n; rest /= prime) power *= prime;
    if (power > MAX_PRIME) refuseMultiples(pointer);
    if (power > 1n) parts.push(multiplesOfPrime(Number(power)));
  }
  if (tens > 1n || parts.length === 0) parts.push(multiplesByEnding(tens, divisor.scale, pointer));
  return intersection(...parts);
}

function refuseMultiples(pointer: string): never {
  return refuse(
    'unsupported',
    pointer,
    'has a multipleOf that is none of: a divisor of a power of ten, 3, 7, or a product of these ' +
      '(or bounds between which there are few multiples)',
  );
}

/** Multiples of step / 10 ** scale, where step divides a power of ten. */
function multiplesByEnding(step: bigint, scale: number, pointer: string): Expression {
  let power = 0;
  while (10n ** BigInt(power) % step !== 0n) power += 1;
  const wholeDigits = Math.max(0, power - scale);
  if (10 ** (wholeDigits + scale) > MAX_SUFFIXES) refuseMultiples(pointer);
  const zeros = repeat(text('0'), 0, undefined);
  const options: Expression[] = [];
  for (let length = 0; length <= scale; length++) {
    const byFraction = new Map<string, number[]>();
    for (let value = 0; value < 10 ** length; value++) {
      const endings = [...Array(10 ** wholeDigits).keys()].filter((ending) => {
        const digits =
          BigInt(ending) * 10n ** BigInt(scale) + BigInt(value) * 10n ** BigInt(scale - length);
        return digits % step === 0n;
      });
      byFraction.set(length === 0 ? '' : String(value).padStart(length, '0'), endings);
    }
    // Most often, all fractions of a length go with the same endings.
    const groups = new Map<string, { readonly endings: number[]; readonly fractions: string[] }>();
    for (const [fraction, endings] of byFraction) {
      if (endings.length === 0) continue;
      const group = groups.get(endings.join()) ?? { endings, fractions: [] };
      group.fractions.push(fraction);
      groups.set(endings.join(), group);
    }
    for (const { endings, fractions } of groups.values()) {
      const isAll = fractions.length === 10 ** length;
      const digits = isAll ? repeat(DIGIT, length, length) : choice(...fractions.map(text));
      const tail =
        length === 0
          ? optional(sequence(text('.'), text('0'), zeros))
          : sequence(text('.'), digits, zeros);
      options.push(sequence(wholeEndingIn(endings, wholeDigits), tail));
    }
  }
  return sequence(MINUS, choice(...options));
}

/** Numbers whose last `count` digits are one of the endings. */
function wholeEndingIn(endings: readonly number[], count: number): Expression {
  if (count === 0 || endings.length === 10 ** count) return WHOLE;
  const padded = endings.map((ending) => text(String(ending).padStart(count, '0')));
  return choice(
    ...endings.map((ending) => text(String(ending))),
    sequence(NOT_ZERO, DIGITS, choice(...padded)),
  );
}

/** Multiples of a small number, by the remainders of what was read so far. */
function multiplesOfPrime(prime: number): Expression {
  /** Of digits that lead from one remainder to another. */
  const edges = new Map<string, Expression>();
  const key = (from: number, to: number) => `${from} ${to}`;
  for (let from = 0; from < prime; from++) {
    for (let to = 0; to < prime; to++) {
      const digits = [...Array(10).keys()].filter((digit) => (from * 10 + digit) % prime === to);
      edges.set(
        key(from, to),
        character(...digits.map((digit): [number, number] => [0x30 + digit, 0x30 + digit])),
      );
    }
  }
  // Remainders are taken out one by one; what led through them is written as a repeat.
  for (let out = prime - 1; out > 0; out--) {
    const again = repeat(edges.get(key(out, out)) ?? IMPOSSIBLE, 0, undefined);
    for (let from = 0; from < out; from++) {
      for (let to = 0; to < out; to++) {
        const through = sequence(
          edges.get(key(from, out)) ?? IMPOSSIBLE,
          again,
          edges.get(key(out, to)) ?? IMPOSSIBLE,
        );
        edges.set(key(from, to), choice(edges.get(key(from, to)) ?? IMPOSSIBLE, through));
      }
    }
  }
  const zeros = sequence(text('.'), repeat(text('0'), 1, undefined));
  const multiples = repeat(edges.get(key(0, 0)) ?? IMPOSSIBLE, 1, undefined);
  return sequence(MINUS, intersection(WHOLE, multiples), optional(zeros));
}
