import { readServerReport } from '@bridgekeeper/attest';
import { expect, test } from 'vitest';
import { testIo } from '../testing/test-io.ts';
import { runCli } from './program.ts';

const NONCE = 'C3'.repeat(32);

test('collects what this machine has, and says what it has not', async () => {
  const written: string[] = [];
  const writeFile = (path: string, text: string) => written.push(path, text);
  const { io, out } = testIo({ writeFile });
  expect(await runCli(['attest', '--nonce', NONCE, '--out', 'report.json'], io)).toBe(0);
  expect(out[0]).toBe(`nonce  ${NONCE.toLowerCase()}`);
  expect(out.at(-1)).toContain('wrote  report.json');
  expect(written[0]).toBe('report.json');
  const { statement, notes } = readServerReport(written[1]!);
  expect(statement).toMatchObject({ nonce: NONCE.toLowerCase(), model: null, receiptKey: null });
  expect(out.filter((line) => line.startsWith('note'))).toEqual(notes.map((n) => `note   ${n}`));
});

test('prints the report, with a nonce of its own', async () => {
  const { io, out } = testIo();
  expect(await runCli(['attest', '--json'], io)).toBe(0);
  const report = readServerReport(out.join(''));
  expect(report.nonce).toHaveLength(32);
});

test('refuses a nonce that is none', async () => {
  const { io, err } = testIo();
  expect(await runCli(['attest', '--nonce', '12'], io)).toBe(2);
  expect(err.join()).toContain('64 hex digits');
});
