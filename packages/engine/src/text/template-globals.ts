/** What transformers gives every chat template beside what Jinja2 has. */
import { bind, callable, type Signature, wantText } from './jinja/arguments.ts';
import type { Filter } from './jinja/filters.ts';
import { asText, type Value } from './jinja/values.ts';
import { writeJsonValue } from './json.ts';

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

const DAY_MS = 86_400_000;

/**
 * Python's strftime in the C locale and UTC, for the directives that prompts may have; others stay
 * as they are. A minus, as in %-d, leaves the padding out.
 */
export function strftime(date: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const month = MONTHS[date.getUTCMonth()]!;
  const day = DAYS[date.getUTCDay()]!;
  const hour = date.getUTCHours();
  const yearStart = Date.UTC(date.getUTCFullYear(), 0, 1);
  const clock = `${two(hour)}:${two(date.getUTCMinutes())}`;
  const fields: Readonly<Record<string, string>> = {
    Y: String(date.getUTCFullYear()),
    y: two(date.getUTCFullYear() % 100),
    m: two(date.getUTCMonth() + 1),
    B: month,
    b: month.slice(0, 3),
    d: two(date.getUTCDate()),
    e: String(date.getUTCDate()).padStart(2),
    j: String(Math.floor((date.getTime() - yearStart) / DAY_MS) + 1).padStart(3, '0'),
    A: day,
    a: day.slice(0, 3),
    w: String(date.getUTCDay()),
    H: two(hour),
    I: two(hour % 12 === 0 ? 12 : hour % 12),
    p: hour < 12 ? 'AM' : 'PM',
    M: two(date.getUTCMinutes()),
    S: two(date.getUTCSeconds()),
    R: clock,
    T: `${clock}:${two(date.getUTCSeconds())}`,
    F: date.toISOString().slice(0, 10),
    '%': '%',
  };
  return format.replace(/%(-?)([a-zA-Z%])/g, (directive, minus, letter) => {
    const field = fields[letter];
    if (field === undefined) return directive;
    return minus === '' ? field : field.replace(/^[0 ]+(?=.)/, '');
  });
}

function raiseException(message: Value): never {
  throw new TemplateRefusal(asText(message) ?? '');
}

const tojson: Filter = ({ budget }, value, args) => {
  const signature: Signature = [
    ['ensure_ascii', false],
    ['indent', null],
    ['separators', null],
    ['sort_keys', false],
  ];
  const given = bind('filter "tojson"', signature, args);
  const [ensureAscii, indent, separators, sortKeys] = given as [Value, Value, Value, Value];
  return writeJsonValue(value, { ensureAscii, indent, separators, sortKeys }, budget);
};

/** json.dumps, where Jinja2's own would escape for HTML. */
export const TEMPLATE_FILTERS: ReadonlyMap<string, Filter> = new Map([['tojson', tojson]]);

/**
 * `now` gives templates the date; without it strftime_now is undefined, as some templates check.
 */
export function templateGlobals(now: (() => Date) | undefined): Map<string, Value> {
  const globals = new Map<string, Value>([
    [
      'raise_exception',
      callable('raise_exception', ['message'], (message) => raiseException(message)),
    ],
  ]);
  if (now !== undefined) {
    const format = (text: Value) => strftime(now(), wantText(text, 'strftime_now'));
    globals.set(
      'strftime_now',
      callable('strftime_now', ['format'], (text) => format(text)),
    );
  }
  return globals;
}
