import { columns, threeDigits } from '@bridgekeeper/report';
import { adviseOn } from '../advice.ts';
import type { ProbeDocument } from '../document.ts';
import { parametersOf } from '../parameters.ts';
import { type Reference, ratiosOf } from '../ratios.ts';
import { caveatsOf, machineRows } from './words.ts';

/** The report for a terminal. */
export function reportLines(document: ProbeDocument, reference: Reference | null): string[] {
  const { profile, fits, runs } = document;
  const machine = columns(machineRows(document));
  const caveats = caveatsOf(document).map((text) => `! ${text}`);
  if (profile === null) return [...machine, '', ...caveats];
  const law = parametersOf(profile).map(({ path, title, value, text }) => {
    const fit = fits.find(({ parameter }) => parameter === path);
    return [title, text(value), fit?.spread ? `(${fit.spread.map(text).join(' to ')})` : ''];
  });
  const ratios =
    reference === null
      ? []
      : ratiosOf(profile, reference.profile).map(
          ({ name, unit, value, reference: other, ratio }) => [
            name,
            `${threeDigits(value)} ${unit}`,
            `${threeDigits(other)} ${unit}`,
            `${ratio.toFixed(3)}x`,
          ],
        );
  const advice = adviseOn(profile, runs).flatMap(({ question, answer, because }) => [
    question,
    `  ${answer}`,
    `  (${because})`,
  ]);
  return [
    ...machine,
    '',
    ...columns(law),
    ...(reference === null ? [] : ['', `Against ${reference.profile.name}`, ...columns(ratios)]),
    '',
    ...advice,
    ...(caveats.length === 0 ? [] : ['', ...caveats]),
  ];
}
