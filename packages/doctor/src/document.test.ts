import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { rulesDocument } from './document.ts';
import { RULES } from './rules/index.ts';

const DOCUMENT = new URL('../../../docs/doctor.md', import.meta.url);

test('docs/doctor.md is what doctor --rules prints', () => {
  expect(readFileSync(DOCUMENT, 'utf8')).toBe(rulesDocument());
});

test('and has every rule once', () => {
  const headings = rulesDocument().matchAll(/^### (.+)$/gm);
  expect([...headings].map(([, id]) => id)).toEqual(RULES.map(({ id }) => id));
});
