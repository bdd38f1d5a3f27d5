import type { Prediction } from '../simulate/prediction.ts';
import type { Scenario, Slo } from '../simulate/scenario.ts';
import { atRate } from './variation.ts';

/** The most that one replica takes within an SLO. */
export interface Capacity {
  readonly engine: Scenario['engine'];
  /** A profile's name, or `off`. */
  readonly law: string;
  /** 0: not even the least rate that was tried. */
  readonly requestsPerSecond: number;
  /** The least rate that was seen to break it; null: it takes all that a full replica does. */
  readonly breaksAt: number | null;
  /** Which limit broke first there. */
  readonly limitedBy: 'ttft' | 'itl' | 'e2e' | 'never drains' | null;
}

export type Run = (scenarios: readonly Scenario[]) => Promise<readonly Prediction[]>;

/** Of requests that may break the SLO. */
const SLO_MISSES_MAX = 0.01;
/** Rates of the first look, as parts of what the GPU does when it is full. */
const FIRST_PARTS = [0.25, 0.5, 0.75, 1] as const;
/** Between the rate that held and the one that broke, in each further look. */
const FURTHER_PARTS = [1 / 3, 2 / 3] as const;
const FURTHER_LOOKS = 1;

/**
 * The rate at which each scenario breaks its SLO, found by trying rates: first over the whole range
 * up to what a full GPU does (`fullRequestsPerSecond`, in the order of the scenarios), then between
 * the last that held and the first that broke.
 */
export async function capacitiesOf(
  scenarios: readonly (Scenario & { readonly slo: Slo })[],
  fullRequestsPerSecond: readonly number[],
  run: Run,
): Promise<readonly Capacity[]> {
  const searches = scenarios.map((scenario, index) => {
    return new Search(
      scenario,
      FIRST_PARTS.map((part) => part * fullRequestsPerSecond[index]!),
    );
  });
  for (let look = 0; look <= FURTHER_LOOKS; look++) {
    const asked = searches.map((search) => search.next());
    const results = await run(asked.flat());
    let at = 0;
    searches.forEach((search, index) => {
      const count = asked[index]!.length;
      search.learn(results.slice(at, at + count));
      at += count;
    });
  }
  return searches.map((search) => search.capacity());
}

/** Looks for one scenario's rate. */
class Search {
  readonly #scenario: Scenario;
  #rates: readonly number[];
  #held = 0;
  #broke: { readonly rate: number; readonly by: NonNullable<Capacity['limitedBy']> } | null = null;

  constructor(scenario: Scenario, rates: readonly number[]) {
    this.#scenario = scenario;
    this.#rates = rates.filter((rate) => rate > 0);
  }

  next(): readonly Scenario[] {
    const { workload, seed } = this.#scenario;
    return this.#rates.map((rate) => {
      return { ...this.#scenario, window: null, workload: atRate(workload, rate, seed) };
    });
  }

  learn(results: readonly Prediction[]): void {
    // A rate above one that broke tells nothing: what broke stays broken.
    for (const [index, result] of results.entries()) {
      const rate = this.#rates[index]!;
      const by = brokenBy(result);
      if (by === null) {
        if (this.#broke === null || rate < this.#broke.rate)
          this.#held = Math.max(this.#held, rate);
      } else if (this.#broke === null || rate < this.#broke.rate) {
        this.#broke = { rate, by };
        if (this.#held >= rate) this.#held = 0;
      }
    }
    const [low, high] = [this.#held, this.#broke?.rate ?? null];
    this.#rates = high === null ? [] : FURTHER_PARTS.map((part) => low + part * (high - low));
  }

  capacity(): Capacity {
    const { engine, law } = this.#scenario;
    return {
      engine,
      law: law?.name ?? 'off',
      requestsPerSecond: this.#held,
      breaksAt: this.#broke?.rate ?? null,
      limitedBy: this.#broke?.by ?? null,
    };
  }
}

/** The limit that too many requests broke, the one that most did; null: it held. */
function brokenBy({ slo, neverDrains }: Prediction): Capacity['limitedBy'] {
  if (neverDrains !== null) return 'never drains';
  if (slo === null || slo.any <= SLO_MISSES_MAX) return null;
  const limits = ['ttft', 'itl', 'e2e'] as const;
  return limits.reduce((worst, limit) => (slo[limit] > slo[worst] ? limit : worst));
}
