import { BenchError } from '@bridgekeeper/bench';
import { EngineError } from '@bridgekeeper/engine';
import { ModelError } from '@bridgekeeper/engine/models';
import { UsageError } from '@bridgekeeper/server';
import { Command, CommanderError } from 'commander';
import { ChatError } from '../chat/errors.ts';
import type { CliIo } from '../io.ts';
import { VerifyError } from '../verify/errors.ts';
import type { ExitCode, Translation } from './command.ts';
import { COMMANDS } from './commands.ts';
import { defineCommand } from './define-command.ts';
import { versionLine } from './version.ts';

/** Runs one command line to its end; never throws. */
export async function runCli(args: readonly string[], io: CliIo): Promise<number> {
  let code = 0;
  try {
    const { words, remarks } = translate(args);
    const program = createProgram(io, remarks, (result) => {
      code = result;
    });
    await program.parseAsync([...words], { from: 'user' });
    return code;
  } catch (error) {
    return report(error, io);
  }
}

function translate([name = '', ...rest]: readonly string[]): Translation {
  const translation = COMMANDS.find((spec) => spec.name === name)?.translate?.(rest);
  const { words = rest, remarks = [] } = translation ?? {};
  return { words: name === '' ? [] : [name, ...words], remarks };
}

function createProgram(
  io: CliIo,
  remarks: readonly string[],
  setCode: (code: number) => void,
): Command {
  const program = new Command('bridgekeeper')
    .description('Serves language models over a scheduled, metered bridge')
    .version(versionLine(), '--version', 'show the version')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.out(text.trimEnd()),
      writeErr: (text) => io.err(text.trimEnd()),
    });
  for (const spec of COMMANDS) {
    const [name, suite] = spec.name.split(' ') as [string, string?];
    const command = program.commands.find((each) => each.name() === name) ?? program.command(name);
    defineCommand(
      suite === undefined ? command : command.command(suite),
      spec,
      io,
      remarks,
      setCode,
    );
    if (suite !== undefined) command.description('measure; one suite a command');
  }
  return program;
}

function report(error: unknown, io: CliIo): ExitCode {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof UsageError || error instanceof ModelError || error instanceof VerifyError) {
    io.err(`bridgekeeper: ${error.message}`);
    return 2;
  }
  if (error instanceof BenchError || error instanceof ChatError) {
    io.err(`bridgekeeper: ${error.message}`);
    return 1;
  }
  if (error instanceof EngineError) {
    io.err(`bridgekeeper: ${error.message}`);
    return error.code === 'bad-model' || error.code === 'bad-request' ? 2 : 1;
  }
  io.err(`bridgekeeper: ${error instanceof Error ? (error.stack ?? error.message) : error}`);
  return 1;
}
