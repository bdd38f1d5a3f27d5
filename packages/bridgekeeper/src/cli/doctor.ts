import type { Resolved } from '../settings/resolve.ts';
import { flagOf, SETTING_NAMES, type SettingName, settingOf } from '../settings/table.ts';
import { readVersion } from '../version.ts';
import type { CliIo } from './io.ts';

function shownValue(name: SettingName, value: unknown): unknown {
  if (settingOf(name).kind.secret) return `${(value as readonly unknown[]).length} set`;
  return value ?? null;
}

/** Prints every setting, its value and where that came from. Secrets are counted, not shown. */
export function doctor({ settings, origins }: Resolved, io: CliIo): void {
  const rows = SETTING_NAMES.map((name) => ({
    setting: flagOf(name),
    value: shownValue(name, settings[name]),
    origin: origins[name],
  }));
  if (settings.json) {
    io.out(JSON.stringify({ ...readVersion(), settings: rows }));
    return;
  }
  const { version, node } = readVersion();
  io.out(`bridgekeeper ${version}, Node ${node}`);
  const width = Math.max(...rows.map(({ setting }) => setting.length));
  for (const { setting, value, origin } of rows) {
    const text = value === null ? '(not set)' : [value].flat().join(', ') || '(none)';
    io.out(`${setting.padEnd(width)}  ${text}  [${origin.name}]`);
  }
}
