import { type ConfigReader, show } from './config-reader.ts';

/**
 * Lists of modules in quantization configurations. An entry is a module's name or a run of its
 * dotted parts, with `*` for any part (`lm_head`, `mlp.down_proj`, `model.layers.0.*`), or `re:`
 * and a regular expression that the name begins with, as compressed-tensors has it.
 */

const REGULAR = 're:';
const PATTERN_LIMIT = 2000;
/** A name has some 40 characters: this many unbounded repetitions can be tried in no time. */
const REPETITIONS_LIMIT = 4;
const REPETITION = /[*+]|\{\d*,\d*\}/g;
const REPEATED_GROUP = /\)(?:[*+]|\{)/;
const BACKREFERENCE = /\\[1-9k]/;

/** What is wrong with an entry, or undefined. */
function patternFault(entry: string): string | undefined {
  if (!entry.startsWith(REGULAR)) return entry === '' ? 'is empty' : undefined;
  const source = entry.slice(REGULAR.length);
  const repetitions = source.match(REPETITION)?.length ?? 0;
  const isCostly = source.length > PATTERN_LIMIT || repetitions > REPETITIONS_LIMIT;
  if (isCostly || REPEATED_GROUP.test(source) || BACKREFERENCE.test(source)) {
    return `is too costly an expression; at most ${REPETITIONS_LIMIT} repetitions, none of groups`;
  }
  try {
    new RegExp(source);
    return undefined;
  } catch {
    return 'is no regular expression';
  }
}

/** Whether one of the entries, which must be without fault, names the module. */
export function isNamed(module: string, entries: readonly string[]): boolean {
  return entries.some((entry) =>
    entry.startsWith(REGULAR)
      ? new RegExp(`^(?:${entry.slice(REGULAR.length)})`).test(module)
      : hasRun(module.split('.'), entry.split('.')),
  );
}

function hasRun(parts: readonly string[], entry: readonly string[]): boolean {
  // A trailing wildcard or dot stands for whatever lies below.
  let length = entry.length;
  while (length > 1 && (entry[length - 1] === '*' || entry[length - 1] === '')) length--;
  const run = entry.slice(0, length);
  return parts.some((_, start) =>
    run.every((part, i) => part === '*' || part === parts[start + i]),
  );
}

/** The entries under `key`; absent is empty. Throws ModelError `malformed` or `unsupported`. */
export function readPatterns(config: ConfigReader, key: string): readonly string[] {
  const value = config.get(key) ?? [];
  const isTexts = Array.isArray(value) && value.every((entry) => typeof entry === 'string');
  if (!isTexts) throw config.error('malformed', key, 'must be a list of module names');
  for (const entry of value as string[]) {
    const fault = patternFault(entry);
    if (fault === undefined) continue;
    throw config.error('unsupported', key, `has ${show(entry)}, which ${fault}`);
  }
  return value as string[];
}
