import { environmentOf, type Flag, type FlagTable, flagOf, type Values } from './flags.ts';
import type { Settings } from './table.ts';
import { variableOf } from './variables.ts';

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
  /**
   * What the configuration file of that path, which `origin` named, says by setting; throws
   * UsageError. An argument, as most commands have none and no use for YAML.
   */
  readonly readConfiguration: (path: string, origin: Origin) => ReadonlyMap<string, Found>;
  /** Throws UsageError for a variable that nothing reads; absent where there are no settings. */
  readonly checkVariables?: (environment: Sources['environment']) => void;
}

/** What a source said of one flag. */
export interface Found {
  readonly texts: readonly string[];
  readonly origin: Origin;
}

/**
 * Settles every flag of a table: the command line before, for a setting, environment and
 * configuration file, before the default. Throws UsageError.
 */
export function resolveFlags<F extends FlagTable>(table: F, sources: Sources): Resolved<F> {
  sources.checkVariables?.(sources.environment);
  const named = table.config && findText('config', table.config, sources);
  const path = named?.texts.at(-1);
  // An empty name is refused with all other values.
  const fromFile = named && path ? sources.readConfiguration(path, named.origin) : undefined;
  const values: Record<string, unknown> = {};
  const origins: Record<string, Origin> = {};
  for (const [name, flag] of Object.entries(table)) {
    const found = findText(name, flag, sources) ?? (flag.isSetting && fromFile?.get(name));
    values[name] = found ? parseFound(flag, found) : flag.default;
    origins[name] = found ? found.origin : { kind: 'default', name: 'default' };
  }
  checkCombinations(values as Partial<Settings>);
  return { values, origins, given: sources.flags } as Resolved<F>;
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

/** Holds wherever these settings are among the flags. */
export function checkCombinations(settings: Partial<Settings>): void {
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
