import type { CaseResult, SelftestReport } from '../selftest/selftest.ts';
import type { Resolved } from '../settings/resolve.ts';
import type { CliIo } from './io.ts';

const MARKS = { passed: 'ok  ', failed: 'FAIL', skipped: 'skip' } as const;

/**
 * Runs the self-test on the chosen device and prints what came of it. Resolves to the exit code.
 */
export async function runSelftest({ settings }: Resolved, io: CliIo): Promise<number> {
  // Loaded when it is needed, like every command that opens a device.
  const { planEngine } = await import('../engine/choose.ts');
  const { selftest } = await import('../selftest/selftest.ts');
  const print = settings.json ? io.err : io.out;
  const report = await selftest(planEngine(settings), (result) => print(caseLine(result)));
  if (settings.json) io.out(JSON.stringify(report));
  else for (const line of summaryLines(report)) io.out(line);
  return report.passed ? 0 : 1;
}

function caseLine({ name, outcome, detail }: CaseResult): string {
  return `${MARKS[outcome]} ${name}${detail === undefined ? '' : `: ${detail}`}`;
}

function summaryLines({ device, cases, golden, passed }: SelftestReport): string[] {
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
  return [
    ...goldenLines,
    `${device.name}: ${counts}; ${passed ? 'fit for use' : 'NOT fit for use'}`,
  ];
}
