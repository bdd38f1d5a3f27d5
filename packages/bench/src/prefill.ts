import { measurePrefill, prefillWork } from '@bridgekeeper/engine/measure';
import type { MeasuredRun } from '@bridgekeeper/report';
import { flag } from '@bridgekeeper/server';
import { counts, ROOFLINE_FLAGS, type RooflineBench, runOf, withModel } from './roofline.ts';
import type { Suite } from './suite.ts';

const FLAGS = {
  ...ROOFLINE_FLAGS,
  chunkTokens: flag(counts(2 ** 20), [128], 'tokens of the chunk'),
  prefixTokens: flag(counts(2 ** 20), [0], 'tokens before it'),
};

/** Prompt chunks on the bare device, against the rate of a large product. */
export const PREFILL_SUITE: Suite<typeof FLAGS> = {
  name: 'prefill',
  summary: 'time of a prompt chunk against its two floors: bytes and operations',
  flags: FLAGS,
  async run(values, progress) {
    const { chunkTokens: chunks, prefixTokens: prefixes } = values;
    const longest = Math.max(...chunks, 1);
    const sizes = {
      maxRows: 1,
      maxBatchTokens: longest,
      maxModelTokens: longest + Math.max(...prefixes),
    };
    return withModel(values, sizes, async (bench) => {
      const runs: MeasuredRun[] = [];
      for (const prefixTokens of prefixes) {
        for (const tokens of chunks) {
          runs.push(await measure(bench, values.repeats, tokens, prefixTokens));
          progress(lineOf(runs.at(-1)!));
        }
      }
      return runs;
    });
  },
};

async function measure(
  bench: RooflineBench,
  repeats: number,
  tokens: number,
  prefixTokens: number,
): Promise<MeasuredRun> {
  const { device, model } = bench;
  const time = await measurePrefill(device, model, { tokens, prefixTokens, repeats });
  const work = prefillWork(model.parts, tokens, prefixTokens);
  const own = { batch: 1, chunkTokens: tokens, contextTokens: prefixTokens };
  const rate = { inputTokensPerSecond: (tokens * 1e9) / time.stepNs };
  return runOf(bench, own, time, work, repeats, rate);
}

function lineOf({ parameters, metrics }: MeasuredRun): string {
  const percent = (100 * metrics.floorFraction!).toFixed(1);
  return (
    `${parameters.chunkTokens} tokens behind ${parameters.contextTokens}: ` +
    `${metrics.stepMs!.toFixed(2)} ms, ${metrics.tflops!.toFixed(0)} TFLOP/s, ${percent} % of floor`
  );
}
