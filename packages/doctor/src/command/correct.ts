import { quoteStyleOf, quoteWord, usualStyle } from '@bridgekeeper/server';
import { type EngineCommand, readEngineCommand } from './engine-command.ts';
import { lastOption, parseJson, structureInFile } from './queries.ts';

type Value = boolean | number | string;

/** One thing to change in how an engine is started. */
export type Change =
  | { readonly kind: 'remove-option'; readonly name: string }
  | { readonly kind: 'switch'; readonly name: string; readonly on: boolean }
  | { readonly kind: 'set-option'; readonly name: string; readonly value: string }
  /** Sets one value inside an option that takes JSON, and leaves the rest of it. */
  | {
      readonly kind: 'set-inside';
      readonly name: string;
      readonly path: readonly string[];
      readonly value: Value;
    }
  | { readonly kind: 'set-variable'; readonly name: string; readonly value: string }
  | { readonly kind: 'unset-variable'; readonly name: string }
  /** A setting that only the engine's configuration file can hold. */
  | { readonly kind: 'set-in-file'; readonly key: string; readonly value: Value | null };

export interface Correction {
  /** The whole command, changed where it must be and nowhere else. */
  readonly command: string;
  /** For each change, in words, where it was made or has to be made. */
  readonly steps: readonly string[];
}

interface Edit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

interface Step {
  readonly edits: readonly Edit[];
  readonly step: string;
}

/**
 * Carries out changes on the text of the command, one after the other, keeping its layout and
 * quoting.
 */
export function correct(command: EngineCommand, changes: readonly Change[]): Correction {
  const steps: string[] = [];
  let current = command;
  for (const change of changes) {
    const { edits, step } = apply(current, change);
    steps.push(step);
    let text = current.source;
    // From the back, so that earlier places keep their meaning.
    for (const { start, end, text: by } of [...edits].sort((a, b) => b.start - a.start)) {
      text = text.slice(0, start) + by + text.slice(end);
    }
    const { variables, file } = command;
    if (edits.length > 0) current = readEngineCommand(text, { variables, file });
  }
  return { command: current.source, steps };
}

function apply(command: EngineCommand, change: Change): Step {
  switch (change.kind) {
    case 'remove-option':
      return removeOption(command, change.name);
    case 'switch':
      return setSwitch(command, change.name, change.on);
    case 'set-option':
      return setOption(command, change.name, change.value);
    case 'set-inside':
      return setInside(command, change.name, change.path, change.value);
    case 'set-variable':
      return setVariable(command, change.name, change.value);
    case 'unset-variable':
      return unsetVariable(command, change.name);
    case 'set-in-file': {
      const where = command.file === null ? 'a file given with --config' : command.file.path;
      return { edits: [], step: `in ${where}: ${change.key}: ${change.value ?? 'leave it out'}` };
    }
  }
}

/** A word of the source that must be there. */
const at = (command: EngineCommand, index: number) => command.words[index]!;

function removeOption(command: EngineCommand, name: string): Step {
  const options = command.options.filter((option) => option.name === name);
  const edits = options.map(({ first, last }) => ({
    start: at(command, first - 1).end,
    end: at(command, last).end,
    text: '',
  }));
  if (edits.length === 0 && command.file !== null) {
    return { edits, step: `in ${command.file.path}: remove ${name}` };
  }
  return { edits, step: `removed --${name}` };
}

function setSwitch(command: EngineCommand, name: string, on: boolean): Step {
  const flag = `--${on ? '' : 'no-'}${name}`;
  const existing = lastOption(command, name);
  if (existing === undefined) return { edits: [append(command, flag)], step: `added ${flag}` };
  const { start } = at(command, existing.first);
  const { end } = at(command, existing.last);
  return { edits: [{ start, end, text: flag }], step: `turned --${name} into ${flag}` };
}

