import {
  type DoctorRequest,
  examine,
  examineAndPlan,
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
  type Flag,
  flag,
  flagOf,
  integer,
  kindOf,
  oneOf,
  onOff,
  type Resolved,
  repeated,
  SETTINGS,
  type SettingName,
  secret,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server';
import type { CliIo } from '../io.ts';
import { readVersion } from '../version.ts';
import type { CliCommand } from './command.ts';
import { versionLine } from './version.ts';

const FLAGS = {
  ...SETTINGS,
  settings: flag(onOff(), false, 'list every setting, not only those that are set'),
  rules: flag(onOff(), false, 'print every rule with its sources, as docs/doctor.md'),
  engineCommand: flag(text('command'), undefined, 'examine this command of an engine'),
  engineVersion: flag(
    kindOf(
      'version',
      'a version such as 0.29.0',
      (value): readonly number[] | undefined => parseVersion(value) ?? undefined,
    ),
    undefined,
    'the version that the command starts',
  ),
  pid: flag(integer(1, 2 ** 22), undefined, 'examine this running engine'),
  assumeCc: flag(oneOf('on', 'off'), undefined, 'confidential computing on the machine it is for'),
  assumeGpu: flag(
    oneOf('h100', 'h200', 'b200', 'b300'),
    undefined,
    'the GPU of the machine it is for',
  ),
  plan: flag(onOff(), true, 'predict what remedies bring, which takes seconds'),
  failOn: flag(oneOf(...SEVERITIES), undefined, 'exit with 1 for a finding at or above this'),
  // The text may be a secret.
  engineEnvironment: flag(
    secret(
      repeated(kindOf('NAME=VALUE', 'NAME=VALUE', (text) => splitAssignment(text) ?? undefined)),
    ),
    [],
    'a variable the engine will have; may be repeated',
  ),
};

type Flags = Values<typeof FLAGS>;

export const DOCTOR: CliCommand<typeof FLAGS> = {
  name: 'doctor',
  summary: 'inspect this machine, the settings, and the command line of an engine',
  flags: FLAGS,
  run: doctor,
};

/** Resolves to the exit code. Throws UsageError. */
async function doctor(resolved: Resolved<typeof FLAGS>, io: CliIo): Promise<0 | 1> {
  const { values } = resolved;
  if (values.rules) {
    io.out(rulesDocument().trimEnd());
    return 0;
  }
  const request = requestOf(values);
  const examination = await asUsage(async () => {
    return values.plan ? examineAndPlan(request) : examine(request);
  });
  if (values.json) {
    const rows = settingRows(resolved);
    io.out(JSON.stringify({ ...readVersion(), ...examination, settings: rows }));
  } else {
    io.out(versionLine());
    const colour = io.isTerminal && io.environment.NO_COLOR === undefined;
    for (const line of renderExamination(examination, colour)) io.out(line);
    for (const line of settingLines(resolved)) io.out(line);
  }
  return values.failOn !== undefined && fails(examination.findings, values.failOn) ? 1 : 0;
}

const fails = (findings: readonly Finding[], failOn: Severity) =>
  findings.some(({ severity }) => SEVERITIES.indexOf(severity) <= SEVERITIES.indexOf(failOn));

function requestOf(flags: Flags): DoctorRequest {
  const { engineCommand, pid, engineVersion, assumeCc, assumeGpu } = flags;
  if (engineCommand !== undefined && pid !== undefined) {
    throw new UsageError('bad-combination', '--engine-command and --pid: give one of them');
  }
  return {
    settings: flags,
    engineVariables: new Map(flags.engineEnvironment),
    ...(engineCommand !== undefined && { engineCommand }),
    ...(pid !== undefined && { pid }),
    ...(engineVersion !== undefined && { engineVersion }),
    ...(assumeCc !== undefined && { assumeConfidential: assumeCc === 'on' }),
    ...(assumeGpu !== undefined && { assumeGpu }),
  };
}

async function asUsage<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new UsageError('bad-value', `the engine’s command: ${error.message}`, { cause: error });
  }
}

function settingRows({ values, origins }: Resolved<typeof FLAGS>) {
  return (Object.keys(SETTINGS) as SettingName[]).map((name) => ({
    setting: flagOf(name),
    value: shownValue(SETTINGS[name], values[name]),
    origin: origins[name],
  }));
}

/** Secrets are counted, not shown. */
function shownValue({ kind }: Flag<unknown>, value: unknown): unknown {
  if (kind.secret) return `${(value as readonly unknown[]).length} set`;
  return value ?? null;
}

function settingLines(resolved: Resolved<typeof FLAGS>): string[] {
  const rows = settingRows(resolved);
  const shown = rows.filter(({ origin }) => resolved.values.settings || origin.kind !== 'default');
  const rest = rows.length - shown.length;
  const width = Math.max(...rows.map(({ setting }) => setting.length));
  const lines = shown.map(({ setting, value, origin }) => {
    const text = value === null ? '(not set)' : [value].flat().join(', ') || '(none)';
    return `${setting.padEnd(width)}  ${text}  [${origin.name}]`;
  });
  const others = rest === 0 ? [] : [`${rest} settings have their defaults (--settings lists them)`];
  return ['', 'Settings of Bridgekeeper', ...lines, ...others];
}
