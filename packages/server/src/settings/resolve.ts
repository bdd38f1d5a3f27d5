import { parse as parseYaml } from 'yaml';
import {
  environmentOf,
  flagOf,
  SETTING_NAMES,
  type SettingName,
  type Settings,
  settingOf,
} from './table.ts';

export type OriginKind = 'flag' | 'environment' | 'file' | 'default';

/**
 * Where a value came from, in words a user can act on: `--port`, `BRIDGEKEEPER_PORT`, `port in
 * serve.yaml`.
 */
export interface Origin {
  readonly kind: OriginKind;
  readonly name: string;
}

export interface Resolved {
  readonly settings: Settings;
  readonly origins: Readonly<Record<SettingName, Origin>>;
}

export type UsageErrorCode = 'bad-value' | 'unknown-setting' | 'bad-file' | 'bad-combination';

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

/** What the sources say, before anything is parsed. */
export interface Sources {
  readonly flags: Partial<Readonly<Record<SettingName, string | boolean | readonly string[]>>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Reads the configuration file; throws what `fs.readFileSync` throws. */
  readonly readFile: (path: string) => string;
}

interface Found {
  readonly texts: readonly string[];
  readonly origin: Origin;
}

type FileValues = ReadonlyMap<SettingName, Found>;

/** Settles every setting: flag before environment before file before default. Throws UsageError. */
export function resolveSettings(sources: Sources): Resolved {
  const fromFile = readConfiguration(sources);
  const settings: Partial<Record<SettingName, unknown>> = {};
  const origins: Partial<Record<SettingName, Origin>> = {};
  for (const name of SETTING_NAMES) {
    const found = fromFlag(sources, name) ?? fromEnvironment(sources, name) ?? fromFile.get(name);
    settings[name] = found ? parseFound(name, found) : settingOf(name).default;
    origins[name] = found?.origin ?? { kind: 'default', name: 'default' };
  }
  const resolved = { settings, origins } as Resolved;
  checkCombinations(resolved.settings);
  return resolved;
}

function fromFlag(sources: Sources, name: SettingName): Found | undefined {
  const value = sources.flags[name];
  if (value === undefined) return undefined;
  const texts = Array.isArray(value) ? (value as readonly string[]) : [String(value)];
  const shown = name === 'model' ? 'argument model' : `--${flagOf(name)}`;
  return { texts, origin: { kind: 'flag', name: shown } };
}

function fromEnvironment(sources: Sources, name: SettingName): Found | undefined {
  const variable = environmentOf(name);
  const value = sources.environment[variable];
  if (value === undefined) return undefined;
  return { texts: [value], origin: { kind: 'environment', name: variable } };
}

function parseFound(name: SettingName, { texts, origin }: Found): unknown {
  const { kind } = settingOf(name);
  try {
    if (kind.list) return texts.flatMap((text) => kind.parse(text) as readonly string[]);
    return kind.parse(texts[texts.length - 1] ?? '');
  } catch (error) {
    throw new UsageError('bad-value', `${origin.name}: ${(error as Error).message}`);
  }
}

function readConfiguration(sources: Sources): FileValues {
  const path =
    fromFlag(sources, 'config')?.texts[0] ?? fromEnvironment(sources, 'config')?.texts[0];
  if (path === undefined) return new Map();
  let document: unknown;
  try {
    document = parseYaml(sources.readFile(path));
  } catch (error) {
    const reason = (error as Error).message.split('\n')[0];
    throw new UsageError('bad-file', `--config ${path}: ${reason}`, { cause: error });
  }
  if (document === null) return new Map();
  if (typeof document !== 'object' || Array.isArray(document)) {
    throw new UsageError('bad-file', `--config ${path}: must hold "flag: value" lines`);
  }
  return new Map(
    Object.entries(document).map(([key, value]) => {
      const name = SETTING_NAMES.find((candidate) => flagOf(candidate) === key);
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
    if (typeof each === 'string' || typeof each === 'number' || typeof each === 'boolean') {
      return String(each);
    }
    throw new UsageError('bad-value', `${origin.name}: must be text, a number, true or false`);
  });
}

function checkCombinations(settings: Settings): void {
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
  if (modelSeal === 'off' && (sealRoot ?? sealKeyFile ?? sealKeyCommand) !== undefined) {
    const message = '--model-seal off: a seal’s root or key is given, and would not be looked at';
    throw new UsageError('bad-combination', message);
  }
  if (settings.loadFormat === 'dummy' && (modelSeal === 'require' || sealRoot !== undefined)) {
    const message = '--load-format dummy: random weights are not those that were sealed';
    throw new UsageError('bad-combination', message);
  }
}