function setOption(command: EngineCommand, name: string, value: string): Step {
  const existing = lastOption(command, name);
  if (existing === undefined) {
    const text = `--${name} ${quoteWord(value, usualStyle(command))}`;
    return { edits: [append(command, text)], step: `added ${text}` };
  }
  const word = at(command, existing.last);
  const inline = existing.first === existing.last;
  const style = quoteStyleOf(command, word);
  const quoted = quoteWord(value, style);
  const spelled = word.text.slice(0, word.text.indexOf('='));
  const text = inline ? `${spelled}=${quoted}` : quoted;
  return { edits: [{ start: word.start, end: word.end, text }], step: `--${name} is ${value}` };
}

function setInside(
  command: EngineCommand,
  name: string,
  path: readonly string[],
  value: Value,
): Step {
  const dotted = command.options.findLast(
    (option) => option.name === name && option.path.join('.') === path.join('.'),
  );
  const inner = `${path.join('.')} ${value}`;
  if (dotted !== undefined) {
    const { start } = at(command, dotted.first);
    const { end } = at(command, dotted.last);
    const text = `--${name}.${path.join('.')}=${value}`;
    return { edits: [{ start, end, text }], step: `changed --${name}: ${inner}` };
  }
  const before = lastOption(command, name);
  if (before === undefined && structureInFile(command, name) !== undefined) {
    return { edits: [], step: `in ${command.file!.path}: ${name}: ${inner}` };
  }
  const json = JSON.stringify(withValue(parseJson(before?.value ?? null), path, value));
  const { edits } = setOption(command, name, json);
  const verb = before === undefined ? 'added' : 'changed';
  return { edits, step: `${verb} --${name}: ${inner}` };
}

function withValue(base: unknown, [key, ...rest]: readonly string[], value: Value): unknown {
  if (key === undefined) return value;
  const object = typeof base === 'object' && base !== null ? (base as Record<string, unknown>) : {};
  return { ...object, [key]: withValue(object[key], rest, value) };
}

function setVariable(command: EngineCommand, name: string, value: string): Step {
  const assignment = `${name}=${quoteWord(value, 'single')}`;
  const step = `environment: ${assignment}`;
  const existing = assignmentOf(command, name);
  if (existing !== undefined) {
    const { start, end } = at(command, existing);
    return { edits: [{ start, end, text: assignment }], step };
  }
  if (command.container !== null) {
    const { end } = at(command, command.container);
    return { edits: [{ start: end, end, text: ` -e ${assignment}` }], step };
  }
  const last = command.assignments.at(-1);
  if (last !== undefined) {
    const { end } = at(command, last);
    const text = `${command.source.slice(end, at(command, last + 1).start)}${assignment}`;
    return { edits: [{ start: end, end, text }], step };
  }
  // `sudo` and `env` take variables behind them; the shell takes them in front.
  const wrapped = /^(?:sudo|env)$/.test(at(command, 0).text);
  const behind = command.words.findIndex(({ text }, index) => index > 0 && !text.startsWith('-'));
  const { start } = at(command, wrapped ? behind : 0);
  return { edits: [{ start, end: start, text: `${assignment} ` }], step };
}

function unsetVariable(command: EngineCommand, name: string): Step {
  const step = `environment: unset ${name}`;
  const index = assignmentOf(command, name);
  if (index === undefined) return { edits: [], step: `${step}, which the surroundings set` };
  // With the `-e` in front of it, in a container's options.
  const first = command.container === null ? index : index - 1;
  const { start } = at(command, first);
  return { edits: [{ start, end: at(command, index + 1).start, text: '' }], step };
}

function assignmentOf(command: EngineCommand, name: string): number | undefined {
  return command.assignments.findLast((index) => at(command, index).text.startsWith(`${name}=`));
}

/** Behind the last word, set off as the last option was from what stands before it. */
function append(command: EngineCommand, text: string): Edit {
  const { end } = command.words.at(-1)!;
  const last = command.options.at(-1);
  const gap =
    last === undefined
      ? ' '
      : command.source.slice(at(command, last.first - 1).end, at(command, last.first).start);
  return { start: end, end, text: `${gap}${text}` };
}
