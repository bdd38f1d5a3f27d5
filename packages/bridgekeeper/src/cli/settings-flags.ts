import {
  environmentOf,
  flagOf,
  type Resolved,
  resolveSettings,
  SETTING_NAMES,
  type SettingName,
  type Sources,
  settingOf,
} from '@bridgekeeper/server';
import { type Command, Option } from 'commander';
import type { CliIo } from '../io.ts';

/** Adds every setting of the table as a flag, and the model as an argument. */
export function addSettings(command: Command): Command {
  command.argument('[model]', settingOf('model').help);
  for (const name of SETTING_NAMES) {
    if (name !== 'model') addFlag(command, name);
  }
  return command;
}

function addFlag(command: Command, name: SettingName): void {
  const { kind, help, default: fallback } = settingOf(name);
  const flag = flagOf(name);
  const shown = describeDefault(fallback);
  const text = `${help}${shown === '' ? '' : ` (default: ${shown})`} [${environmentOf(name)}]`;
  if (kind.isSwitch) {
    command.addOption(new Option(`--${flag}`, text));
    if (fallback === true) command.addOption(new Option(`--no-${flag}`, `not --${flag}`));
    return;
  }
  const option = new Option(`--${flag} <${kind.metavar}>`, text);
  if (kind.list) option.argParser((value, before) => [...((before as string[]) ?? []), value]);
  command.addOption(option);
}

function describeDefault(value: unknown): string {
  if (value === undefined || value === false || (Array.isArray(value) && value.length === 0)) {
    return '';
  }
  return String(value);
}

/** Settles the settings of a command that `addSettings` was called on. Throws UsageError. */
export function settingsOf(command: Command, io: CliIo): Resolved {
  const flags = { ...command.opts() } as Record<string, Sources['flags'][SettingName]>;
  const model = command.args[0];
  if (model !== undefined) flags.model = model;
  return resolveSettings({ flags, environment: io.environment, readFile: io.readFile });
}
