import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { CROSSINGS_A_TOKEN, LOG_MS, TOKENS_A_SECOND } from './bundled-results.ts';

const read = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../../../docs/results/${name}`, import.meta.url), 'utf8'));

interface Run {
  readonly parameters: { readonly law: string; readonly policy: string; concurrency: number };
  readonly metrics: { readonly outputTokensPerSecond: number; readonly crossingsPerToken: number };
}

test('figures that come with the console are those of the raw files', () => {
  const { runs } = read('policies/h100.json') as { readonly runs: readonly Run[] };
  const metricsOf = (law: string, policy: string, concurrency: number) =>
    runs.find(
      ({ parameters: given }) =>
        given.law === law && given.policy === policy && given.concurrency === concurrency,
    )!.metrics;
  for (const { law, policy, tokens } of TOKENS_A_SECOND) {
    expect(tokens).toBeCloseTo(metricsOf(law, policy, 32).outputTokensPerSecond, 1);
  }
  for (const { policy, crossings } of CROSSINGS_A_TOKEN) {
    expect(crossings).toBeCloseTo(metricsOf('b300-cc', policy, 1).crossingsPerToken, 2);
  }
  const { diskSync, append, witness } = read('fabric/speed-quiet.json');
  expect(diskSync).toMatchObject(LOG_MS.diskSync);
  expect(append).toMatchObject(LOG_MS.append);
  expect(witness[0].answers).toMatchObject(LOG_MS.witness);
});
