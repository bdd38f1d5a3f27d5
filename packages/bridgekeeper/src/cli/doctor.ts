import {
  type DoctorRequest,
  examine,
  type Finding,
  parseVersion,
  renderExamination,
  rulesDocument,
  SEVERITIES,
  type Severity,
  splitAssignment,
} from '@bridgekeeper/doctor';
import {
  CommandError,
  flagOf,
  integer,
  type Kind,
  oneOf,
  type Resolved,
  SETTING_NAMES,
  type SettingName,
  settingOf,
  text,
  UsageError,
} from '@bridgekeeper/server';
import type { Command } from 'commander';
import type { CliIo } from '../io.ts';
import { readVersion } from '../version.ts';
import { addSettings, settingsOf } from './settings-flags.ts';

const GPUS = ['h100', 'h200', 'b200', 'b300'] as const;

/** The options of `doctor` beside the settings, each with how its text is read. */
const OPTIONS = {
  engineCommand: { kind: text('command'), help: 'examine this command of an engine' },
  engineVersion: { kind: text('version'), help: 'the version that the command starts' },
  pid: { kind: integer(1, 2 ** 22), help: 'examine this running engine' },
  assumeCc: { kind: oneOf('on', 'off'), help: 'confidential computing on the machine it is for' },
  assumeGpu: { kind: oneOf(...GPUS), help: 'the GPU of the machine it is for' },
  failOn: { kind: oneOf(...SEVERITIES), help: 'exit with 1 for a finding at or above this' },
} as const satisfies Readonly<Record<string, { kind: Kind<unknown>; help: string }>>;

type OptionName = keyof typeof OPTIONS;
type Options = Partial<Readonly<Record<OptionName, string>>> & {
  readonly engineEnvironment?: readonly string[];
  readonly settings?: true;
  readonly rules?: true;
};

/** Adds `doctor` to the program; `setCode` takes its exit code. */
export function addDoctorCommand(program: Command, io: CliIo, setCode: (code: number) => void) {
  const command = addSettings(program.command('doctor'))
    .description('inspect this machine, the settings, and the command line of an engine')
    .option('--settings', 'list every setting, not only those that are set')
    .option('--rules', 'print every rule with its sources, as docs/doctor.md');
  for (const [name, { kind, help }] of Object.entries(OPTIONS)) {
    command.option(`--${flagOf(name)} <${kind.metavar}>`, help);
  }
  const repeated = (value: string, before: readonly string[] = []) => [...before, value];
  const help = 'a variable the engine will have; may be repeated';
  command.option('--engine-environment <NAME=VALUE>', help, repeated);
  command.action(async () => {
    setCode(await doctor(settingsOf(command, io), command.opts<Options>(), io));
  });
}

/** Resolves to the exit code. Throws UsageError. */
async function doctor(resolved: Resolved, options: Options, io: CliIo): Promise<0 | 1> {
  if (options.rules) {
    io.out(rulesDocument().trimEnd());
    return 0;
  }
  const failOn = read('failOn', options);
  const request = requestOf(resolved, options);
  const examination = asUsage(() => examine(request));
  const { settings } = resolved;
  if (settings.json) {
    const rows = settingRows(resolved);
    io.out(JSON.stringify({ ...readVersion(), ...examination, settings: rows }));
  } else {
    const { version, node } = readVersion();
    io.out(`bridgekeeper ${version}, Node ${node}`);
    const colour = io.isTerminal && io.environment.NO_COLOR === undefined;
    for (const line of renderExamination(examination, colour)) io.out(line);
    for (const line of settingLines(resolved, options.settings === true)) io.out(line);
  }
  return failOn !== undefined && fails(examination.findings, failOn) ? 1 : 0;
}

const fails = (findings: readonly Finding[], failOn: Severity) =>
  findings.some(({ severity }) => SEVERITIES.indexOf(severity) <= SEVERITIES.indexOf(failOn));

function requestOf({ settings }: Resolved, options: Options): DoctorRequest {
  const engineCommand = read('engineCommand', options);
  const pid = read('pid', options);
  if (engineCommand !== undefined && pid !== undefined) {
    throw new UsageError('bad-combination', '--engine-command and --pid: give one of them');
  }
  const versionText = read('engineVersion', options);
  const engineVersion = versionText === undefined ? undefined : parseVersion(versionText);
  if (engineVersion === null) {
    throw new UsageError('bad-value', '--engine-version: must be a version such as 0.29.0');
  }
  const assumeCc = read('assumeCc', options);
  const assumeGpu = read('assumeGpu', options);
  return {
    settings,
    engineVariables: new Map((options.engineEnvironment ?? []).map(assignment)),
    ...(engineCommand !== undefined && { engineCommand }),
    ...(pid !== undefined && { pid }),
    ...(engineVersion !== undefined && { engineVersion }),
    ...(assumeCc !== undefined && { assumeConfidential: assumeCc === 'on' }),
    ...(assumeGpu !== undefined && { assumeGpu }),
  };
}

type OptionValue<Name extends OptionName> =
  (typeof OPTIONS)[Name]['kind'] extends Kind<infer T> ? T : never;

function read<Name extends OptionName>(
  name: Name,
  options: Options,
): OptionValue<Name> | undefined {
  const given = options[name];
  if (given === undefined) return undefined;
  try {
    return OPTIONS[name].kind.parse(given) as OptionValue<Name>;
  } catch (error) {
    throw new UsageError('bad-value', `--${flagOf(name)}: ${(error as Error).message}`);
  }
}

function assignment(given: string): [string, string] {
  const pair = splitAssignment(given);
  // The text may be a secret.
  if (pair === null) throw new UsageError('bad-value', '--engine-environment: must be NAME=VALUE');
  return pair;
}

function asUsage<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new UsageError('bad-value', `the engine’s command: ${error.message}`, { cause: error });
  }
}

function settingRows({ settings, origins }: Resolved) {
  return SETTING_NAMES.map((name) => ({
    setting: flagOf(name),
    value: shownValue(name, settings[name]),
    origin: origins[name],
  }));
}

/** Secrets are counted, not shown. */
function shownValue(name: SettingName, value: unknown): unknown {
  if (settingOf(name).kind.secret) return `${(value as readonly unknown[]).length} set`;
  return value ?? null;
}

function settingLines(resolved: Resolved, all: boolean): string[] {
  const rows = settingRows(resolved);
  const shown = rows.filter(({ origin }) => all || origin.kind !== 'default');
  const rest = rows.length - shown.length;
  const width = Math.max(...rows.map(({ setting }) => setting.length));
  const lines = shown.map(({ setting, value, origin }) => {
    const text = value === null ? '(not set)' : [value].flat().join(', ') || '(none)';
    return `${setting.padEnd(width)}  ${text}  [${origin.name}]`;
  });
  const others = rest === 0 ? [] : [`${rest} settings have their defaults (--settings lists them)`];
  return ['', 'Settings of Bridgekeeper', ...lines, ...others];
}
