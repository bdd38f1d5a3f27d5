import { parse as parseYaml } from 'yaml';
import { flagOf } from './flags.ts';
import { checkCombinations, type Found, type Origin, type Sources, UsageError } from './resolve.ts';
import { SETTINGS, type Settings } from './table.ts';
import { misspeltVariable } from './variables.ts';
import { VLLM_FLAGS } from './vllm-flags.ts';

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
  const found = new Map<string, Found>();
  for (const [key, value] of Object.entries(document)) {
    const flag = key.replaceAll('_', '-');
    const name = Object.keys(SETTINGS).find((candidate) => flagOf(candidate) === flag);
    const origin: Origin = { kind: 'file', name: `${key} in ${path}` };
    if (name !== undefined && name !== 'config') {
      found.set(name, { texts: scalars(value, origin), origin });
    } else if (becomesNoAccessLog(flag, value, origin)) {
      found.set('accessLog', { texts: ['false'], origin });
    }
  }
  return found;
}

/**
 * Whether a key that is a flag of vLLM's alone turns off the access log, the one thing that such
 * flags do here. Throws UsageError where it wants what cannot be had.
 */
function becomesNoAccessLog(flag: string, value: unknown, origin: Origin): boolean {
  const known = Object.hasOwn(VLLM_FLAGS, flag) ? VLLM_FLAGS[flag] : undefined;
  if (known === undefined) {
    throw new UsageError('unknown-setting', `${origin.name}: is not a setting of serve`);
  }
  // A switch that is off says nothing.
  if (known.takes === 'none' && value === 'false') return false;
  if (known.verdict === 'refused') {
    throw new UsageError('unsupported-flag', `${origin.name}: is not supported: ${known.why}`);
  }
  if (known.only !== undefined && !known.only.includes(String(value))) {
    const accepted = known.only.join(' or ');
    const message = `${origin.name}: must be ${accepted}, or absent: ${known.why}`;
    throw new UsageError('unsupported-flag', message);
  }
  return known.becomes !== undefined;
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
