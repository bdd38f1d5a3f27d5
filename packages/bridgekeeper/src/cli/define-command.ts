import {
  environmentOf,
  type Flag,
  flagOf,
  type GivenFlags,
  type Origin,
  resolveFlags,
} from '@bridgekeeper/server/settings';
import { type Command, Option } from 'commander';
import type { CliIo } from '../io.ts';
import { type CliCommand, type ExitCode, offeredFlags } from './command.ts';

/** Has `command` parse the flags of `spec` and run it; `setCode` takes the exit code. */
export function defineCommand(
  command: Command,
  spec: CliCommand,
  io: CliIo,
  remarks: readonly string[],
  setCode: (code: ExitCode) => void,
): void {
  const flags = offeredFlags(spec);
  const hasArguments = flags.some(([, { argument }]) => argument !== undefined);
  command.description(spec.summary);
  for (const [name, flag] of flags) {
    if (flag.argument === undefined) addFlag(command, name, flag, hasArguments);
    else addArgument(command, name, flag);
  }
  if (spec.notes !== undefined) command.addHelpText('after', `\n${spec.notes}`);
  command.action(async () => {
    const configuration = await configurationOf(spec, io);
    const { environment } = io;
    const sources = { flags: givenFlags(command, flags), environment, ...configuration };
    setCode(await spec.run(resolveFlags(spec.flags, sources), io, remarks));
  });
}

/** Settings and YAML are loaded for commands that have a configuration file. */
async function configurationOf({ flags }: CliCommand, { readFile }: CliIo) {
  if (flags.config === undefined) return { readConfiguration: () => new Map() };
  const { checkVariables, readConfiguration } = await import('@bridgekeeper/server');
  return {
    checkVariables,
    readConfiguration: (path: string, named: Origin) => readConfiguration(path, named, readFile),
  };
}

function addArgument(command: Command, name: string, flag: Flag<unknown>): void {
  const shown = flag.kind.list ? `${flagOf(name)}...` : flagOf(name);
  command.argument(flag.argument === 'required' ? `<${shown}>` : `[${shown}]`, helpOf(name, flag));
}

/** Several words may follow the flag of a list where no argument can be meant by them. */
function addFlag(command: Command, name: string, flag: Flag<unknown>, hasArguments: boolean): void {
  const { kind, default: fallback } = flag;
  const dashed = `--${flagOf(name)}`;
  if (kind.isSwitch) {
    command.addOption(new Option(dashed, helpOf(name, flag)));
    // What is off by default is off, unless a variable or a file turned it on.
    if (fallback === false && !flag.isSetting) return;
    command.addOption(new Option(`--no-${flagOf(name)}`, `not ${dashed}`));
    return;
  }
  const value = kind.list && !hasArguments ? `${kind.metavar}...` : kind.metavar;
  const option = new Option(`${dashed} <${value}>`, helpOf(name, flag));
  if (kind.list) option.argParser((text, before) => [...((before as string[]) ?? []), text]);
  command.addOption(option);
}

function helpOf(name: string, flag: Flag<unknown>): string {
  const { help, default: fallback, defaultName, isSetting } = flag;
  const value = fallback === Number.POSITIVE_INFINITY ? 'inf' : String(fallback ?? '');
  const text = fallback === false ? '' : (defaultName ?? value);
  const shown = text === '' ? '' : ` (default: ${text})`;
  return `${help}${shown}${isSetting ? ` [${environmentOf(name)}]` : ''}`;
}

/** What the command line says, with its arguments by their names. */
function givenFlags(command: Command, flags: readonly [string, Flag<unknown>][]): GivenFlags {
  const names = flags.filter(([, flag]) => flag.argument !== undefined).map(([name]) => name);
  const words = command.processedArgs.map((word: string | string[] | undefined, index) => {
    const isNone = Array.isArray(word) && word.length === 0;
    return [names[index], isNone ? undefined : word];
  });
  return { ...command.opts(), ...Object.fromEntries(words) };
}
