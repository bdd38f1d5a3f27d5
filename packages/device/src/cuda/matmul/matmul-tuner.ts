import { type Clock, invariant } from '@bridgekeeper/bridge';
import type { Driver } from '@bridgekeeper/native';
import { DeviceError } from '../../errors.ts';
import {
  type Matmul,
  type MatmulAlgorithm,
  type MatmulLaunch,
  type MatmulShape,
  matmulKey,
} from './matmul.ts';
import type { MatmulChoices } from './matmul-choices.ts';

/** Algorithms asked for; cuBLASLt 13.1 never proposes more than 8. */
const PROPOSALS = 16;
/**
 * What is proposed for counts near by is tried too: on an H100 it was up to 10 % faster than all
 * that was proposed for the count itself.
 */
const NEIGHBOURS = [1 / 4, 1 / 2, 3 / 4, 3 / 2, 2, 3, 4];
/** A batch lasts about this long: long beside the time that it takes to start and to notice. */
const BATCH_NS = 500_000;
/** Launches of the batch that tells how many make one of that length. */
const PROBE_LAUNCHES = 4;
const MIN_LAUNCHES = 2;
const MAX_LAUNCHES = 64;
/**
 * Batches timed of each candidate, and how many beside the heuristic's first go on to the next
 * heat. Each heat counts for itself: who got so far by luck needs it again.
 */
const HEATS = [
  { rounds: 3, survivors: 16 },
  { rounds: 5, survivors: 4 },
  { rounds: 9, survivors: 1 },
];
/** What another must take at most of the first one's time, so that noise does not decide. */
const CLEARLY_BETTER = 0.99;

/** The stream on which candidates are timed. */
export interface TuningStream {
  readonly handle: bigint;
  /** Records what `record` launches on the stream, without running it, as a CUgraphExec. */
  capture(record: () => void): { readonly handle: bigint };
}

export interface MatmulTunerParts {
  readonly driver: Driver;
  readonly matmul: Matmul;
  readonly clock: Clock;
  readonly store: Pick<MatmulChoices, 'add'>;
}

/** A candidate, and a batch of launches of it as a CUgraphExec. */
interface Contestant {
  readonly algorithm: MatmulAlgorithm;
  readonly graph: bigint;
  /** What the batch took in the latest heat. */
  medianNs: number;
}

/**
 * Chooses among the algorithms that cuBLASLt proposes for a product by timing them, once for each
 * machine and shape. Only the host's clock is used: under confidential computing events carry no
 * times. Batches are replayed graphs, so that launching is no part of their time, and go through
 * the weights of all layers, so that these come from memory as they will.
 *
 * It takes some 0.2 s a shape and gains a few percent: nobody waits for it. Whoever has an idle
 * stream takes one slice after another, of about a batch each.
 */
export class MatmulTuner {
  readonly #driver: Driver;
  readonly #matmul: Matmul;
  readonly #clock: Clock;
  readonly #store: MatmulTunerParts['store'];

  constructor({ driver, matmul, clock, store }: MatmulTunerParts) {
    this.#driver = driver;
    this.#matmul = matmul;
    this.#clock = clock;
    this.#store = store;
  }

