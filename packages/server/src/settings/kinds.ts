/**
 * How one setting's value is read from text. `parse` throws `Error` with a reason that fits after "
 * --flag: ", for example "must be an integer from 1 to 65535, got 0". A list kind takes every
 * occurrence of its flag.
 */
export interface Kind<T> {
  /** What stands behind the flag in the help text; empty for a switch. */
  readonly metavar: string;
  readonly parse: (text: string) => T;
  readonly list?: true;
  readonly isSwitch?: true;
  /** Never shown: `doctor` says only how many there are. */
  readonly secret?: true;
}

const fail = (what: string, text: string): never => {
  throw new Error(`must be ${what}, got ${JSON.stringify(text.slice(0, 80))}`);
};

export function text(metavar: string): Kind<string> {
  return { metavar, parse: (value) => value || fail('non-empty text', value) };
}

/** One or more texts: the flag may be repeated; environment variables separate them with commas. */
export function texts(metavar: string): Kind<readonly string[]> {
  return {
    metavar,
    list: true,
    parse: (value) => {
      const parts = value.split(',').map((part) => part.trim());
      return parts.every(Boolean) ? parts : fail('non-empty text, separated by commas', value);
    },
  };
}

export function oneOf<const C extends readonly string[]>(...choices: C): Kind<C[number]> {
  return {
    metavar: choices.join('|'),
    parse: (value) =>
      choices.includes(value) ? value : fail(`one of ${choices.join(', ')}`, value),
  };
}

/** Numbers with a fraction, both ends included. */
export function number(min: number, max: number): Kind<number> {
  return {
    metavar: 'number',
    parse: (value) => {
      const parsed = value.trim() === '' ? Number.NaN : Number(value);
      return parsed >= min && parsed <= max
        ? parsed
        : fail(`a number from ${min} to ${max}`, value);
    },
  };
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
export function integer(min: number, max: number): Kind<number> {
  return {
    metavar: 'n',
    parse: (value) => {
      const match = /^(\d+(?:\.\d+)?)([kmgtKMGT]?)$/.exec(value.trim());
      const parsed = match ? Number(match[1]) * (MULTIPLIERS[match[2] ?? ''] ?? 1) : Number.NaN;
      const ok = Number.isSafeInteger(parsed) && parsed >= min && parsed <= max;
      return ok ? parsed : fail(`an integer from ${min} to ${max}`, value);
    },
  };
}

/** SHA-256 as 64 hex digits; lower case from here on. */
export function digest(): Kind<string> {
  return {
    metavar: 'hex',
    parse: (value) =>
      /^[0-9a-f]{64}$/i.test(value) ? value.toLowerCase() : fail('64 hex digits', value),
  };
}

/** As `texts`, but never shown. */
export function secrets(metavar: string): Kind<readonly string[]> {
  return {
    ...texts(metavar),
    secret: true,
    parse: (value) => {
      const parts = value.split(',').map((part) => part.trim());
      if (parts.every(Boolean)) return parts;
      throw new Error('must be non-empty text, separated by commas');
    },
  };
}

/** `--flag` and `--no-flag`; true/false, 1/0, yes/no, on/off elsewhere. */
export function onOff(): Kind<boolean> {
  return {
    metavar: '',
    isSwitch: true,
    parse: (value) => {
      if (/^(true|1|yes|on)$/i.test(value)) return true;
      if (/^(false|0|no|off)$/i.test(value)) return false;
      return fail('true or false', value);
    },
  };
}

/** auto, off, emulate:<reference profile>, or the path of a profile. */
export function law(): Kind<string> {
  return {
    metavar: 'auto|off|file|emulate:name',
    parse: (value) =>
      value === '' || value === 'emulate:'
        ? fail('auto, off, emulate:<reference profile> or a profile file', value)
        : value,
  };
}
