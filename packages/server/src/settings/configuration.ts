import { parse as parseYaml } from 'yaml';
import { flagOf } from './flags.ts';
import { checkCombinations, type Found, type Origin, type Sources, UsageError } from './resolve.ts';
import { SETTINGS, type Settings } from './table.ts';
import { misspeltVariable } from './variables.ts';

/**
 * What the text of a configuration file says, by setting. `named` is who named it. `read` throws
 * what `fs.readFileSync` throws. Throws UsageError.
 */
export function readConfiguration(
  path: string,
  named: Origin,
  read: (path: string) => string,
): ReadonlyMap<string, Found> {
  const shown = `${named.name} ${path}`;
  let document: unknown;
  try {
    // As text, whatever it looks like: a key of digits is not a number.
    document = parseYaml(read(path), { schema: 'failsafe' });
  } catch (error) {
    const reason = (error as Error).message.split('\n')[0];
    throw new UsageError('bad-file', `${shown}: ${reason}`, { cause: error });
  }
  if (document === null || document === '') return new Map();
  if (typeof document !== 'object' || Array.isArray(document)) {
    throw new UsageError('bad-file', `${shown}: must hold "flag: value" lines`);
  }
  return new Map(
    Object.entries(document).map(([key, value]) => {
      const name = Object.keys(SETTINGS).find((candidate) => flagOf(candidate) === key);
      if (name === undefined || name === 'config') {
        throw new UsageError('unknown-setting', `${key} in ${path}: is not a setting of serve`);
      }
      const origin: Origin = { kind: 'file', name: `${key} in ${path}` };
      return [name, { texts: scalars(value, origin), origin }];
    }),
  );
}

/** Throws UsageError for a variable with our prefix that nothing reads. */
export function checkVariables(environment: Sources['environment']): void {
  const misspelt = misspeltVariable(Object.keys(SETTINGS), environment);
  if (misspelt === undefined) return;
  const { name, nearest } = misspelt;
  throw new UsageError('unknown-setting', `${name}: nothing reads it; did you mean ${nearest}?`);
}

function scalars(value: unknown, origin: Origin): readonly string[] {
  const values: readonly unknown[] = Array.isArray(value) ? value : [value];
  return values.map((each) => {
    if (typeof each === 'string') return each;
    throw new UsageError('bad-value', `${origin.name}: must be text, a number, true or false`);
  });
}

/** The settings with these values, and otherwise with their defaults. Throws UsageError. */
export function settingsWith(values: Partial<Settings>): Settings {
  const defaults = Object.entries(SETTINGS).map(([name, { default: value }]) => [name, value]);
  const settings = { ...Object.fromEntries(defaults), ...values } as Settings;
  checkCombinations(settings);
  return settings;
}
