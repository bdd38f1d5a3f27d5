import { decodeWork, fitsKv, measureDecode } from '@bridgekeeper/engine/measure';
import type { MeasuredRun } from '@bridgekeeper/report';
import { flag, integer, UsageError, type Values } from '@bridgekeeper/server';
import { counts, ROOFLINE_FLAGS, type RooflineBench, runOf, withModel } from './roofline.ts';
import type { Suite } from './suite.ts';

const FLAGS = {
  ...ROOFLINE_FLAGS,
  batch: flag(counts(4096), [1, 8], 'rows of a step'),
  contextTokens: flag(counts(2 ** 20), [128], 'tokens in each context'),
  steps: flag(integer(1, 4096), 64, 'steps of one measurement'),
};

/** Captured decode steps on the bare device, against the time that their bytes take at best. */
export const DECODE_SUITE: Suite<typeof FLAGS> = {
  name: 'decode',
  summary: 'time of a decode step against its two floors: bytes and operations',
  flags: FLAGS,
  async run(values, progress) {
    const { batch: batches, contextTokens: contexts } = values;
    const sizes = {
      maxRows: Math.max(...batches, 1),
      maxBatchTokens: Math.max(512, ...batches),
      maxModelTokens: Math.max(...contexts) + values.steps,
    };
    return withModel(values, sizes, async (bench) => {
      const runs: MeasuredRun[] = [];
      for (const contextTokens of contexts) {
        for (const batch of batches) {
          if (!fitsKv(bench.model, batch, contextTokens + values.steps)) {
            progress(`batch ${batch} at ${contextTokens}: left out, its KV does not fit`);
            continue;
          }
          runs.push(await measure(bench, values, batch, contextTokens));
          progress(lineOf(runs.at(-1)!));
        }
      }
      if (runs.length === 0) {
        throw new UsageError('bad-value', '--batch, --context-tokens: the KV of none of them fits');
      }
      return runs;
    });
  },
};

async function measure(
  bench: RooflineBench,
  { steps, repeats }: Values<typeof FLAGS>,
  batch: number,
  contextTokens: number,
): Promise<MeasuredRun> {
  const { device, model } = bench;
  const setting = { batch, contextTokens, steps, repeats };
  const time = await measureDecode(device, model, setting);
  const work = decodeWork(model.parts, batch, contextTokens);
  const rate = { outputTokensPerSecond: (batch * 1e9) / time.stepNs };
  return runOf(bench, { batch, contextTokens }, time, work, repeats, rate);
}

function lineOf({ parameters, metrics }: MeasuredRun): string {
  const percent = (100 * metrics.floorFraction!).toFixed(1);
  return (
    `batch ${parameters.batch} at ${parameters.contextTokens}: ${metrics.stepMs!.toFixed(3)} ms, ` +
    `floor ${metrics.floorMs!.toFixed(3)} ms, ${percent} % of it`
  );
}
