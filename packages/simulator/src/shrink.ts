import { type AnyFaultName, type SimulationResult, simulate } from './simulate.ts';

/** A failure that is as small as it was made. */
export interface Shrunk {
  readonly seed: number;
  readonly isFleet: boolean;
  readonly requests: number;
  readonly faults: readonly AnyFaultName[];
  readonly result: SimulationResult;
  /** Simulations that it took. */
  readonly tries: number;
}

/**
 * Looks for fewer requests and fewer kinds of faults with which the same promise is broken under
 * the same seed. What is left out changes what comes after it, so that this is a search, and no
 * bisection: what still fails is kept.
 */
export async function shrink(
  failed: SimulationResult,
  triesMax = 40,
  told: (line: string) => void = () => undefined,
): Promise<Shrunk> {
  const { seed, isFleet } = failed;
  const wanted = failed.violations[0]!.invariant;
  let best = failed;
  let tries = 0;
  const isSame = async (requests: number, faults: readonly AnyFaultName[]): Promise<boolean> => {
    if (tries >= triesMax) return false;
    tries += 1;
    const result = await simulate({ seed, requests, faults, isFleet, keepsHistory: true });
    if (result.violations[0]?.invariant !== wanted) return false;
    best = result;
    told(`still with ${requests} requests and ${faults.join() || 'no faults'}`);
    return true;
  };
  let isSmaller = true;
  while (isSmaller && tries < triesMax) {
    isSmaller = false;
    for (const fault of [...best.faults]) {
      const rest = best.faults.filter((each) => each !== fault);
      if (await isSame(best.requests, rest)) isSmaller = true;
    }
    for (const part of [0.25, 0.5, 0.75, 0.9]) {
      const fewer = Math.floor(best.requests * part);
      if (fewer < 1 || !(await isSame(fewer, best.faults))) continue;
      isSmaller = true;
      break;
    }
  }
  const { requests, faults } = best;
  return { seed, isFleet, requests, faults, result: best, tries };
}

/** What runs one simulation again. */
export function replayCommand({
  seed,
  requests,
  faults,
  isFleet,
}: Pick<SimulationResult, 'seed' | 'requests' | 'faults' | 'isFleet'>): string {
  const kinds = faults.length === 0 ? 'none' : faults.join();
  const what = `--seed ${seed} --requests ${requests} --faults ${kinds}`;
  return `npm run simulate -- ${what}${isFleet ? ' --fleet' : ''}`;
}
