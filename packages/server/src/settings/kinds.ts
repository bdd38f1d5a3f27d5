/**
 * How one value is read from text. A list kind takes every occurrence of its flag. What it refuses
 * is said in one form everywhere: "--port: must be <what>, got <text>".
 */
export interface Kind<T> {
  /** What stands behind the flag in the help text; empty for a switch. */
  readonly metavar: string;
  /** What the text must be. */
  readonly what: string;
  /** undefined: the text is not that. */
  readonly parse: (text: string) => T | undefined;
  readonly list?: true;
  readonly isSwitch?: true;
  /** Shown nowhere, also where it is refused: `doctor` says only how many there are. */
  readonly secret?: true;
}

export function kindOf<T>(
  metavar: string,
  what: string,
  parse: (text: string) => T | undefined,
): Kind<T> {
  return { metavar, what, parse };
}

export function text(metavar: string): Kind<string> {
  return kindOf(metavar, 'non-empty text', (value) => value || undefined);
}

/** Any number of these: the flag may be repeated. */
export function repeated<T>(kind: Kind<T>): Kind<readonly T[]> {
  const parse = (value: string) => {
    const one = kind.parse(value);
    return one === undefined ? undefined : [one];
  };
  return { ...kind, list: true, parse };
}

/** As `repeated`, also separated by commas, as environment variables must. */
export function listOf<T>(metavar: string, kind: Kind<T>): Kind<readonly T[]> {
  const parse = (value: string) => {
    const parts = value.split(',').map((part) => kind.parse(part.trim()));
    return parts.every((part) => part !== undefined) ? (parts as T[]) : undefined;
  };
  const what = `${kind.what}, or several, separated by commas`;
  return { ...kind, metavar, what, list: true, parse };
}

export function texts(metavar: string): Kind<readonly string[]> {
  return listOf(metavar, text(metavar));
}

export function secret<T>(kind: Kind<T>): Kind<T> {
  return { ...kind, secret: true };
}

export function oneOf<const C extends readonly string[]>(...choices: C): Kind<C[number]> {
  return kindOf(choices.join('|'), `one of ${choices.join(', ')}`, (value) =>
    choices.includes(value) ? value : undefined,
  );
}

/** One of so many words that they are not all shown behind the flag. */
export function named<const C extends readonly string[]>(...choices: C): Kind<C[number]> {
  return { ...oneOf(...choices), metavar: 'name' };
}

/** Numbers with a fraction, both ends included. */
export function number(min: number, max: number): Kind<number> {
  return kindOf('number', `a number from ${min} to ${max}`, (value) => {
    const parsed = value.trim() === '' ? Number.NaN : Number(value);
    return parsed >= min && parsed <= max ? parsed : undefined;
  });
}

const MULTIPLIERS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};

/** Whole numbers as vLLM reads them: 8192, 25.6k (decimal), 16K (binary). */
export function integer(min: number, max: number, multipleOf = 1): Kind<number> {
  const what = multipleOf === 1 ? 'an integer' : `a multiple of ${multipleOf}`;
  return kindOf('n', `${what} from ${min} to ${max}`, (value) => {
    const match = /^(\d+(?:\.\d+)?)([kmgtKMGT]?)$/.exec(value.trim());
    const parsed = match ? Number(match[1]) * (MULTIPLIERS[match[2] ?? ''] ?? 1) : Number.NaN;
    const isWhole = Number.isSafeInteger(parsed) && parsed % multipleOf === 0;
    return isWhole && parsed >= min && parsed <= max ? parsed : undefined;
  });
}

/** 32 bytes as 64 hex digits; lower case from here on. */
export function digest(bytes = 32): Kind<string> {
  const digits = 2 * bytes;
  return kindOf('hex', `${digits} hex digits`, (value) =>
    value.length === digits && /^[0-9a-f]*$/i.test(value) ? value.toLowerCase() : undefined,
  );
}

const TIME = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d))?$/;

/** Milliseconds since 1970. */
export function time(): Kind<number> {
  return kindOf('time', 'a time such as 2026-09-01T12:00Z, with its zone', (value) => {
    const ms = TIME.test(value) ? Date.parse(value) : Number.NaN;
    return Number.isNaN(ms) ? undefined : ms;
  });
}

/** `--flag` and `--no-flag`; true/false, 1/0, yes/no, on/off elsewhere. */
export function onOff(): Kind<boolean> {
  const parse = (value: string) => {
    if (/^(true|1|yes|on)$/i.test(value)) return true;
    return /^(false|0|no|off)$/i.test(value) ? false : undefined;
  };
  return { ...kindOf('', 'true or false', parse), isSwitch: true };
}

/** auto, off, emulate:<reference profile>, or the path of a profile. */
export function law(): Kind<string> {
  const what = 'auto, off, emulate:<reference profile> or a profile file';
  return kindOf('auto|off|file|emulate:name', what, (value) =>
    value === '' || value === 'emulate:' ? undefined : value,
  );
}
