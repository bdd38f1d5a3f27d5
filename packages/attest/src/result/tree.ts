import type { Claim, ClaimStatus } from '../claims/claim.ts';
import { groupBy } from '../core/group.ts';
import { familyOf } from '../policy/families.ts';
import { shownValue } from '../policy/value.ts';
import { countByStatus, type VerifyResult } from './result.ts';
import { labelled, wrap } from './text.ts';

const LABELS: Readonly<Record<ClaimStatus, { readonly text: string; readonly colour: number }>> = {
  verified: { text: 'ok', colour: 32 },
  refused: { text: 'REFUSED', colour: 91 },
  'depends-on': { text: 'depends', colour: 33 },
  unverified: { text: 'not verified', colour: 33 },
};
const LABEL_WIDTH = 13;
const VALUES_MAX = 8;

type Paint = (colour: number, text: string) => string;

/**
 * The result as lines for people: the checks by what they are about, what was not verified and why
 * that matters, what the policy let pass, the verdict and its reasons. Claims that say the same of
 * several devices share a line.
 */
export function resultLines(result: VerifyResult, inColour: boolean): string[] {
  const paint: Paint = (colour, text) => (inColour ? `\x1b[${colour}m${text}\x1b[0m` : text);
  const families = groupBy(result.claims, ({ subject }) => familyOf(subject));
  const lines = [`${result.input}, judged as of ${new Date(result.atMs).toISOString()}`];
  for (const claims of families.values()) lines.push('', ...familyLines(claims, paint));
  lines.push(...gapLines(result, paint), ...allowanceLines(result, paint));
  for (const note of result.notes) lines.push('', ...labelled('note', note, ''));
  return [...lines, '', ...verdictLines(result, paint)];
}

function familyLines(claims: readonly Claim[], paint: Paint): string[] {
  const subjects = [...new Set(claims.map(({ subject }) => subject))];
  const [first, last] = [subjects[0]!, subjects.at(-1)!];
  const heading = subjects.length === 1 ? first : `${first} to ${last} (${subjects.length})`;
  const lines = [paint(1, heading)];
  for (const [kind, own] of groupBy(claims, ({ kind }) => kind)) {
    const byStatus = groupBy(own, ({ status }) => status);
    for (const status of ['verified', 'depends-on', 'unverified', 'refused'] as const) {
      const found = byStatus.get(status) ?? [];
      // Each refusal is of interest for itself.
      const lots = status === 'refused' ? found.map((one) => [one]) : [found];
      for (const lot of lots.filter(({ length }) => length > 0)) {
        lines.push(...lotLines(kind, lot, own.length, subjects.length, paint));
      }
    }
  }
  return lines;
}

function lotLines(
  kind: string,
  lot: readonly Claim[],
  ofClaims: number,
  ofSubjects: number,
  paint: Paint,
): string[] {
  const { status, subject, code, why } = lot[0]!;
  const { text, colour } = LABELS[status];
  const label = paint(colour, text.padEnd(LABEL_WIDTH));
  const isShared = ofSubjects > 1 || ofClaims > 1;
  const share = isShared && status !== 'refused' ? `${lot.length} of ${ofClaims}: ` : '';
  const whom = status === 'refused' && isShared ? `${subject}: ` : '';
  const end = code === undefined ? '' : ` [${code}]`;
  const margin = ' '.repeat(2 + LABEL_WIDTH);
  const [head, ...rest] = wrap(`${kind}: ${whom}${share}${sentence(lot)}${end}`, margin);
  const means = status === 'refused' && why !== undefined ? wrap(`means: ${why}`, margin) : [];
  return [`  ${label}${head!.trimStart()}`, ...rest, ...means];
}

/** What several claims of one kind say in one sentence. */
function sentence(lot: readonly Claim[]): string {
  const texts = [...new Set(lot.map(({ statement }) => statement))];
  if (texts.length === 1) return texts[0]!;
  const values = [...new Set(lot.map(({ value }) => shownValue(value)))];
  if (lot.some(({ value }) => value === undefined) || values.length > VALUES_MAX) {
    return `${texts[0]}, and the like`;
  }
  return values.length === 1 ? `${values[0]}` : values.join('; ');
}

function gapLines({ claims }: VerifyResult, paint: Paint): string[] {
  const open = claims.filter(({ status }) => status === 'unverified' || status === 'depends-on');
  if (open.length === 0) return [];
  const lines = ['', paint(1, 'Not verified, and why it matters')];
  for (const lot of groupBy(open, ({ kind, why }) => `${kind} ${why}`).values()) {
    const { kind, why, voucher, value, subject } = lot[0]!;
    const whom = lot.length === 1 ? subject : `${lot.length} subjects`;
    // Without a value nobody stated anything.
    const source = value === undefined || voucher.endsWith('-signed') ? '' : `; it is ${voucher}`;
    lines.push(...wrap(`${kind} (${whom}${source})`, '  '), ...wrap(why ?? '', '    '));
  }
  return lines;
}

function allowanceLines({ verdict }: VerifyResult, paint: Paint): string[] {
  const section = (title: string, allowances: VerifyResult['verdict']['tolerated']) => {
    if (allowances.length === 0) return [];
    const lots = groupBy(allowances, ({ claim, rule }) => `${claim.kind} ${rule}`);
    const texts = [...lots.values()].flatMap((lot) => {
      const { claim, rule, because } = lot[0]!;
      const whom = lot.length === 1 ? claim.subject : `${lot.length} subjects`;
      return [...wrap(`${claim.kind} (${whom}), by ${rule}`, '  '), ...wrap(because, '    ')];
    });
    return ['', paint(1, title), ...texts];
  };
  return [
    ...section('Does not hold, but the policy tolerates it', verdict.tolerated),
    ...section('Unsigned, but the policy believes it', verdict.believed),
  ];
}

function verdictLines({ verdict, claims }: VerifyResult, paint: Paint): string[] {
  const { claimsVerified, claimsRefused, claimsUnverified } = countByStatus(claims);
  const counts =
    `${claimsVerified} claims verified, ${claimsRefused} refused, ` +
    `${claimsUnverified} not verified`;
  const isGood = verdict.result === 'verified';
  const word = paint(isGood ? 92 : 91, isGood ? 'VERIFIED' : 'REFUSED');
  const lines = [`${word} under the policy "${verdict.policy}": ${counts}`];
  for (const lot of groupBy(verdict.reasons, ({ kind, text }) => `${kind} ${text}`).values()) {
    const { subject, kind, text, code } = lot[0]!;
    const whom = lot.length === 1 ? subject : `${subject} and ${lot.length - 1} more`;
    const name = kind === 'any' ? whom : `${whom}: ${kind}`;
    const end = code === undefined ? '' : ` [${code}]`;
    const [head, ...rest] = wrap(`${name}: ${text}${end}`, '    ');
    lines.push(`  - ${head!.trimStart()}`, ...rest);
  }
  return lines;
}
