import { fileURLToPath } from 'node:url';
import type { MeasuredRun } from '@bridgekeeper/report';
import { beforeAll, describe, expect, test } from 'vitest';
import { KV_RESTORE_SUITE } from './kv-restore.ts';

const MODEL = fileURLToPath(new URL('../../engine/configs/qwen3-8b', import.meta.url));

/** On a modelled B300, whose times are what law and roofline say. */
describe('what a prefix of 2048 tokens costs', () => {
  let runs: readonly MeasuredRun[];
  beforeAll(async () => {
    const { flags } = KV_RESTORE_SUITE;
    const defaults = Object.entries(flags).map(([name, flag]) => [name, flag.default]);
    const values = {
      ...Object.fromEntries(defaults),
      model: MODEL,
      loadFormat: 'dummy',
      device: 'model',
      prefixTokens: 2048,
      streamTokens: 128,
      depths: 2,
      spanTokens: 256,
      singlePrompts: 2,
      repeats: 1,
    };
    const io = { main: '', environment: {}, readFile: () => '', writeFile: () => undefined };
    const result = await KV_RESTORE_SUITE.run(values as never, () => undefined, io);
    runs = result.runs;
  }, 60_000);

  const metricsOf = (law: string, way: string) => {
    const found = runs.find(({ parameters }) => parameters.law === law && parameters.way === way);
    return found!.metrics;
  };

  test('restored whole, its bytes cross once', () => {
    const { restoredMiB } = metricsOf('b300-cc', 'restored');
    // 144 KiB a token, and the page that the request before it filled.
    expect(restoredMiB).toBeGreaterThanOrEqual((2048 * 144) / 1024);
    expect(restoredMiB).toBeLessThan((2048 * 144) / 1024 + 16);
    expect(metricsOf('b300-cc', 'recomputed').restoredMiB).toBe(0);
    expect(metricsOf('b300-cc', 'held').restoredMiB).toBe(0);
  });

  test('moved in few crossings it is there in less than half of the time of many', () => {
    const whole = metricsOf('b300-cc', 'restored').ttftMs! - metricsOf('b300-cc', 'held').ttftMs!;
    expect(metricsOf('b300-cc', 'page by page').restoreMs).toBeGreaterThan(2 * whole);
  });

  test('what the engine chooses is within 5 % of the better way', () => {
    for (const law of ['off', 'b300-cc']) {
      const [restored, recomputed, chosen] = ['restored', 'recomputed', 'chosen'].map(
        (way) => metricsOf(law, way).ttftMs!,
      );
      expect(chosen).toBeLessThanOrEqual(1.05 * Math.min(restored!, recomputed!));
    }
    const depths = runs.filter(({ parameters }) => parameters.way === 'depth');
    expect(depths).toHaveLength(2);
    for (const { metrics } of depths) expect(metrics.chosenOverBest).toBeLessThanOrEqual(1.05);
  });

  test('answers are the same, others lose next to nothing, and nothing is spilled in vain', () => {
    for (const { parameters, metrics } of runs) {
      const { equalTokens = 1, lostFraction = 0, spilledFraction = 0 } = metrics;
      expect([parameters.way, equalTokens]).toEqual([parameters.way, 1]);
      expect(lostFraction).toBeLessThan(0.03);
      expect(spilledFraction).toBeLessThan(0.01);
    }
  });
});
