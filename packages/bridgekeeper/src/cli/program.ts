import { BenchError } from '@bridgekeeper/bench';
import { EngineError } from '@bridgekeeper/engine';
import { ModelError } from '@bridgekeeper/engine/models';
import { UsageError } from '@bridgekeeper/server';
import { Command, CommanderError } from 'commander';
import type { CliIo } from '../io.ts';
import { VerifyError } from '../verify/errors.ts';
import { readVersion } from '../version.ts';
import { addAttestCommand } from './attest.ts';
import { addBenchCommand } from './bench.ts';
import { addDoctorCommand } from './doctor.ts';
import { addLoadCommand } from './load.ts';
import { addProbeCommand } from './probe.ts';
import { addSealCommand } from './seal.ts';
import { addSelftestCommand } from './selftest.ts';
import { serve } from './serve.ts';
import { addSettings, settingsOf } from './settings-flags.ts';
import { addVerifyCommand } from './verify.ts';

/** 0 done, 1 failed, 2 bad usage or input. */
type ExitCode = 0 | 1 | 2;

/** Runs one command line to its end; never throws. */
export async function runCli(args: readonly string[], io: CliIo): Promise<number> {
  let code = 0;
  const program = createProgram(io, (result) => {
    code = result;
  });
  try {
    await program.parseAsync([...args], { from: 'user' });
    return code;
  } catch (error) {
    return report(error, io);
  }
}

function createProgram(io: CliIo, setCode: (code: number) => void): Command {
  const program = new Command('bridgekeeper')
    .description('Serves language models over a scheduled, metered bridge')
    .version(versionLine(), '--version', 'show the version')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.out(text.trimEnd()),
      writeErr: (text) => io.err(text.trimEnd()),
    });
  addSettings(program.command('serve'))
    .description('serve a model through the OpenAI API')
    .action(async (_model, _options, command: Command) => {
      setCode(await serve(settingsOf(command, io).settings, io));
    });
  addDoctorCommand(program, io, setCode);
  addAttestCommand(program, io, setCode);
  addLoadCommand(program, io, setCode);
  addProbeCommand(program, io, setCode);
  addSealCommand(program, io, setCode);
  addSelftestCommand(program, io, setCode);
  addVerifyCommand(program, io, setCode);
  program
    .command('version')
    .description('show the version')
    .option('--json', 'as one JSON document')
    .action(({ json }: { json?: boolean }) => {
      io.out(json ? JSON.stringify(readVersion()) : versionLine());
    });
  addBenchCommand(program, io, setCode);
  return program;
}

function versionLine(): string {
  const { version, node } = readVersion();
  return `bridgekeeper ${version}, Node ${node}`;
}

function report(error: unknown, io: CliIo): ExitCode {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof UsageError || error instanceof ModelError || error instanceof VerifyError) {
    io.err(`bridgekeeper: ${error.message}`);
    return 2;
  }
  if (error instanceof BenchError) {
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
