import type { Word } from '@bridgekeeper/server';

/** One option of an engine's command line, under its long name with dashes. */
export interface Option {
  readonly name: string;
  /** `['pass_config', 'fuse']` of `--compilation-config.pass_config.fuse`; empty without dots. */
  readonly path: readonly string[];
  /** `--no-name`. */
  readonly negated: boolean;
  /** null: none was given, as for a switch. */
  readonly value: string | null;
  /** Indices of the first and the last word it takes. */
  readonly first: number;
  readonly last: number;
}

/** What must be known of an engine's options to read them. Names have no leading dashes. */
export interface OptionTable {
  /** Other spellings, with their leading dashes: `-tp` to `tensor-parallel-size`. */
  readonly aliases: Readonly<Record<string, string>>;
  /** Options that take no value, so that the word behind them is not theirs. */
  readonly switches: ReadonlySet<string>;
}

/** Reads options from word `from` on, as argparse and click do. Other words are left alone. */
export function readOptions(words: readonly Word[], from: number, table: OptionTable): Option[] {
  const options: Option[] = [];
  for (let index = from; index < words.length; index++) {
    const { text } = words[index]!;
    if (text === '--') break;
    if (!/^--?[A-Za-z]/.test(text)) continue;
    const equals = text.indexOf('=');
    const named = readName(equals < 0 ? text : text.slice(0, equals), table);
    if (named === null) continue;
    let value = equals < 0 ? named.value : text.slice(equals + 1);
    let last = index;
    const isSwitch = named.negated || (named.path.length === 0 && table.switches.has(named.name));
    const next = words[index + 1]?.text;
    if (value === null && !isSwitch && next !== undefined && !/^--?[A-Za-z]/.test(next)) {
      value = next;
      last = index + 1;
    }
    options.push({ ...named, value, first: index, last });
    index = last;
  }
  return options;
}

type Named = Pick<Option, 'name' | 'path' | 'negated' | 'value'>;

function readName(spelled: string, { aliases }: OptionTable): Named | null {
  const [head = '', ...path] = spelled.split('.');
  const level = /^-O(\d)$/.exec(head)?.[1];
  if (level !== undefined) {
    return { name: 'optimization-level', path: [], negated: false, value: level };
  }
  const known = aliases[head] ?? aliases[head.replaceAll('_', '-')];
  if (known !== undefined) return { name: known, path, negated: false, value: null };
  if (!head.startsWith('--')) return null;
  const name = head.slice(2).replaceAll('_', '-');
  const negated = name.startsWith('no-');
  return { name: negated ? name.slice(3) : name, path, negated, value: null };
}
