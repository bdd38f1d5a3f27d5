import {
  flag,
  oneOf,
  readSealPolicy,
  SETTINGS,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server';
import type { CliIo } from '../io.ts';
import type { CaseResult } from '../selftest/contract.ts';
import { CONTRACTS } from '../selftest/contract.ts';
import { MODELS, type ModelResult } from '../selftest/models.ts';
import { SANITIZERS, type SanitizerResult } from '../selftest/sanitizer.ts';
import type { SelftestReport } from '../selftest/selftest.ts';
import type { CliCommand } from './command.ts';

const FLAGS = {
  ...SETTINGS,
  contract: flag(oneOf(...CONTRACTS), 'all', 'cases of the device'),
  models: flag(
    oneOf(...MODELS),
    undefined,
    'random models to hold against float64; default: all on a GPU, else quick',
  ),
  filter: flag(
    text('text'),
    undefined,
    'only cases and models with this in their names, or with one of several: a|b',
  ),
  peer: flag(
    text('python'),
    undefined,
    'hold random models against transformers in this Python too',
  ),
  sanitizer: flag(oneOf('none', 'all', ...SANITIZERS), 'none', 'run again under compute-sanitizer'),
};

type Flags = Values<typeof FLAGS>;

export const SELFTEST: CliCommand<typeof FLAGS> = {
  name: 'selftest',
  summary: "check this machine's device, and the engine on it, against known results",
  flags: FLAGS,
  run: ({ values }, io) => runSelftest(values, io),
};

/** Runs the self-test on the chosen device, prints what came of it, resolves to the exit code. */
async function runSelftest(flags: Flags, io: CliIo): Promise<0 | 1> {
  // Loaded when it is needed, like every command that opens a device.
  const { configureEngine } = await import('@bridgekeeper/server');
  const { selftest } = await import('../selftest/selftest.ts');
  const print = flags.json ? io.err : io.out;
  const { contract, models: which, filter = '', peer, sanitizer } = flags;
  const tools = sanitizer === 'none' ? [] : sanitizer === 'all' ? SANITIZERS : [sanitizer];
  const report = await selftest(
    configureEngine(flags, await readSealPolicy(flags)),
    { contract, models: which, filter, peer, sanitizers: tools },
    {
      onCase: (result) => print(caseLine(result)),
      onModel: (result) => print(modelLine(result)),
      onSanitizer: (result) => print(sanitizerLines(result).join('\n')),
    },
  );
  const { cases, golden = [], models, sanitizers } = report;
  const ran = [cases, golden, models, sanitizers].some(({ length }) => length > 0);
  if (filter !== '' && !ran) {
    throw new UsageError('bad-value', `--filter: no case or model has ${filter} in its name`);
  }
  if (flags.json) io.out(JSON.stringify(report));
  else for (const line of summaryLines(report)) io.out(line);
  return report.passed ? 0 : 1;
}

const MARKS = { passed: 'ok  ', failed: 'FAIL', skipped: 'skip' } as const;

function caseLine({ name, outcome, detail }: CaseResult): string {
  return `${MARKS[outcome]} ${name}${detail === undefined ? '' : `: ${detail}`}`;
}

function modelLine(result: ModelResult): string {
  const { name } = result;
  if (result.error !== undefined) return `FAIL ${name}: ${result.error}`;
  if (result.refused !== undefined) return `skip ${name}: ${result.refused}`;
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
  const checked = models.filter(({ refused }) => refused === undefined).length;
  return [
    ...goldenLines,
    ...skipped.map((what) => `not checked: ${what}`),
    `${checked} random models against ${against}`,
    `${device.name}: ${counts}; ${passed ? 'fit for use' : 'NOT fit for use'}`,
  ];
}
