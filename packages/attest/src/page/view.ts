/// <reference lib="dom" />
import type { Claim, ClaimStatus } from '../claims/claim.ts';
import { groupBy } from '../core/group.ts';
import { shownValue } from '../policy/value.ts';
import { countByStatus, type VerifyResult } from '../result/result.ts';

/** What a status is called, and the outline and mark by which it is told without colour. */
const STATUS: Readonly<Record<ClaimStatus, { text: string; outline: string; mark: string }>> = {
  verified: {
    text: 'verified',
    outline: 'M8 1a7 7 0 1 1 0 14a7 7 0 0 1 0-14z',
    mark: 'M4.5 8.2l2.4 2.4l4.6-5',
  },
  refused: {
    text: 'refused',
    outline: 'M5 1h6l4 4v6l-4 4h-6l-4-4v-6z',
    mark: 'M5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6',
  },
  'depends-on': {
    text: 'depends on others',
    outline: 'M8 .8l7.2 7.2l-7.2 7.2l-7.2-7.2z',
    mark: 'M5 8h6',
  },
  unverified: {
    text: 'not verified',
    outline: 'M8 1.2l7.2 13.3h-14.4z',
    mark: 'M8 5.6v4.2M8 11.6v1',
  },
};
const ORDER: readonly ClaimStatus[] = ['refused', 'unverified', 'depends-on', 'verified'];
const SVG = 'http://www.w3.org/2000/svg';

type Child = Node | string;

/** An element with text and elements in it: strangers' text is never markup. */
function make(tag: string, className: string, ...children: readonly Child[]): HTMLElement {
  const element = document.createElement(tag);
  if (className !== '') element.className = className;
  element.append(...children);
  return element;
}

function sign(status: ClaimStatus): Element {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('class', `sign ${status}`);
  for (const [part, d] of Object.entries(STATUS[status])) {
    if (part === 'text') continue;
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('class', part);
    path.setAttribute('d', d);
    svg.append(path);
  }
  return svg;
}

const label = (status: ClaimStatus) => make('span', `label ${status}`, STATUS[status].text);

/** The result as a tree: verdict, reasons, then each subject with its claims. */
export function resultView(result: VerifyResult): HTMLElement {
  const { verdict, claims, notes, input, atMs } = result;
  const status: ClaimStatus = verdict.result;
  const counts = countByStatus(claims);
  const at = new Date(atMs).toISOString();
  const view = make(
    'section',
    `result ${status}`,
    make('h2', '', sign(status), ` ${verdict.result.toUpperCase()} under “${verdict.policy}”`),
    make('p', 'about', `${input}, judged as of ${at}`),
    make(
      'p',
      'counts',
      `${counts.claimsVerified} claims verified, ${counts.claimsRefused} refused, ` +
        `${counts.claimsUnverified} not verified`,
    ),
  );
  view.append(
    ...listed(
      'Why it is refused',
      verdict.reasons.map(({ subject, kind, text }) => `${subject}: ${kind}: ${text}`),
    ),
    ...listed(
      'Does not hold, but the policy tolerates it',
      verdict.tolerated.map(({ claim, because }) => `${claim.subject}: ${claim.kind}: ${because}`),
    ),
    ...listed(
      'Unsigned, but the policy believes it',
      verdict.believed.map(({ claim, because }) => `${claim.subject}: ${claim.kind}: ${because}`),
    ),
  );
  for (const [subject, own] of groupBy(claims, (claim) => claim.subject)) {
    view.append(subjectView(subject, own));
  }
  view.append(...listed('Notes', notes));
  return view;
}

function listed(title: string, lines: readonly string[]): Child[] {
  if (lines.length === 0) return [];
  return [make('h3', '', title), make('ul', '', ...lines.map((line) => make('li', '', line)))];
}

/** Open where something is refused. */
function subjectView(subject: string, claims: readonly Claim[]): HTMLElement {
  const worst = ORDER.find((status) => claims.some((claim) => claim.status === status))!;
  const counts = ORDER.flatMap((status) => {
    const count = claims.filter((claim) => claim.status === status).length;
    return count === 0 ? [] : [`${count} ${STATUS[status].text}`];
  });
  const summary = make('summary', '', sign(worst), ` ${subject}: ${counts.join(', ')}`);
  const sorted = ORDER.flatMap((status) => claims.filter((claim) => claim.status === status));
  const details = make('details', '', summary, make('ul', 'claims', ...sorted.map(claimView)));
  if (worst === 'refused') details.setAttribute('open', '');
  return details;
}

function claimView({ kind, status, statement, why, value, voucher, code }: Claim): HTMLElement {
  const item = make(
    'li',
    'claim',
    sign(status),
    ' ',
    label(status),
    ' ',
    make('code', '', kind),
    ` ${statement}${code === undefined ? '' : ` [${code}]`}`,
  );
  const facts = [voucher, ...(value === undefined ? [] : [`value: ${shownValue(value)}`])];
  item.append(make('div', 'facts', facts.join('; ')));
  if (status !== 'verified' && why !== undefined) item.append(make('div', 'why', why));
  return item;
}

/** What cannot be verified at all, as a sentence. */
export function failureView(message: string): HTMLElement {
  return make(
    'section',
    'result failure',
    make('h2', '', sign('refused'), ' Cannot be read'),
    message,
  );
}
