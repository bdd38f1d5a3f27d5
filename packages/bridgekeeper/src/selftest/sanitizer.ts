import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EVERY_LANE_ARRIVES } from '@bridgekeeper/server';

/** What compute-sanitizer looks for: one tool a run. */
export const SANITIZERS = ['memcheck', 'racecheck', 'initcheck', 'synccheck'] as const;
export type Sanitizer = (typeof SANITIZERS)[number];

/** What one tool found. Plain data. */
export interface SanitizerResult {
  readonly tool: Sanitizer;
  readonly outcome: 'clean' | 'findings' | 'failed' | 'skipped';
  /** As the tool counts. */
  readonly findings: number;
  /** The first of what it said, or why it failed or was skipped. */
  readonly details: readonly string[];
}

const MAIN = fileURLToPath(new URL('../main.js', import.meta.url));
/** A tool that takes longer is ended, and has failed. */
const LIMIT_MS = 15 * 60_000;
const DETAILS = 24;

const OPTIONS: Readonly<Record<Sanitizer, readonly string[]>> = {
  // Errors of calls are handled where calls are made: some are expected.
  memcheck: ['--report-api-errors', 'no'],
  racecheck: [],
  initcheck: [],
  synccheck: [],
};

/** Runs this selftest again, with `args`, under one tool of compute-sanitizer. */
export async function runSanitizer(
  tool: Sanitizer,
  args: readonly string[],
): Promise<SanitizerResult> {
  const folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-sanitizer-'));
  try {
    const log = join(folder, 'log.txt');
    // It does not follow one lane's arrival for its warp, and reports races that are none.
    const own = tool === 'racecheck' ? { [EVERY_LANE_ARRIVES]: '1' } : {};
    const ran = await run({ ...process.env, ...own }, 'compute-sanitizer', [
      ...['--tool', tool, '--target-processes', 'all', '--print-limit', '20'],
      ...['--log-file', log, ...OPTIONS[tool]],
      ...[process.execPath, MAIN, 'selftest', '--device', 'cuda', ...args],
    ]);
    if ('missing' in ran) {
      const details = [`compute-sanitizer cannot be run: ${ran.missing}`];
      return { tool, outcome: 'skipped', findings: 0, details };
    }
    const text = await readFile(log, 'utf8').catch(() => '');
    return judge(tool, text, ran);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** What a run came to, by its log and its end. */
export function judge(
  tool: Sanitizer,
  log: string,
  { code, output }: { readonly code: number | null; readonly output: string },
): SanitizerResult {
  const summaries = [...log.matchAll(/SUMMARY: (\d+) (?:errors?|hazards? displayed)/g)];
  const findings = summaries.reduce((sum, [, count]) => sum + Number(count), 0);
  const lines = log
    .split('\n')
    .map((line) => line.replace(/^=+\s*/, ''))
    .filter((line) => line !== '' && !/^COMPUTE-SANITIZER|Host Frame|Saved host/.test(line));
  if (findings > 0) {
    return { tool, outcome: 'findings', findings, details: lines.slice(0, DETAILS) };
  }
  if (code === 0 && summaries.length > 0) {
    return { tool, outcome: 'clean', findings: 0, details: [] };
  }
  const end = code === null ? `ended after ${LIMIT_MS / 1000} s` : `exit code ${code}`;
  const said = [...lines.slice(-DETAILS), ...output.trimEnd().split('\n').slice(-DETAILS)];
  return { tool, outcome: 'failed', findings: 0, details: [end, ...said] };
}

async function run(
  env: NodeJS.ProcessEnv,
  command: string,
  args: readonly string[],
): Promise<{ code: number | null; output: string } | { missing: string }> {
  const stdio = ['ignore', 'pipe', 'pipe'] as const;
  const child = spawn(command, args, { env, stdio: [...stdio], timeout: LIMIT_MS });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-4000);
    });
  }
  return once(child, 'close').then(
    ([code]) => ({ code: code as number | null, output }),
    (error: Error) => ({ missing: error.message }),
  );
}
