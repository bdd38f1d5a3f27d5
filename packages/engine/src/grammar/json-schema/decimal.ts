/** Decimal numbers as JSON writes them, exactly: bounds and multiples are no place for rounding. */
export interface Decimal {
  /** The value is `digits` / 10 ** `scale`; where `scale` is not 0, `digits` does not end in 0. */
  readonly digits: bigint;
  readonly scale: number;
}

/** Longer ones are refused where they are read. */
const MAX_DECIMAL_DIGITS = 400;

const NUMBER = /^(-?)(\d+)(?:\.(\d+))?(?:e([-+]?\d+))?$/i;

/** Of a number that was read; undefined where it is not finite, or has too many digits. */
export function decimalOf(value: bigint | number): Decimal | undefined {
  const found = NUMBER.exec(String(value));
  if (found === null) return undefined;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = found;
  const scale = fraction.length - Number(exponent);
  const digits = BigInt(`${sign}${whole}${fraction}`);
  if (whole.length + Math.abs(scale) > MAX_DECIMAL_DIGITS) return undefined;
  return scale < 0 ? decimal(digits * 10n ** BigInt(-scale), 0) : decimal(digits, scale);
}

/** digits / 10 ** scale. */
function decimal(digits: bigint, scale: number): Decimal {
  let [least, short] = [digits, scale];
  while (short > 0 && least % 10n === 0n) {
    least /= 10n;
    short -= 1;
  }
  return { digits: least, scale: short };
}

/** Both as multiples of the same power of ten. */
function aligned(a: Decimal, b: Decimal): readonly [bigint, bigint] {
  const scale = Math.max(a.scale, b.scale);
  const of = (value: Decimal) => value.digits * 10n ** BigInt(scale - value.scale);
  return [of(a), of(b)];
}

/** Negative where a < b, 0 where they are equal. */
export function compareDecimals(a: Decimal, b: Decimal): number {
  const [left, right] = aligned(a, b);
  if (left === right) return 0;
  return left < right ? -1 : 1;
}

export function isMultiple(value: Decimal, of: Decimal): boolean {
  const [dividend, divisor] = aligned(value, of);
  return dividend % divisor === 0n;
}

/** The least number of which multiples are multiples of both. */
export function leastCommonMultiple(a: Decimal, b: Decimal): Decimal {
  const scale = Math.max(a.scale, b.scale);
  const [left, right] = aligned(a, b);
  let [divisor, rest] = [left, right];
  while (rest !== 0n) [divisor, rest] = [rest, divisor % rest];
  return decimal((left / divisor) * right, scale);
}

export function negated(value: Decimal): Decimal {
  return { digits: -value.digits, scale: value.scale };
}

/** The greatest integer that is not above it. */
export function floorOf({ digits, scale }: Decimal): bigint {
  const unit = 10n ** BigInt(scale);
  const quotient = digits / unit;
  return digits < 0n && quotient * unit !== digits ? quotient - 1n : quotient;
}

export function ceilingOf(value: Decimal): bigint {
  return -floorOf(negated(value));
}

/** Of a value that is not negative: its digits before and after the point. */
export function digitsOf({ digits, scale }: Decimal): readonly [whole: string, fraction: string] {
  const text = String(digits).padStart(scale + 1, '0');
  return [text.slice(0, text.length - scale), text.slice(text.length - scale)];
}
