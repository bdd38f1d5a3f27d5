/**
 * The engine against Jinja2 itself: Debian's python3-jinja2, in one process for all templates.
 * Where it is not installed the comparison is left out, in CI never.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { readJsonValue } from '../json.ts';
import { TEMPLATE_FILTERS, templateGlobals } from '../template-globals.ts';
import { RANDOM_VARIABLES, randomTemplate } from '../testing/random-template.ts';
import { FAILING, TEMPLATES } from '../testing/templates.ts';
import { JinjaError } from './errors.ts';
import { Template } from './template.ts';
import type { Dict } from './values.ts';

const RANDOM_TEMPLATES = 400;

const PEER = fileURLToPath(new URL('../../../reference/jinja2-peer.py', import.meta.url));

const python = ['python3', '/usr/bin/python3'].find(
  (each) => spawnSync(each, ['-c', 'import jinja2.sandbox']).status === 0,
);

/** What a template makes; null where it fails. */
function render(template: string): string | null {
  const variables = templateGlobals(() => new Date(Date.UTC(2024, 6, 26, 9, 5, 7)));
  const given = readJsonValue(RANDOM_VARIABLES) as Dict;
  for (const [name, value] of given.entries()) variables.set(name as string, value);
  try {
    return new Template(template).render({ filters: TEMPLATE_FILTERS, variables });
  } catch (error) {
    if (error instanceof JinjaError || (error as Error).name === 'TemplateRefusal') return null;
    throw error;
  }
}

function renderByJinja2(templates: readonly string[]): Map<string, string | null> {
  const cases = templates.map((template) => ({ template, variables: RANDOM_VARIABLES }));
  const output = execFileSync(python!, ['-W', 'ignore', PEER], {
    input: JSON.stringify(cases),
    maxBuffer: 2 ** 28,
  });
  const results = JSON.parse(output.toString()) as readonly { readonly text?: string }[];
  return new Map(templates.map((template, at) => [template, results[at]!.text ?? null]));
}

/** Fails with the templates that come out otherwise, and what they come out as. */
function compare(templates: readonly string[], theirs: ReadonlyMap<string, string | null>): void {
  const results = templates.map((template) => {
    return { template, ours: render(template), theirs: theirs.get(template) };
  });
  const different = results.filter(({ ours, theirs }) => ours !== theirs);
  const show = (whose: 'ours' | 'theirs') =>
    different.map((each) => ({ template: each.template, text: each[whose] }));
  expect(show('ours')).toEqual(show('theirs'));
}

test('Jinja2 is there to compare with in CI', () => {
  expect(python !== undefined || process.env.CI === undefined).toBe(true);
});

describe.runIf(python !== undefined)('as Jinja2 renders (needs python3-jinja2)', () => {
  const random = Array.from({ length: RANDOM_TEMPLATES }, (_, seed) => randomTemplate(seed));
  let theirs: ReadonlyMap<string, string | null> = new Map();

  beforeAll(() => {
    theirs = renderByJinja2([...Object.values(TEMPLATES).flat(), ...FAILING, ...random]);
  }, 120_000);

  test.each(Object.entries(TEMPLATES))('%s', (_, templates) => {
    compare(templates, theirs);
    expect(templates.map(render)).not.toContain(null);
  });

  test('what fails in Python fails', () => {
    compare(FAILING, theirs);
    expect(FAILING.filter((template) => render(template) !== null)).toEqual([]);
  });

  test('random templates', { timeout: 60_000 }, () => compare(random, theirs));
});
