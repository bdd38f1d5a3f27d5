import type { Profile } from '@bridgekeeper/bridge';
import {
  answers,
  caveat,
  drawChart,
  figures,
  htmlTable,
  page,
  paragraph,
  section,
  threeDigits,
  wideFigure,
} from '@bridgekeeper/report';
import { adviseOn } from '../advice.ts';
import type { ProbeDocument } from '../document.ts';
import type { ParameterFit } from '../fit/profile.ts';
import { parametersOf } from '../parameters.ts';
import { type Reference, ratiosOf } from '../ratios.ts';
import {
  collectiveFigures,
  contextsFigure,
  costFigure,
  drawAlike,
  issueFigures,
  rateFigure,
} from './figures.ts';
import { caveatsOf, machineRows } from './words.ts';

/** In the foot of pages. */
export const MADE_BY = 'bridgekeeper probe';

/** The report of one probe: one file, no scripts, nothing loaded from elsewhere. */
export function reportPage(document: ProbeDocument, reference: Reference | null): string {
  const { profile, runs, facts } = document;
  const against = reference?.profile ?? null;
  const costs = drawAlike([
    costFigure('h2d', document, against),
    costFigure('d2h', document, against),
  ]);
  const rates = drawAlike([
    rateFigure('h2d', document, against),
    rateFigure('d2h', document, against),
  ]);
  const contexts = contextsFigure(document);
  const issue = issueFigures(document);
  const collectives = collectiveFigures(document);
  return page(`The bridge of ${facts.gpu}`, MADE_BY, [
    ...caveatsOf(document).map(caveat),
    ...(profile === null ? [] : [adviceSection(profile, document)]),
    ...(profile === null || reference === null ? [] : [ratioSection(profile, reference)]),
    section('What a crossing costs', [figures([...costs, ...rates])]),
    ...(issue.length === 0 ? [] : [section('Who waits', issue.map(wideFigure))]),
    ...(contexts === null
      ? []
      : [section('Contexts and streams', [figures([drawChart(contexts)])])]),
    ...(collectives.length === 0
      ? []
      : [section('Several GPUs', [figures(collectives.map(drawChart))])]),
    ...(profile === null
      ? []
      : [section('The law, as fitted', [lawTable(profile, document.fits)])]),
    section('The machine and the probe', [
      htmlTable(['', ''], machineRows(document)),
      htmlTable(
        ['step', 'outcome', 'seconds', ''],
        document.steps.map(({ step, outcome, seconds, detail }) => [
          step,
          outcome,
          seconds.toFixed(2),
          detail ?? '',
        ]),
      ),
      paragraph(
        `${runs.length} measurements; times are the host's, warm-ups are left out, points are ` +
          'medians and whiskers reach from the least to the greatest.',
      ),
    ]),
  ]);
}

function adviceSection(profile: Profile, { runs }: ProbeDocument): string {
  return section('What follows', [answers(adviseOn(profile, runs))]);
}

function ratioSection(profile: Profile, { profile: reference, reason }: Reference): string {
  const rows = ratiosOf(profile, reference).map(
    ({ name, unit, value, reference: other, ratio }) => [
      name,
      `${threeDigits(value)} ${unit}`,
      `${threeDigits(other)} ${unit}`,
      `${ratio.toFixed(3)}x`,
    ],
  );
  return section(`Against ${reference.name}`, [
    htmlTable(['', 'here', reference.name, 'ratio'], rows),
    paragraph(
      `The ${reason}. H2D and D2H are pinned copies of the largest size; graph counts the ` +
        'smallest kernels inside one graph.',
    ),
  ]);
}

function lawTable(profile: Profile, fits: readonly ParameterFit[]): string {
  const rows = parametersOf(profile).map(({ path, title, value, text }) => {
    const fit = fits.find(({ parameter }) => parameter === path);
    const spread = fit?.spread?.map(text).join(' to ') ?? '';
    const residual = fit?.residual == null ? '' : `${(100 * fit.residual).toFixed(1)} %`;
    return [title, text(value), spread, String(fit?.repeats ?? ''), residual];
  });
  const heads = ['', 'fitted', 'measured, least to greatest', 'repeats', 'law off by, at worst'];
  return htmlTable(heads, rows);
}
