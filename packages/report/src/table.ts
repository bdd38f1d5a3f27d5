import type { MeasuredRun } from './result.ts';

/** Numbers as people read them: three significant digits, thousands without exponents. */
function shortNumber(value: number): string {
  if (value === 0) return '0';
  const magnitude = Math.abs(value);
  if (magnitude >= 100) return value.toFixed(0);
  return value.toPrecision(3);
}

/** Runs as an aligned table: parameters that differ, then metrics. */
export function tableOf(runs: readonly MeasuredRun[]): string {
  const names = Object.keys(runs[0]?.parameters ?? {});
  const varying = names.filter((name) => new Set(runs.map((run) => run.parameters[name])).size > 1);
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))];
  const rows = [
    [...varying, ...metrics],
    ...runs.map((run) => [
      ...varying.map((name) => String(run.parameters[name])),
      // A run need not have what others have.
      ...metrics.map((name) => {
        const value = run.metrics[name];
        return value === undefined ? '' : shortNumber(value);
      }),
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) => row.map((cell, column) => cell.padStart(widths[column]!)).join('  '))
    .join('\n');
}

/** Rows of words with their columns aligned. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, index) => {
      widths[index] = Math.max(widths[index] ?? 0, cell.length);
    });
  }
  return rows.map((row) =>
    row
      .map((cell, index) => cell.padEnd(widths[index]!))
      .join('  ')
      .trimEnd(),
  );
}
