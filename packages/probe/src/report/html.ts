import type { Profile } from '@bridgekeeper/bridge';
import { drawChart, escapeXml, threeDigits } from '@bridgekeeper/report';
import { adviseOn } from '../advice.ts';
import type { ProbeDocument } from '../document.ts';
import type { ParameterFit } from '../fit/profile.ts';
import { parametersOf } from '../parameters.ts';
import { type Reference, ratiosOf } from '../ratios.ts';
import { contextsFigure, costFigure, drawAlike, issueFigures, rateFigure } from './figures.ts';
import { caveatsOf, machineRows } from './words.ts';

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
  return page(`The bridge of ${facts.gpu}`, [
    ...caveatsOf(document).map((text) => `<p class="caveat">${escapeXml(text)}</p>`),
    ...(profile === null ? [] : [adviceSection(profile, document)]),
    ...(profile === null || reference === null ? [] : [ratioSection(profile, reference)]),
    section('What a crossing costs', [figures([...costs, ...rates])]),
    ...(issue.length === 0 ? [] : [section('Who waits', issue.map(wideFigure))]),
    ...(contexts === null
      ? []
      : [section('Contexts and streams', [figures([drawChart(contexts)])])]),
    ...(profile === null
      ? []
      : [section('The law, as fitted', [lawTable(profile, document.fits)])]),
    section('The machine and the probe', [
      table(['', ''], machineRows(document)),
      table(
        ['step', 'outcome', 'seconds', ''],
        document.steps.map(({ step, outcome, seconds, detail }) => [
          step,
          outcome,
          seconds.toFixed(2),
          detail ?? '',
        ]),
      ),
      `<p>${runs.length} measurements; times are the host's, warm-ups are left out, points are ` +
        'medians and whiskers reach from the least to the greatest.</p>',
    ]),
  ]);
}

function adviceSection(profile: Profile, { runs }: ProbeDocument): string {
  const rows = adviseOn(profile, runs).map(
    ({ question, answer, because }) =>
      `<tr><th>${escapeXml(question)}</th><td><strong>${escapeXml(answer)}</strong>` +
      `<div class="because">${escapeXml(because)}</div></td></tr>`,
  );
  return section('What follows', [`<table class="advice">${rows.join('')}</table>`]);
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
    table(['', 'here', reference.name, 'ratio'], rows),
    `<p>The ${escapeXml(reason)}. H2D and D2H are pinned copies of the largest size; graph ` +
      'counts the smallest kernels inside one graph.</p>',
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
  return table(heads, rows);
}

export function section(title: string, parts: readonly string[]): string {
  return `<section><h2>${escapeXml(title)}</h2>${parts.join('\n')}</section>`;
}

export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: 'th' | 'td', row: readonly string[]) =>
    row.map((text) => `<${tag}>${escapeXml(text)}</${tag}>`).join('');
  const head = heads.every((text) => text === '')
    ? ''
    : `<thead><tr>${cells('th', heads)}</tr></thead>`;
  const body = rows.map((row) => `<tr>${cells('td', row)}</tr>`).join('');
  return `<table>${head}<tbody>${body}</tbody></table>`;
}

export const figures = (svgs: readonly string[]) =>
  `<div class="figures">${svgs.map((svg) => `<figure>${svg}</figure>`).join('')}</div>`;

export const wideFigure = (svg: string) => `<figure class="wide">${svg}</figure>`;

const STYLE = `
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; margin: 0 auto;
  max-width: 1120px; padding: 24px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 32px 0 10px; }
table { border-collapse: collapse; margin: 8px 0 16px; }
th, td { text-align: left; vertical-align: top; padding: 5px 14px 5px 0;
  border-bottom: 1px solid #e3e3e3; }
thead th { color: #555; font-weight: 600; } td { font-variant-numeric: tabular-nums; }
.advice { width: 100%; } .advice th { width: 250px; font-weight: 600; }
.because { color: #555; font-size: 14px; }
.caveat { background: #fff3d6; border-left: 4px solid #e69f00; padding: 8px 12px; margin: 8px 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 16px; }
figure { margin: 0; } figure svg { width: 100%; height: auto; }
.figures figure { max-width: 560px; }
.wide { max-width: 1040px; } footer { color: #777; font-size: 13px; margin-top: 32px; }
`;

/** A whole page around its sections. */
export function page(title: string, sections: readonly string[]): string {
  return [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${escapeXml(title)}</title><style>${STYLE}</style></head><body>`,
    `<h1>${escapeXml(title)}</h1>`,
    ...sections,
    '<footer>Made by bridgekeeper probe.</footer></body></html>',
    '',
  ].join('\n');
}
