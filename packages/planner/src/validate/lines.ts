import { columns } from '@bridgekeeper/report';
import {
  VALIDATION_LIMIT,
  type ValidatedCase,
  type ValidationCase,
  validationData,
} from './validate.ts';

/** A number in its unit, for people. */
function shown(value: number, unit: string): string {
  if (unit === 'tax' || unit === 'gain') return `${(100 * value).toFixed(1)} %`;
  const digits = Math.abs(value) < 10 ? 3 : Math.abs(value) < 100 ? 1 : 0;
  return `${value.toFixed(digits)}${unit === '' ? '' : ` ${unit}`}`;
}

function publishedText({ published, publishedRange, unit }: ValidationCase): string {
  if (publishedRange === undefined) return shown(published, unit);
  return publishedRange.map((figure) => shown(figure, unit)).join(' to ');
}

const isWithin = ({ error }: ValidatedCase) => Math.abs(error) <= VALIDATION_LIMIT;
const isWithinAll = ({ worstError }: ValidatedCase) => Math.abs(worstError) <= VALIDATION_LIMIT;

/** The whole validation as lines for a terminal: calibration and tests apart. */
export function validationLines(validated: readonly ValidatedCase[]): readonly string[] {
  const lines: string[] = [];
  for (const use of ['calibration', 'test'] as const) {
    const cases = validated.filter((each) => each.case.use === use);
    const rows = cases.map((each) => [
      each.case.title,
      shown(each.predicted, each.case.unit),
      publishedText(each.case),
      `${(100 * each.error).toFixed(0)} %`,
      isWithin(each) ? '' : 'off',
    ]);
    const fitted =
      use === 'calibration' ? 'Calibration: parameters are fitted on these.' : 'Tests: on none.';
    lines.push(fitted, '', ...columns([['case', 'predicted', 'published', 'error', ''], ...rows]));
    const within = cases.filter(isWithin).length;
    const limit = 100 * VALIDATION_LIMIT;
    const all = cases.filter(isWithinAll).length;
    const middle =
      all < within
        ? `; ${all} against each figure where several were published, and not their middle alone`
        : '';
    lines.push('', `${within} of ${cases.length} within ${limit} % of the effect${middle}.`, '');
  }
  const off = validated.filter((each) => each.case.use === 'test' && !isWithin(each));
  if (off.length > 0) lines.push('Where predictions are off:');
  for (const { case: each } of off) {
    const assumed = each.assumed === undefined ? '' : ` Assumed: ${each.assumed}.`;
    lines.push(`- ${each.title}: ${each.why ?? 'why is not known'}.${assumed}`);
  }
  lines.push('', 'Published, and not predicted:');
  for (const { what, source, why } of validationData().notPredicted) {
    lines.push(`- ${what} (${source}): ${why}.`);
  }
  return lines;
}
