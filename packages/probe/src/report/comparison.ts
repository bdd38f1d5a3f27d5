import {
  caveat,
  columns,
  drawChart,
  figures,
  htmlTable,
  page,
  section,
  threeDigits,
  wideFigure,
} from '@bridgekeeper/report';
import type { Compared, Comparison } from '../compare.ts';
import { DIRECTIONS } from '../workbench.ts';
import {
  collectiveFigures,
  contextsFigure,
  costFigure,
  drawAlike,
  issueFigures,
  rateFigure,
} from './figures.ts';
import { MADE_BY } from './html.ts';

/** Two machines, or one in two states, side by side. */
export function comparisonPage(comparison: Comparison): string {
  const { sides, warnings } = comparison;
  const [first, second] = sides;
  const drawn = sides.flatMap((side, index) =>
    side.runs.length === 0 ? [] : [{ side, prefix: `${LETTERS[index]}. ` }],
  );
  const pairs = DIRECTIONS.flatMap((direction) =>
    [costFigure, rateFigure].map((figure) =>
      figures(drawAlike(drawn.map(({ side, prefix }) => figure(direction, side, null, prefix)))),
    ),
  );
  const contexts = drawn.flatMap(({ side, prefix }) => contextsFigure(side, prefix) ?? []);
  const collectives = drawn.flatMap(({ side, prefix }) => collectiveFigures(side, prefix));
  const issue = drawn.flatMap(({ side, prefix }) => issueFigures(side, prefix));
  return page('Two bridges compared', MADE_BY, [
    htmlTable(
      ['', 'file'],
      [
        ['A', describe(first)],
        ['B', describe(second)],
      ],
    ),
    ...warnings.map(caveat),
    section('Rates', [htmlTable(['', 'A', 'B', 'B / A'], ratioRows(comparison))]),
    section('The laws', [htmlTable(['', 'A', 'B', 'B / A'], lawRows(comparison))]),
    ...(drawn.length === 0 ? [] : [section('What a crossing costs', pairs)]),
    ...(issue.length === 0 ? [] : [section('Who waits', issue.map(wideFigure))]),
    ...(collectives.length === 0
      ? []
      : [section('Several GPUs', [figures(collectives.map(drawChart))])]),
    ...(contexts.length === 0 ? [] : [section('Contexts', [figures(contexts.map(drawChart))])]),
  ]);
}

const LETTERS = ['A', 'B'] as const;

function describe({ name, profile, origin }: Compared): string {
  const when = origin === null ? '' : `, measured ${origin.startedAt}`;
  return `${name}: ${profile.description}${when}`;
}

/** The same for a terminal. */
export function comparisonLines(comparison: Comparison): string[] {
  const [first, second] = comparison.sides;
  return [
    `A  ${describe(first)}`,
    `B  ${describe(second)}`,
    '',
    ...columns([
      ['', 'A', 'B', 'B / A'],
      ...ratioRows(comparison),
      ['', '', '', ''],
      ...lawRows(comparison),
    ]),
    ...comparison.warnings.map((text) => `! ${text}`),
  ];
}

const times = (ratio: number | null) => (ratio === null ? '' : `${ratio.toFixed(3)}x`);

const ratioRows = ({ ratios }: Comparison) =>
  ratios.map(({ name, unit, value, reference, ratio }) => [
    name,
    `${threeDigits(reference)} ${unit}`,
    `${threeDigits(value)} ${unit}`,
    times(ratio),
  ]);

const lawRows = ({ parameters }: Comparison) =>
  parameters.map(({ title, values, ratio }) => [title, ...values, times(ratio)]);