  /**
   * Times the candidates of every product that `record` launches on `stream` and whose algorithm is
   * a guess, and keeps the fastest. Overwrites the products' outputs. Returns whether a product has
   * another algorithm now; until then all have the one they had. Throws DeviceError as launching
   * does.
   */
  *refine(stream: TuningStream, record: () => void): Generator<undefined, boolean> {
    const launches = this.#matmul.observe(() => {
      this.#driver.release('cuGraphExecDestroy', stream.capture(record).handle);
    });
    let hasChanged = false;
    for (const [key, alike] of groupByShape(launches)) {
      const { shape } = alike[0];
      if (!this.#matmul.isGuess(shape)) continue;
      yield;
      const [first, ...others] = this.#candidates(shape);
      invariant(first !== undefined, 'what was launched has an algorithm');
      const best =
        others.length === 0 ? null : yield* this.#race([first, ...others], alike, stream);
      const algorithm = best ?? first;
      this.#matmul.choose(shape, algorithm);
      this.#store.add(new Map([[key, algorithm]]));
      hasChanged ||= algorithm !== first;
    }
    return hasChanged;
  }

  /** The heuristic's first comes first. */
  #candidates(shape: MatmulShape): MatmulAlgorithm[] {
    const matmul = this.#matmul;
    const counts = NEIGHBOURS.map((factor) => Math.ceil(factor * shape.count));
    const borrowed = counts
      .flatMap((count) => matmul.candidates({ ...shape, count }, PROPOSALS))
      .filter((algorithm) => matmul.accepts(shape, algorithm));
    const all = [...matmul.candidates(shape, PROPOSALS), ...borrowed];
    const distinct = new Map(all.map((algorithm) => [algorithm.toString('hex'), algorithm]));
    return [...distinct.values()];
  }

  *#race(
    candidates: readonly [MatmulAlgorithm, ...MatmulAlgorithm[]],
    alike: Alike,
    stream: TuningStream,
  ): Generator<undefined, MatmulAlgorithm | null> {
    const launches = this.#launchesOfBatch(candidates[0], alike, stream);
    const contestants: Contestant[] = [];
    try {
      for (const algorithm of candidates) {
        yield;
        const graph = this.#tryToRecord(algorithm, launches, alike, stream);
        if (graph !== null) contestants.push({ algorithm, graph, medianNs: 0 });
      }
      return yield* this.#fastest(contestants, stream);
    } finally {
      for (const { graph } of contestants) this.#driver.release('cuGraphExecDestroy', graph);
    }
  }

  *#fastest(
    contestants: readonly Contestant[],
    stream: TuningStream,
  ): Generator<undefined, MatmulAlgorithm | null> {
    let [first, ...others] = contestants;
    if (first === undefined) return null;
    for (const { rounds, survivors } of HEATS) {
      yield* this.#heat([first, ...others], rounds, stream);
      others = others.sort((a, b) => a.medianNs - b.medianNs).slice(0, survivors);
    }
    const [best = first] = others;
    return (best.medianNs < CLEARLY_BETTER * first.medianNs ? best : first).algorithm;
  }

  /** Times all in turn, so that what disturbs for a while disturbs all alike. */
  *#heat(contestants: readonly Contestant[], rounds: number, stream: TuningStream) {
    const timesNs = contestants.map((): number[] => []);
    for (let round = 0; round < rounds; round++) {
      for (const [index, { graph }] of contestants.entries()) {
        yield;
        // Requests may have run since the last slice: what runs for the first time is slow.
        if (round === 0) this.#timeNs(graph, stream);
        timesNs[index]!.push(this.#timeNs(graph, stream));
      }
    }
    contestants.forEach((contestant, index) => {
      contestant.medianNs = medianOf(timesNs[index]!);
    });
  }

  #launchesOfBatch(algorithm: MatmulAlgorithm, alike: Alike, stream: TuningStream): number {
    const graph = this.#record(algorithm, PROBE_LAUNCHES, alike, stream);
    try {
      this.#timeNs(graph, stream);
      const launchNs = this.#timeNs(graph, stream) / PROBE_LAUNCHES;
      const launches = Math.ceil(BATCH_NS / Math.max(launchNs, 1));
      return Math.min(Math.max(launches, MIN_LAUNCHES), MAX_LAUNCHES);
    } finally {
      this.#driver.release('cuGraphExecDestroy', graph);
    }
  }

  /** Null where the library takes back what its heuristic proposed. */
  #tryToRecord(
    algorithm: MatmulAlgorithm,
    launches: number,
    alike: Alike,
    stream: TuningStream,
  ): bigint | null {
    try {
      return this.#record(algorithm, launches, alike, stream);
    } catch (error) {
      const isRefusal = error instanceof DeviceError && error.code === 'unsupported';
      if (!isRefusal) throw error;
      return null;
    }
  }

  #record(
    algorithm: MatmulAlgorithm,
    launches: number,
    alike: Alike,
    stream: TuningStream,
  ): bigint {
    const recorded = stream.capture(() => {
      for (let launch = 0; launch < launches; launch++) {
        const { shape, operands } = alike[launch % alike.length]!;
        this.#matmul.launch(shape, operands, algorithm);
      }
    });
    return recorded.handle;
  }

  #timeNs(graph: bigint, stream: TuningStream): number {
    this.#driver.call('cuStreamSynchronize', stream.handle);
    const startedNs = this.#clock.nowNs();
    this.#driver.call('cuGraphLaunch', graph, stream.handle);
    this.#driver.call('cuStreamSynchronize', stream.handle);
    return this.#clock.nowNs() - startedNs;
  }
}

function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

/** Launches of one shape. */
type Alike = readonly [MatmulLaunch, ...MatmulLaunch[]];

function groupByShape(launches: readonly MatmulLaunch[]): Map<string, Alike> {
  const groups = new Map<string, [MatmulLaunch, ...MatmulLaunch[]]>();
  for (const launch of launches) {
    const key = matmulKey(launch.shape);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [launch]);
    else group.push(launch);
  }
  return groups;
}
