/** What transformers puts into every chat template's scope, beside the template's own variables. */

/** A template that is not usable for this conversation said so through raise_exception. */
export class TemplateRefusal extends Error {
  override readonly name = 'TemplateRefusal';
}

const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];
const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];

/**
 * Python's strftime in the C locale and UTC, for the directives that chat templates use; others
 * stay as they are.
 */
export function strftime(date: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const month = MONTHS[date.getUTCMonth()]!;
  const day = DAYS[date.getUTCDay()]!;
  const hour = date.getUTCHours();
  const fields: Readonly<Record<string, string>> = {
    Y: String(date.getUTCFullYear()),
    y: two(date.getUTCFullYear() % 100),
    m: two(date.getUTCMonth() + 1),
    B: month,
    b: month.slice(0, 3),
    d: two(date.getUTCDate()),
    A: day,
    a: day.slice(0, 3),
    H: two(hour),
    I: two(hour % 12 === 0 ? 12 : hour % 12),
    p: hour < 12 ? 'AM' : 'PM',
    M: two(date.getUTCMinutes()),
    S: two(date.getUTCSeconds()),
    '%': '%',
  };
  return format.replace(/%([a-zA-Z%])/g, (directive, letter) => fields[letter] ?? directive);
}

/** A template's loop must end while its client still waits. */
const MAX_RANGE = 100_000;

function range(start: number, stop?: number, step = 1): number[] {
  const from = stop === undefined ? 0 : start;
  const to = stop ?? start;
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (!Number.isFinite(length) || length > MAX_RANGE) throw new Error('range() is too long');
  return Array.from({ length }, (_, i) => from + i * step);
}

function raiseException(message: unknown): never {
  throw new TemplateRefusal(String(message));
}

/**
 * `now` gives templates the date; without it strftime_now is undefined, as some templates check.
 */
export function templateGlobals(now: (() => Date) | undefined): Record<string, unknown> {
  return {
    true: true,
    True: true,
    false: false,
    False: false,
    none: null,
    None: null,
    range,
    raise_exception: raiseException,
    ...(now && { strftime_now: (format: string) => strftime(now(), format) }),
  };
}
