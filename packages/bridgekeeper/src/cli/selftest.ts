import { readSealPolicy, UsageError } from '@bridgekeeper/server';
import { type Command, Option } from 'commander';
import type { CliIo } from '../io.ts';
import type { CaseResult } from '../selftest/contract.ts';
import { CONTRACTS } from '../selftest/contract.ts';
import { MODELS, type ModelResult } from '../selftest/models.ts';
import { SANITIZERS, type SanitizerResult } from '../selftest/sanitizer.ts';
import type { SelftestReport, SelftestSelection } from '../selftest/selftest.ts';
import { addSettings, settingsOf } from './settings-flags.ts';

/** `setCode` takes the exit code. */
export function addSelftestCommand(
  program: Command,
  io: CliIo,
  setCode: (code: number) => void,
): void {
  addSettings(program.command('selftest'))
    .description("check this machine's device, and the engine on it, against known results")
    .addOption(
      new Option('--contract <cases>', 'cases of the device').choices(CONTRACTS).default('all'),
    )
    .addOption(
      new Option(
        '--models <which>',
        'random models to hold against float64 (default: all on a GPU, else quick)',
      ).choices(MODELS),
    )
    .option('--filter <text>', 'only cases and models with this in their names', '')
    .option('--peer <python>', 'hold random models against transformers in this Python too')
    .addOption(
      new Option('--sanitizer <tool>', 'run again under compute-sanitizer')
        .choices(['none', 'all', ...SANITIZERS])
        .default('none'),
    )
    .action(async (_model, _options, command: Command) => {
      setCode(await runSelftest(command, io));
    });
}

/** Runs the self-test on the chosen device, prints what came of it, resolves to the exit code. */
async function runSelftest(command: Command, io: CliIo): Promise<number> {
  // Loaded when it is needed, like every command that opens a device.
  const { configureEngine } = await import('@bridgekeeper/server');
  const { selftest } = await import('../selftest/selftest.ts');
  const { settings } = settingsOf(command, io);
  const print = settings.json ? io.err : io.out;
  const selection = selectionOf(command);
  const report = await selftest(
    configureEngine(settings, await readSealPolicy(settings)),
    selection,
    {
      onCase: (result) => print(caseLine(result)),
      onModel: (result) => print(modelLine(result)),
      onSanitizer: (result) => print(sanitizerLines(result).join('\n')),
    },
  );
  const { cases, models, sanitizers } = report;
  if (selection.filter !== '' && cases.length + models.length + sanitizers.length === 0) {
    throw new UsageError(
      'bad-value',
      `--filter: no case or model has ${selection.filter} in its name`,
    );
  }
  if (settings.json) io.out(JSON.stringify(report));
  else for (const line of summaryLines(report)) io.out(line);
  return report.passed ? 0 : 1;
}

function selectionOf(command: Command): SelftestSelection {
  const { contract, models, filter, peer, sanitizer } = command.opts() as Omit<
    SelftestSelection,
    'sanitizers'
  > & { readonly sanitizer: (typeof SANITIZERS)[number] | 'none' | 'all' };
  const named = sanitizer === 'none' ? [] : sanitizer === 'all' ? SANITIZERS : [sanitizer];
  return { contract, models, filter, peer, sanitizers: named };
}

const MARKS = { passed: 'ok  ', failed: 'FAIL', skipped: 'skip' } as const;

function caseLine({ name, outcome, detail }: CaseResult): string {
  return `${MARKS[outcome]} ${name}${detail === undefined ? '' : `: ${detail}`}`;
}

function modelLine(result: ModelResult): string {
  const { name } = result;
  if (result.error !== undefined) return `FAIL ${name}: ${result.error}`;
  const { faults, relativeError, tolerance, worstError, peer } = result;
  const e = (value: number) => value.toExponential(1);
  const greedy = `greedy ${result.greedyAgreed}/${result.greedyDecided}/${result.greedyTokens}`;
  const beside =
    peer === undefined
      ? ''
      : `; to transformers ${e(peer.engine.relativeError)}, float64 to it ` +
        e(peer.reference.relativeError);
  const wrong = faults.length === 0 ? '' : `: ${faults.join('; ')}`;
  return (
    `${faults.length === 0 ? 'ok  ' : 'FAIL'} ${name}: error ${e(relativeError)} of ` +
    `${e(tolerance)}, worst ${e(worstError)}, ${greedy}${beside}${wrong}`
  );
}

const SANITIZER_MARKS = { clean: 'ok  ', findings: 'FAIL', failed: 'FAIL', skipped: 'skip' };

function sanitizerLines({ tool, outcome, findings, details }: SanitizerResult): string[] {
  const said = outcome === 'findings' ? `${findings} findings` : outcome;
  return [`${SANITIZER_MARKS[outcome]} ${tool}: ${said}`, ...details.map((line) => `     ${line}`)];
}

function summaryLines({
  device,
  cases,
  golden,
  models,
  peer,
  skipped,
  passed,
}: SelftestReport): string[] {
  const count = (outcome: CaseResult['outcome']) =>
    cases.filter((result) => result.outcome === outcome).length;
  const goldenLines = (golden ?? []).map(
    (result, index) =>
      `golden prompt ${index}: relative error ${result.relativeError.toExponential(1)}, worst ` +
      `${result.worstError.toExponential(1)}, ` +
      `${result.greedyAgreed} of ${result.greedyTokens} greedy tokens agree`,
  );
  const counts = (['passed', 'failed', 'skipped'] as const)
    .map((outcome) => `${count(outcome)} ${outcome}`)
    .join(', ');
  const against = peer === undefined ? 'float64' : `float64 and ${peer}`;
  return [
    ...goldenLines,
    ...skipped.map((what) => `not checked: ${what}`),
    `${models.length} random models against ${against}`,
    `${device.name}: ${counts}; ${passed ? 'fit for use' : 'NOT fit for use'}`,
  ];
}
