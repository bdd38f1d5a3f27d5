import type { EngineCommand } from './engine-command.ts';
import type { Option } from './options.ts';

/** The option as it counts: the last one of its name without a dotted path. */
export function lastOption(command: EngineCommand, name: string): Option | undefined {
  return command.options.findLast((option) => option.name === name && option.path.length === 0);
}

/** A setting of the configuration file, by the option's name with dashes or underscores. */
function fromFile({ file }: EngineCommand, name: string): unknown {
  return file?.settings[name] ?? file?.settings[name.replaceAll('-', '_')];
}

/** An option's value as text: from the command, else from its file, else undefined. */
export function optionText(command: EngineCommand, name: string): string | undefined {
  const option = lastOption(command, name);
  if (option !== undefined) return option.value ?? undefined;
  const value = fromFile(command, name);
  return value === undefined || typeof value === 'object' ? undefined : String(value);
}

/** An option's value as a number; undefined where there is none or it is not a number. */
export function optionNumber(command: EngineCommand, name: string): number | undefined {
  const value = Number(optionText(command, name)?.trim() || Number.NaN);
  return Number.isFinite(value) ? value : undefined;
}

/** Whether a switch is on or off; undefined where nothing says so. */
export function switchState(command: EngineCommand, name: string): boolean | undefined {
  const option = lastOption(command, name);
  if (option !== undefined) return !option.negated && !/^(?:false|0)$/i.test(option.value ?? '');
  const value = fromFile(command, name);
  return typeof value === 'boolean' ? value : undefined;
}

/**
 * A value inside a structured setting: from `--name.a.b`, the JSON of `--name`, or the file.
 * undefined where nothing says so, or the JSON is none.
 */
export function structuredValue(
  command: EngineCommand,
  name: string,
  path: readonly string[],
): unknown {
  const dotted = command.options.findLast(
    (option) => option.name === name && option.path.join('.') === path.join('.'),
  );
  if (dotted !== undefined && path.length > 0) {
    return parseJson(dotted.value ?? 'true') ?? dotted.value;
  }
  const whole = lastOption(command, name);
  return descend(
    whole === undefined ? structureInFile(command, name) : parseJson(whole.value),
    path,
  );
}

/** A structured setting of the file: an object, or JSON text as the command line takes it. */
export function structureInFile(command: EngineCommand, name: string): unknown {
  const value = fromFile(command, name);
  return typeof value === 'string' ? parseJson(value) : value;
}

/** No setting is nested deeper; what walks the value recurses. */
const MAX_BRACKETS = 1000;

/** What JSON text says; undefined where it is none, or more than a setting holds. */
export function parseJson(text: string | null): unknown {
  if (text === null || text.split(/[[{]/, MAX_BRACKETS + 2).length > MAX_BRACKETS + 1) {
    return undefined;
  }
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function descend(value: unknown, path: readonly string[]): unknown {
  let at = value;
  for (const key of path) {
    if (typeof at !== 'object' || at === null) return undefined;
    at = (at as Record<string, unknown>)[key];
  }
  return at;
}

/** GPUs that the command asks for. */
export function parallelGpus(command: EngineCommand): number {
  const names = ['tensor-parallel-size', 'pipeline-parallel-size', 'data-parallel-size'];
  return names.reduce((product, name) => product * (optionNumber(command, name) ?? 1), 1);
}

/** Whether layers are split over GPUs, so that every layer ends in a collective. */
export function splitsTensors(command: EngineCommand): boolean {
  return (optionNumber(command, 'tensor-parallel-size') ?? 1) > 1;
}

/** A variable that is set to something other than off. */
export function variableIsOn({ variables }: EngineCommand, name: string): boolean {
  const value = variables.get(name);
  return value !== undefined && !/^(?:|0|false|off|no)$/i.test(value);
}
