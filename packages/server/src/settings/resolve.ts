import { parse as parseYaml } from 'yaml';
import { environmentOf, type Flag, type FlagTable, flagOf, type Values } from './flags.ts';
import { SETTINGS, type Settings } from './table.ts';
import { misspeltVariable, variableOf } from './variables.ts';

export type OriginKind = 'flag' | 'environment' | 'file' | 'default';

/**
 * Where a value came from, in words a user can act on: `--port`, `BRIDGEKEEPER_PORT`, `port in
 * serve.yaml`.
 */
export interface Origin {
  readonly kind: OriginKind;
  readonly name: string;
}

/** What a command line said, by name, before anything is parsed. */
export type GivenFlags = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

export interface Resolved<F extends FlagTable> {
  readonly values: Values<F>;
  readonly origins: Readonly<Record<keyof F, Origin>>;
  /** What the command line said: a result repeats it. */
  readonly given: GivenFlags;
}

export type UsageErrorCode =
  | 'bad-value'
  | 'unknown-setting'
  | 'unsupported-flag'
  | 'bad-file'
  | 'bad-combination';

/**
 * Bad usage or input of the command line: exit code 2. The message names the origin of what was
 * wrong.
 */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly code: UsageErrorCode;

  constructor(code: UsageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Where values may come from. */
export interface Sources {
  readonly flags: GivenFlags;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Reads the configuration file; throws what `fs.readFileSync` throws. */
  readonly readFile: (path: string) => string;
}

interface Found {
  readonly texts: readonly string[];
  readonly origin: Origin;
}

/**
 * Settles every flag of a table: the command line before, for a setting, environment and
 * configuration file, before the default. Throws UsageError.
 */
export function resolveFlags<F extends FlagTable>(table: F, sources: Sources): Resolved<F> {
  if (Object.values(table).some(({ isSetting }) => isSetting)) checkVariables(sources);
  const fromFile = readConfiguration(table, sources);
  const values: Record<string, unknown> = {};
  const origins: Record<string, Origin> = {};
  for (const [name, flag] of Object.entries(table)) {
    const found = findText(name, flag, sources) ?? (flag.isSetting && fromFile.get(name));
    values[name] = found ? parseFound(flag, found) : flag.default;
    origins[name] = found ? found.origin : { kind: 'default', name: 'default' };
  }
  checkCombinations(values as Partial<Settings>);
  return { values, origins, given: sources.flags } as Resolved<F>;
}

/** The settings with these values, and otherwise with their defaults. Throws UsageError. */
export function settingsWith(values: Partial<Settings>): Settings {
  const defaults = Object.entries(SETTINGS).map(([name, { default: value }]) => [name, value]);
  const settings = { ...Object.fromEntries(defaults), ...values } as Settings;
  checkCombinations(settings);
  return settings;
}

/** What the command line or the environment says. */
function findText(
  name: string,
  flag: Flag<unknown>,
  { flags, environment }: Sources,
): Found | undefined {
  const given = flags[name];
  if (given !== undefined) {
    const shown = flag.argument === undefined ? `--${flagOf(name)}` : `argument ${flagOf(name)}`;
    const texts = typeof given === 'object' ? given : [String(given)];
    return { texts, origin: { kind: 'flag', name: shown } };
  }
  const variables = flag.isSetting ? [environmentOf(name), ...(flag.alsoFrom ?? [])] : [];
  for (const variable of variables) {
    const value = variableOf(variable, environment);
    if (value === undefined) continue;
    return { texts: [value], origin: { kind: 'environment', name: variable } };
  }
  return undefined;
}

function checkVariables({ environment }: Sources): void {
  const misspelt = misspeltVariable(Object.keys(SETTINGS), environment);
  if (misspelt === undefined) return;
  const { name, nearest } = misspelt;
  throw new UsageError('unknown-setting', `${name}: nothing reads it; did you mean ${nearest}?`);
}

function parseFound({ kind }: Flag<unknown>, { texts, origin }: Found): unknown {
  const parse = (text: string) => {
    const value = kind.parse(text);
    if (value !== undefined) return value;
    const got = kind.secret ? '' : `, got ${JSON.stringify(text.slice(0, 80))}`;
    throw new UsageError('bad-value', `${origin.name}: must be ${kind.what}${got}`);
  };
  if (kind.list) return texts.flatMap(parse);
  // A flag that is repeated replaces itself; a list in a file has no last word.
  if (origin.kind === 'file' && texts.length > 1) {
    throw new UsageError('bad-value', `${origin.name}: takes one value, not a list`);
  }
  return parse(texts.at(-1) ?? '');
}

/** By name. A table without `config` has no such file. */
function readConfiguration(table: FlagTable, sources: Sources): ReadonlyMap<string, Found> {
  const found = table.config && findText('config', table.config, sources);
  const path = found?.texts.at(-1);
  // An empty name is refused with all other values.
  if (!found || !path) return new Map();
  const named = `${found.origin.name} ${path}`;
  let document: unknown;
  try {
    // As text, whatever it looks like: a key of digits is not a number.
    document = parseYaml(sources.readFile(path), { schema: 'failsafe' });
  } catch (error) {
    const reason = (error as Error).message.split('\n')[0];
    throw new UsageError('bad-file', `${named}: ${reason}`, { cause: error });
  }
  if (document === null || document === '') return new Map();
  if (typeof document !== 'object' || Array.isArray(document)) {
    throw new UsageError('bad-file', `${named}: must hold "flag: value" lines`);
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

function scalars(value: unknown, origin: Origin): readonly string[] {
  const values: readonly unknown[] = Array.isArray(value) ? value : [value];
  return values.map((each) => {
    if (typeof each === 'string') return each;
    throw new UsageError('bad-value', `${origin.name}: must be text, a number, true or false`);
  });
}

/** Holds wherever these settings are among the flags. */
function checkCombinations(settings: Partial<Settings>): void {
  if ((settings.sslKeyfile === undefined) !== (settings.sslCertfile === undefined)) {
    throw new UsageError(
      'bad-combination',
      '--ssl-keyfile and --ssl-certfile: give both for TLS, or neither',
    );
  }
  const { modelSeal, sealRoot, sealKeyFile, sealKeyCommand } = settings;
  if (sealKeyFile !== undefined && sealKeyCommand !== undefined) {
    const message = '--seal-key-file and --seal-key-command: give one of them';
    throw new UsageError('bad-combination', message);
  }
  const seal = sealRoot ?? sealKeyFile ?? sealKeyCommand;
  if (modelSeal === 'off' && seal !== undefined) {
    const message = '--model-seal off: a seal’s root or key is given, and would not be looked at';
    throw new UsageError('bad-combination', message);
  }
  if (settings.loadFormat === 'dummy' && (modelSeal === 'require' || seal !== undefined)) {
    const message = '--load-format dummy: random weights have no seal, and nothing to decrypt';
    throw new UsageError('bad-combination', message);
  }
}
