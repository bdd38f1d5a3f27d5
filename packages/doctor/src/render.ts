import type { Examination } from './examine.ts';
import { type Finding, type NotChecked, SEVERITIES, type Severity } from './rule.ts';

/** Terminal colours by severity: red, red, yellow, cyan. */
const COLOURS: Readonly<Record<Severity, number>> = {
  critical: 91,
  error: 31,
  warning: 33,
  info: 36,
};
const WIDTH = 96;
const LABEL_WIDTH = 11;

/** The examination as lines for people. */
export function renderExamination(examination: Examination, colour: boolean): string[] {
  const { observed, notes, findings, command, notChecked, planned } = examination;
  const paint = (code: number, text: string) => (colour ? `\x1b[${code}m${text}\x1b[0m` : text);
  const heading = (text: string) => ['', paint(1, text)];
  const lines = observed.map(({ fact, from }) => `${fact}  [${from}]`);
  for (const note of notes) lines.push(...labelled('note', note, ''));
  for (const severity of SEVERITIES) {
    const found = findings.filter((finding) => finding.severity === severity);
    for (const finding of found) {
      lines.push('', `${paint(COLOURS[severity], severity.toUpperCase())}  ${finding.title}`);
      const gain = planned.find((each) => each.finding === finding.id)?.text;
      lines.push(...findingLines(finding, gain));
    }
  }
  lines.push('', summary(findings));
  if (command !== null && command.corrected !== null) {
    lines.push(...heading('Corrected command'), ...indent(command.corrected));
    lines.push(...heading('What changed'));
    for (const { step, because, finding } of command.steps) {
      lines.push(...wrap(step, '  '), ...wrap(`${because}  [${finding}]`, '      '));
    }
  }
  if (command !== null && command.secretsHidden > 0) {
    lines.push('', `${command.secretsHidden} secret(s) hidden: put them back before you run it`);
  }
  if (notChecked.length > 0) {
    lines.push(...heading('Not checked, because'));
    for (const gap of notChecked) {
      lines.push(...wrap(gap.because, '  '), ...wrap(gapText(gap), '    '));
    }
  }
  return lines;
}

/** More rules than this are counted, not named. */
const MAX_NAMED = 12;

function gapText({ unknown, rules }: NotChecked): string {
  const names = rules.map(({ id, versions }) => (versions === null ? id : `${id} (${versions})`));
  if (names.length <= MAX_NAMED) return names.join(', ');
  return `${names.length} rules, named by --json, for want of: ${unknown.join(', ')}`;
}

function findingLines(finding: Finding, gain: string | undefined): string[] {
  const { id, evidence, consequence, remedy, sources, versions } = finding;
  const names = sources.map(({ name, basis }) => `${name}, ${basis}`).join('; ');
  return [
    ...labelled('rule', versions === null ? id : `${id}, ${versions}`),
    ...labelled('evidence', evidence),
    ...labelled('means', consequence),
    ...labelled('remedy', remedy),
    ...(gain === undefined ? [] : labelled('planned', gain)),
    ...labelled('source', names),
  ];
}

/** `2 errors, 1 warning`, or that there is none. */
function summary(findings: readonly Finding[]): string {
  const counts = SEVERITIES.map((severity) => {
    const count = findings.filter((finding) => finding.severity === severity).length;
    const plural = severity === 'error' || severity === 'warning' ? `${severity}s` : severity;
    return count === 0 ? '' : `${count} ${count === 1 ? severity : plural}`;
  });
  return counts.filter(Boolean).join(', ') || 'nothing found';
}

function labelled(label: string, text: string, margin = '  '): string[] {
  const first = `${margin}${label.padEnd(LABEL_WIDTH - 2)}`;
  const rest = ' '.repeat(first.length);
  return wrap(text, rest).map((line, index) => (index === 0 ? first + line.trimStart() : line));
}

/** Lines of words, each with the margin; a word longer than a line gets one to itself. */
function wrap(text: string, margin: string): string[] {
  const lines: string[] = [];
  let line = margin;
  for (const word of text.split(/\s+/)) {
    const next = line === margin ? margin + word : `${line} ${word}`;
    if (next.length > WIDTH && line !== margin) {
      lines.push(line);
      line = margin + word;
    } else {
      line = next;
    }
  }
  return [...lines, line];
}

const indent = (text: string) => text.split('\n').map((line) => `  ${line}`);
