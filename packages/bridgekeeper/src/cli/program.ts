import { Command, CommanderError } from 'commander';
import type { CliIo } from '../io.ts';
import type { CliCommand, ExitCode, Failure, Translation } from './command.ts';
import { loadCommands } from './commands.ts';
import { defineCommand } from './define-command.ts';
import { versionLine } from './version.ts';

/** What commands of two words have in common, by their first. */
const GROUPS: Readonly<Record<string, string>> = {
  bench: 'measure; one suite a command',
  plan: 'predict what a load will pay on a GPU, with each engine and step policy',
  fabric: 'several GPUs of a board as one tenant’s: partitions, their record, their links',
  control: 'hosts with confidential GPUs as a fleet: API, placement, admission; until interrupted',
  gateway: 'one API in front of many replicas',
  measure: 'what evidence of a guest must show, computed from what it is started with',
};

/** Runs one command line to its end; never throws. */
export async function runCli(args: readonly string[], io: CliIo): Promise<number> {
  let code = 0;
  const commands = await loadCommands(args[0]);
  try {
    const { words, remarks } = translate(commands, args);
    const program = createProgram(commands, io, remarks, (result) => {
      code = result;
    });
    await program.parseAsync([...words], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const failure = failureOf(error);
    // Commander has said it already.
    if (!(error instanceof CommanderError)) io.err(`bridgekeeper: ${textOf(error, failure)}`);
    if (commands.length === 1) await commands[0]!.failed?.(failure, args, io);
    return failure.exitCode;
  }
}

function translate(
  commands: readonly CliCommand[],
  [name = '', ...rest]: readonly string[],
): Translation {
  const translation = commands.find((spec) => spec.name === name)?.translate?.(rest);
  const { words = rest, remarks = [] } = translation ?? {};
  return { words: name === '' ? [] : [name, ...words], remarks };
}

function createProgram(
  commands: readonly CliCommand[],
  io: CliIo,
  remarks: readonly string[],
  setCode: (code: ExitCode) => void,
): Command {
  const program = new Command('bridgekeeper')
    .description('Serves language models over a scheduled, metered bridge')
    .version(versionLine(), '--version', 'show the version')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.out(text.trimEnd()),
      writeErr: (text) => io.err(text.trimEnd()),
    });
  for (const spec of commands) {
    const [name, suite] = spec.name.split(' ') as [string, string?];
    const command = program.commands.find((each) => each.name() === name) ?? program.command(name);
    defineCommand(
      suite === undefined ? command : command.command(suite),
      spec,
      io,
      remarks,
      setCode,
    );
    if (suite === undefined) continue;
    command.description(GROUPS[name]!);
    if (!commands.some((other) => other.name === name)) continue;
    // The first word is a command, too: what stands behind the second is the second's.
    program.enablePositionalOptions();
    command.enablePositionalOptions();
  }
  return program;
}

/** Expected errors by the names of their classes, which would load the packages they are of. */
const EXIT_CODES: Readonly<Record<string, ExitCode>> = {
  CommanderError: 2,
  UsageError: 2,
  ModelError: 2,
  PlanError: 2,
  VerifyError: 2,
  BenchError: 1,
  ChatError: 1,
  ControlError: 1,
  EngineError: 1,
  FabricError: 1,
  GatewayError: 1,
  ProbeError: 1,
  TopError: 1,
};

function failureOf(error: unknown): Failure {
  if (!(error instanceof Error) || !Object.hasOwn(EXIT_CODES, error.name)) {
    const message = error instanceof Error ? error.message : String(error);
    return { exitCode: 1, name: 'Error', code: 'internal', message };
  }
  const { name, message } = error;
  if (error instanceof CommanderError) {
    const text = message.replace(/^error: /, '');
    return { exitCode: 2, name: 'UsageError', code: 'bad-usage', message: text };
  }
  const { code } = error as Error & { readonly code: string };
  const isInput =
    (name === 'EngineError' && (code === 'bad-model' || code === 'bad-request')) ||
    (name === 'ControlError' && code === 'bad-request') ||
    (name === 'FabricError' && (code === 'bad-desired' || code === 'bad-plan')) ||
    (name === 'GatewayError' && code === 'bad-table');
  return { exitCode: isInput ? 2 : EXIT_CODES[name]!, name, code, message };
}

/** With its stack, if nobody foresaw it. */
function textOf(error: unknown, { code, message }: Failure): string {
  return code === 'internal' && error instanceof Error ? (error.stack ?? message) : message;
}
