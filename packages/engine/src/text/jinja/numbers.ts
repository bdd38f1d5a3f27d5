/**
 * Python's numbers: an int is a bigint, a float is a number. What JavaScript writes, parses and
 * rounds otherwise is here.
 */
import type { Budget } from './budget.ts';
import { fail } from './errors.ts';
import { trimEnd, trimStart } from './text.ts';

/** Python refuses to write or read longer integers. */
const MAX_INTEGER_DIGITS = 4300;

/** repr of a float: the shortest digits that name it, with an exponent from 1e16 and below 1e-4. */
export function writeFloat(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (Object.is(value, -0)) return '-0.0';
  const [digits, exponent] = value.toExponential().split('e') as [string, string];
  const power = Number(exponent);
  if (value !== 0 && (power < -4 || power >= 16)) {
    return `${digits}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
  }
  const plain = power < -6 ? value.toFixed(20) : String(value);
  return plain.includes('.') ? plain : `${plain}.0`;
}

export function writeInteger(value: bigint): string {
  const text = String(value);
  const digits = value < 0n ? text.length - 1 : text.length;
  return digits > MAX_INTEGER_DIGITS ? fail('an integer has too many digits') : text;
}

const PREFIXED: Readonly<Record<number, RegExp>> = { 2: /^0b_?/i, 8: /^0o_?/i, 16: /^0x_?/i };

/** int(text, base); undefined where Python raises ValueError. */
export function readInteger(text: string, base: number): bigint | undefined {
  const trimmed = trimEnd(trimStart(text));
  const sign = /^[-+]/.exec(trimmed)?.[0] ?? '';
  let digits = trimmed.slice(sign.length);
  let radix = base;
  if (base === 0) {
    radix = [2, 8, 16].find((each) => PREFIXED[each]!.test(digits)) ?? 10;
    if (radix === 10 && /^0[0_]*[1-9]/.test(digits)) return undefined;
  }
  digits = digits.replace(PREFIXED[radix] ?? /^$/, '');
  if (!/^[\da-z]+(?:_[\da-z]+)*$/i.test(digits)) return undefined;
  digits = digits.replaceAll('_', '');
  if (digits.length > MAX_INTEGER_DIGITS) return undefined;
  if (radix === 10) return /^\d+$/.test(digits) ? BigInt(sign + digits) : undefined;
  let value = 0n;
  for (const digit of digits) {
    const number = Number.parseInt(digit, 36);
    if (number >= radix) return undefined;
    value = value * BigInt(radix) + BigInt(number);
  }
  return sign === '-' ? -value : value;
}

const FLOAT_TEXT =
  /^[-+]?(?:(?:\d+(?:_\d+)*\.?(?:\d+(?:_\d+)*)?|\.\d+(?:_\d+)*)(?:e[-+]?\d+(?:_\d+)*)?)$/i;
const SPECIAL_TEXT = /^([-+]?)(inf(?:inity)?|nan)$/i;

/** float(text); undefined where Python raises ValueError. */
export function readFloat(text: string): number | undefined {
  const trimmed = trimEnd(trimStart(text));
  const special = SPECIAL_TEXT.exec(trimmed);
  if (special !== null) {
    if (special[2]!.toLowerCase() === 'nan') return Number.NaN;
    return special[1] === '-' ? -Infinity : Infinity;
  }
  return FLOAT_TEXT.test(trimmed) ? Number(trimmed.replaceAll('_', '')) : undefined;
}

/** int(value) of a float: towards zero. */
export function truncate(value: number): bigint {
  if (!Number.isFinite(value)) fail('cannot convert an infinite float or nan to an integer');
  return BigInt(Math.trunc(value));
}

/** float(value) of an int. */
export function toFloat(value: bigint): number {
  const float = Number(value);
  return Number.isFinite(float) ? float : fail('an integer is too large to become a float');
}

/** `a / b` of ints, rounded once, also where neither is a float exactly. */
export function divide(a: bigint, b: bigint): number {
  if (b === 0n) fail('division by zero');
  if (isExact(a) && isExact(b)) return Number(a) / Number(b);
  const [top, bottom] = [a < 0n ? -a : a, b < 0n ? -b : b];
  // A quotient of more bits than a float has, the last of which says whether there is a rest.
  const shift = Math.max(0, 66 - top.toString(2).length + bottom.toString(2).length);
  const shifted = top << BigInt(shift);
  const quotient = (shifted / bottom) | (shifted % bottom === 0n ? 0n : 1n);
  const result = Number(quotient) * 2 ** -shift;
  if (!Number.isFinite(result)) fail('the result of a division is too large');
  return a < 0n !== b < 0n ? -result : result;
}

const isExact = (value: bigint) => BigInt.asIntN(54, value) === value;

export function floorDivide(a: bigint, b: bigint): bigint {
  if (b === 0n) fail('integer division or modulo by zero');
  const quotient = a / b;
  return a % b !== 0n && a < 0n !== b < 0n ? quotient - 1n : quotient;
}

export function modulo(a: bigint, b: bigint): bigint {
  return a - floorDivide(a, b) * b;
}

export function floatModulo(a: number, b: number): number {
  if (b === 0) fail('float modulo by zero');
  const rest = a % b;
  if (rest === 0) return b < 0 ? -0 : 0;
  return rest < 0 !== b < 0 ? rest + b : rest;
}

/** `a // b` of floats, by way of the remainder as Python computes it. */
export function floatFloorDivide(a: number, b: number): number {
  if (b === 0) fail('float floor division by zero');
  const quotient = (a - floatModulo(a, b)) / b;
  const floor = Math.floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

export function power(a: bigint, b: bigint, budget: Budget): bigint | number {
  if (b < 0n) return floatPower(toFloat(a), toFloat(b));
  const bits = a.toString(2).length;
  if (bits > 1 || a > 1n) budget.checkInteger(bits * Number(b));
  return a ** b;
}

export function floatPower(a: number, b: number): number {
  if (a === 0 && b < 0) fail('zero cannot be raised to a negative power');
  if (a === 1 || b === 0) return 1; // also of nan
  const result = a ** b;
  if (Number.isNaN(result) && !Number.isNaN(a) && !Number.isNaN(b)) {
    fail('complex numbers are not supported');
  }
  if (!Number.isFinite(result) && Number.isFinite(a) && Number.isFinite(b)) {
    fail('the result of a power is too large');
  }
  return result;
}

const bits = new DataView(new ArrayBuffer(8));

/** A finite float as `mantissa * 2 ** exponent`, exactly. */
function split(value: number): readonly [bigint, number] {
  bits.setFloat64(0, Math.abs(value));
  const raw = bits.getBigUint64(0);
  const biased = Number(raw >> 52n);
  const fraction = raw & 0xfffffffffffffn;
  return biased === 0 ? [fraction, -1074] : [fraction | (1n << 52n), biased - 1075];
}

function divideHalfEven(a: bigint, b: bigint): bigint {
  const quotient = a / b;
  const twice = (a % b) * 2n;
  if (twice > b || (twice === b && quotient % 2n === 1n)) return quotient + 1n;
  return quotient;
}

/**
 * A finite float with that many digits after the point, the exact value rounded half to even, where
 * toFixed rounds half up.
 */
export function writeFixed(value: number, digits: number): string {
  const [mantissa, exponent] = split(value);
  const scaled = mantissa * 10n ** BigInt(digits);
  const rounded =
    exponent >= 0 ? scaled << BigInt(exponent) : divideHalfEven(scaled, 1n << BigInt(-exponent));
  const text = String(rounded).padStart(digits + 1, '0');
  const point = text.length - digits;
  const sign = value < 0 || Object.is(value, -0) ? '-' : '';
  return sign + text.slice(0, point) + (digits > 0 ? `.${text.slice(point)}` : '');
}

/** round(value, digits) of an int. */
export function roundInteger(value: bigint, digits: number): bigint {
  if (digits >= 0) return value;
  const unit = 10n ** BigInt(-digits);
  const magnitude = divideHalfEven(value < 0n ? -value : value, unit) * unit;
  return value < 0n ? -magnitude : magnitude;
}

/** round(value, digits) of a float. */
export function roundFloat(value: number, digits: number): number {
  if (!Number.isFinite(value) || digits > 323) return value;
  if (digits >= 0) return Number(writeFixed(value, digits));
  const [mantissa, exponent] = split(value);
  const unit = 10n ** BigInt(-digits);
  const top = exponent >= 0 ? mantissa << BigInt(exponent) : mantissa;
  const bottom = exponent >= 0 ? unit : unit << BigInt(-exponent);
  const magnitude = Number(divideHalfEven(top, bottom) * unit);
  return value < 0 ? -magnitude : magnitude;
}
